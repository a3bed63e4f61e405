"""`export_model`: weights in, a gated artifact out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

from ramedge import __version__
from ramedge.errors import GateError, OutputError, UsageError
from ramedge.export.artifact import MANIFEST_NAME, Artifact, Manifest, load_artifact, write_manifest
from ramedge.export.onnx import export_onnx
from ramedge.export.openvino import convert_to_openvino
from ramedge.files import file_digest, partial_path
from ramedge.gate import GateReport, Images, check, frame_through_tile
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import excitation_of
from ramedge.network.weights import load_weights
from ramedge.runtimes.onnxruntime import OnnxRuntimeSession
from ramedge.runtimes.openvino import OpenVinoRuntime, TileModel
from ramedge.runtimes.torch import TorchRuntime
from ramedge.statistics import save_excitation
from ramedge.weights import shipped_weights

Precision = Literal["fp32", "fp16"]
Target = Literal["onnx", "openvino"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino")
_FALLBACK: dict[Precision, Precision] = {"fp16": "fp32"}


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to export.

    Attributes:
        output: folder of the artifact.
        weights: safetensors file; the shipped weights where `None`.
        strict: fail where the gate refuses the precision, instead of taking the next.
        overwrite: replace an artifact that stands in `output`.
    """

    output: Path
    scale: int = 2
    precision: Precision = "fp32"
    runtime: Target = "openvino"
    weights: Path | None = None
    strict: bool = False
    overwrite: bool = False


def export_model(
    settings: ExportSettings, on_notice: Callable[[str], None] = lambda _: None
) -> Artifact:
    """Export weights to an artifact that agrees with PyTorch, or to none.

    The folder appears complete or not at all.

    Raises:
        WeightsError: the weights cannot be loaded.
        UsageError: they have no such scale, or `output` is in use.
        GateError: the gate refused what was exported (with `strict`, or FP32 itself).
        ExportError: a conversion failed.
        OutputError: the folder cannot be written.
    """
    path = settings.weights if settings.weights is not None else shipped_weights(settings.scale)
    loaded = load_weights(path)
    if settings.scale not in loaded.config.scales:
        have = ", ".join(f"×{scale}" for scale in loaded.config.scales)
        raise UsageError(f"{path} has weights for {have}, not for ×{settings.scale}: use --scale.")
    _check_output(settings)
    network = loaded.network.take(settings.scale)
    building = partial_path(settings.output)
    refused: dict[str, str] = {}
    precision = settings.precision
    try:
        while True:
            _make_empty(building)
            try:
                built = _build(network, settings, precision, building)
                break
            except GateError as failure:
                if settings.strict or precision not in _FALLBACK:
                    raise
                refused[precision] = str(failure)
                precision = _FALLBACK[precision]
                on_notice(
                    f"The gate refused {settings.precision}: {failure} Exporting {precision}."
                )
        manifest = Manifest(
            network=loaded.config.name,
            scale=settings.scale,
            precision=precision,
            runtime=settings.runtime,
            graph="frame",
            receptive_field=loaded.config.receptive_field(settings.scale),
            model=built.model,
            files={file.name: file_digest(file) for file in sorted(building.iterdir())},
            weights=loaded.digest,
            tools=_tool_versions(),
            gate=built.report.as_dict() | built.tile_report,
            refused=refused,
            tile=built.tile,
            excitation=built.excitation,
        )
        write_manifest(building, manifest)
        _move(building, settings.output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_artifact(settings.output)


class FrameRunner(Protocol):
    """Runs the graph kind `frame`."""

    def infer_float(self, images: Images) -> Images: ...  # noqa: D102


class TileRunner(Protocol):
    """Runs the graph kind `tile`."""

    def infer_tile_float(  # noqa: D102
        self, images: Images, logits: Images, mask: Images
    ) -> tuple[Images, Images, Images]: ...


@dataclass(frozen=True, slots=True)
class _Built:
    """File names of what was built, and what the gate measured."""

    model: str
    report: GateReport
    tile: str = ""
    excitation: str = ""
    tile_report: dict[str, Any] = field(default_factory=dict)


def _build(network: SRRAM, settings: ExportSettings, precision: Precision, folder: Path) -> _Built:
    frame = folder / "model.onnx"
    export_onnx(network, frame, precision)
    has_tiles = network.config.attention == "ram"
    tile, excitation = folder / "tile.onnx", folder / "attention.safetensors"
    if has_tiles:
        export_onnx(network, tile, precision, "tile")
        save_excitation(excitation_of(network), excitation)
    gate = _Gate(network, precision)
    report = gate.check_frame(OnnxRuntimeSession(frame), "onnxruntime")
    tiled = gate.check_tile(OnnxRuntimeSession(tile), "onnxruntime") if has_tiles else None
    if settings.runtime == "openvino":
        frame, tile = _convert(frame), _convert(tile) if has_tiles else tile
        tiles = TileModel(tile, excitation) if has_tiles else None
        with OpenVinoRuntime(frame, settings.scale, precision, tiles=tiles) as runtime:
            name = f"openvino ({runtime.precision})"
            report = gate.check_frame(runtime, name)
            tiled = gate.check_tile(runtime, name) if has_tiles else None
    if tiled is None:
        return _Built(frame.name, report)
    return _Built(frame.name, report, tile.name, excitation.name, {"tile": tiled.as_dict()})


def _convert(onnx_file: Path) -> Path:
    xml = onnx_file.with_suffix(".xml")
    convert_to_openvino(onnx_file, xml)
    onnx_file.unlink()
    return xml


class _Gate:
    """The gate for both graph kinds of one network."""

    def __init__(self, network: SRRAM, precision: Precision) -> None:
        self._network = network
        self._precision = precision
        self._reference = TorchRuntime(network, "fp32", "cpu").infer_float

    def check_frame(self, candidate: FrameRunner, name: str) -> GateReport:
        return check(candidate.infer_float, self._reference, self._precision, name)

    def check_tile(self, candidate: TileRunner, name: str) -> GateReport:
        excitation = excitation_of(self._network)

        def run(images: Images) -> Images:
            return frame_through_tile(candidate.infer_tile_float, excitation, images)

        return check(run, self._reference, self._precision, name)


def _check_output(settings: ExportSettings) -> None:
    folder = settings.output
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose a folder with -o.")
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST_NAME).is_file():
        raise UsageError(f"{folder} holds other files: choose another folder with -o.")
    if not settings.overwrite:
        raise UsageError(f"{folder} holds a model already: replace it with -y or choose another.")


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"Cannot create {folder}: {error.strerror}.") from None


def _move(source: Path, target: Path) -> None:
    try:
        if target.exists():
            shutil.rmtree(target)
        source.rename(target)
    except OSError as error:
        raise OutputError(f"Cannot write {target}: {error.strerror}.") from None


def _tool_versions() -> dict[str, str]:
    versions = {"ramedge": __version__}
    for name in _TOOLS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
