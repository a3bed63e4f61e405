"""An artifact: a folder with a model, and a manifest that says what it is. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ramedge.errors import UsageError, WeightsError
from ramedge.files import file_digest, write_text

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds.

    Attributes:
        network: name, for example `srram_r10c64`.
        scale: 2, 3 or 4.
        precision: `fp32`, `fp16` or `int8`.
        runtime: `onnx` or `openvino`.
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
        half: file name of an INT8 `model` with FP16 instead of FP32 around it, for GPUs; empty for
            other precisions and runtimes.
        int8: how it was calibrated: the pictures' hashes, the search, what stayed high.
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
    half: str = ""
    format: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact on disk whose files are what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The model's main file: `.onnx` or `.xml`."""
        return self.folder / self.manifest.model

    @property
    def gpu_model(self) -> Path:
        """What GPU engines are built from: FP16 around INT8 where there is that."""
        return self.folder / (self.manifest.half or self.manifest.model)

    @property
    def has_tiles(self) -> bool:
        """Whether tiles can share the frame's attention."""
        return bool(self.manifest.tile)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of an artifact.

    Raises:
        OutputError: the file cannot be written.
    """
    document = asdict(manifest)
    write_text(folder / MANIFEST_NAME, json.dumps(document, indent=2, sort_keys=True) + "\n")


def load_artifact(folder: Path) -> Artifact:
    """Read an artifact and check every file against its hash.

    Raises:
        UsageError: the folder is not an artifact, or from a newer version.
        WeightsError: a file is missing or differs from what was exported.
    """
    path = folder / MANIFEST_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT_VERSION:
            raise UsageError(f"{path} has format {document['format']}: upgrade ramedge to use it.")
        manifest = Manifest(**document)
        files = dict(manifest.files)
    except OSError:
        raise UsageError(
            f"{folder} is not an exported model: it has no {MANIFEST_NAME}. "
            "Make one with: ramedge export -o DIR"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is damaged: export the model again.") from None
    for name, digest in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file() or file_digest(file) != digest:
            raise WeightsError(
                f"{file} is missing or not what was exported: export the model again."
            )
    named = {manifest.model, manifest.tile, manifest.excitation, manifest.half} - {""}
    if not named <= files.keys() or bool(manifest.tile) != bool(manifest.excitation):
        raise UsageError(f"{path} is damaged: export the model again.")
    return Artifact(folder=folder, manifest=manifest)
