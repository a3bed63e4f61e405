"""An artifact: a model in a folder, and a manifest that says what it is. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ramedge.errors import UsageError, WeightsError
from ramedge.files import file_digest, write_text

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 3
STORE_NAME = "weights.safetensors"
"""The weights of an artifact's ONNX graphs."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds.

    Attributes:
        network: name, for example `srram_r10c64`.
        scale: 2, 3 or 4.
        precision: `fp32`, `fp16` or `int8`.
        runtime: what it is for: `onnx`, `openvino`, `tensorrt` or `tensorrt-rtx`.
        graph: the kind of graph that `model` is: `frame`, which takes whole images.
        receptive_field: radius in low-resolution pixels, the halo a tile needs.
        model: file name of the model inside the folder.
        files: SHA-256 of every file by name.
        weights: SHA-256 of the weights it was made from.
        tools: versions of what made it.
        gate: what the gate measured (`GateReport`).
        refused: precisions the gate refused before this one, with the reason.
        tile: file name of the graph for tiles that share the frame's attention; empty where the
            network has none.
        excitation: file name of what turns the frame's variance into attention; likewise.
        int8: how it was calibrated: the pictures' hashes, the search, what stayed high.
        cut: file names of the graphs that are cut from the tile graph, by their name, where that is
            not ONNX (`ramedge.artifacts.graphs`).
    """

    network: str
    scale: int
    precision: str
    runtime: str
    graph: str
    receptive_field: int
    model: str
    files: Mapping[str, str]
    weights: str
    tools: Mapping[str, str]
    gate: Mapping[str, Any]
    refused: Mapping[str, str] = field(default_factory=dict)
    tile: str = ""
    excitation: str = ""
    int8: Mapping[str, Any] = field(default_factory=dict)
    cut: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk whose files are what its manifest says.

    Attributes:
        folder: where its files are.
        manifest: what it is.
        source: what names it: the folder, or a manifest among others in one folder.
    """

    folder: Path
    manifest: Manifest
    source: Path

    @property
    def model(self) -> Path:
        """The model's main file: `.onnx` or `.xml`."""
        return self.folder / self.manifest.model

    @property
    def tile(self) -> Path | None:
        """The graph for tiles that share the frame's attention, where there is one."""
        return self.folder / self.manifest.tile if self.manifest.tile else None

    @property
    def excitation(self) -> Path | None:
        """What turns the frame's variance into attention, where there is a graph for tiles."""
        return self.folder / self.manifest.excitation if self.manifest.excitation else None

    @property
    def is_onnx(self) -> bool:
        """Whether its graphs are ONNX, which engines are built from and OpenVINO reads."""
        return self.manifest.runtime != "openvino"


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of an artifact.

    Raises:
        OutputError: the file cannot be written.
    """
    document = asdict(manifest)
    document["digest"] = _digest(document)
    write_text(path, json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's own entries."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def is_artifact(path: Path) -> bool:
    """Whether a path can only mean an artifact: a folder, or a manifest."""
    return path.is_dir() or path.suffix == ".json"


def load_artifact(source: Path) -> Artifact:
    """Read an artifact and check every file against its hash.

    Args:
        source: its folder; or its manifest, where several share one folder.

    Raises:
        UsageError: there is no artifact, or one of another version.
        WeightsError: a file is missing or differs from what was exported; the message names it.
    """
    path = source if source.suffix == ".json" else source / MANIFEST_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = document["format"]
        if found != FORMAT_VERSION:
            remedy = "upgrade ramedge to use it" if found > FORMAT_VERSION else "export it again"
            raise UsageError(f"{path} has format {found}, not {FORMAT_VERSION}: {remedy}.")
        if document.pop("digest", "") != _digest(document):
            raise WeightsError(
                f"{path} is not what was exported: it was changed. Export the model again."
            )
        manifest = Manifest(**document)
        files = dict(manifest.files)
    except OSError:
        raise UsageError(
            f"{source} is not an exported model: it has no {MANIFEST_NAME}. "
            "Make one with: ramedge export -o DIR"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is damaged: export the model again.") from None
    for name, digest in files.items():
        _check_file(path.parent / name, name, digest)
    named = {manifest.model, manifest.tile, manifest.excitation, *manifest.cut.values()} - {""}
    if not named <= files.keys() or bool(manifest.tile) != bool(manifest.excitation):
        raise UsageError(f"{path} is damaged: export the model again.")
    return Artifact(folder=path.parent, manifest=manifest, source=source)


def _check_file(file: Path, name: str, digest: str) -> None:
    remedy = "Copy the whole folder, or export the model again."
    try:
        if Path(name).name != name or not file.is_file():
            raise WeightsError(f"{file}, a part of the model, is missing. {remedy}")
        if file_digest(file) != digest:
            raise WeightsError(f"{file} is not what was exported: it was cut or changed. {remedy}")
    except OSError as error:
        raise WeightsError(f"Cannot read {file}: {error.strerror}.") from None
