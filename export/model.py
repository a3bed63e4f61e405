"""`export_model`: weights in, a gated artifact out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ramedge import __version__
from ramedge.errors import GateError, OutputError, UsageError
from ramedge.export.artifact import MANIFEST_NAME, Artifact, Manifest, load_artifact, write_manifest
from ramedge.export.int8 import Int8Recipe, Int8Settings, prepare_int8
from ramedge.export.onnx import export_onnx
from ramedge.export.openvino import convert_to_openvino
from ramedge.files import file_digest, partial_path
from ramedge.gate import GateReport, Images, check, frame_through_tile, gate_photos
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import excitation_of
from ramedge.network.weights import load_weights
from ramedge.runtimes.base import GraphKind
from ramedge.runtimes.onnxruntime import OnnxRuntimeSession
from ramedge.runtimes.openvino import OpenVinoRuntime, TileModel
from ramedge.runtimes.torch import TorchRuntime
from ramedge.statistics import save_excitation
from ramedge.weights import shipped_weights
from ramedge.worth import Picture, Pixels8, check_speed, check_truth

Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["onnx", "openvino"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino")
_HALF_NAME = "half.onnx"
_FALLBACK: dict[Precision, Precision] = {"int8": "fp16", "fp16": "fp32"}


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to export.

    Attributes:
        output: folder of the artifact; `None` names it after what it holds, in the working folder.
        weights: safetensors file; the shipped weights where `None`.
        strict: fail where the gate refuses the precision, instead of taking the next.
        overwrite: replace an artifact that stands in `output`.
        int8: how to calibrate, which the precision `int8` needs.

    Raises:
        UsageError: INT8 without pictures to calibrate on.
    """

    output: Path | None = None
    scale: int = 2
    precision: Precision = "fp32"
    runtime: Target = "openvino"
    weights: Path | None = None
    strict: bool = False
    overwrite: bool = False
    int8: Int8Settings | None = None

    def __post_init__(self) -> None:
        if self.precision == "int8" and self.int8 is None:
            raise UsageError("INT8 needs pictures to calibrate on: --calibration DIR.")

    def folder(self, precision: Precision) -> Path:
        """Where the artifact goes once it has this precision."""
        if self.output is not None:
            return self.output
        return Path(f"srram_x{self.scale}_{precision}_{self.runtime}")


def export_model(
    settings: ExportSettings,
    on_notice: Callable[[str], None] = lambda _: None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Artifact:
    """Export weights to an artifact that agrees with PyTorch, or to none.

    The folder appears complete or not at all. `on_step` is told how far the calibration is.

    Raises:
        WeightsError: the weights cannot be loaded.
        InputError: the calibration pictures cannot be used.
        UsageError: they have no such scale, or the folder is in use.
        GateError: the gate refused what was exported (with `strict`, or FP32 itself).
        ExportError: a conversion failed.
        OutputError: the folder cannot be written.
    """
    path = settings.weights if settings.weights is not None else shipped_weights(settings.scale)
    loaded = load_weights(path)
    if settings.scale not in loaded.config.scales:
        have = ", ".join(f"×{scale}" for scale in loaded.config.scales)
        raise UsageError(f"{path} has weights for {have}, not for ×{settings.scale}: use --scale.")
    precision = settings.precision
    output = settings.folder(precision)
    _check_output(output, settings.overwrite)
    network = loaded.network.take(settings.scale)
    building = partial_path(output)
    refused: dict[str, str] = {}
    try:
        while True:
            _make_empty(building)
            try:
                built = _build(network, settings, precision, building, on_step)
                break
            except GateError as failure:
                if settings.strict or precision not in _FALLBACK:
                    raise
                refused[precision] = str(failure)
                following = _FALLBACK[precision]
                on_notice(f"The gate refused {precision}: {failure} Exporting {following}.")
                precision, output = following, settings.folder(following)
                _check_output(output, settings.overwrite)
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
            gate=built.report.as_dict() | built.more,
            refused=refused,
            tile=built.tile,
            excitation=built.excitation,
            int8=built.int8,
            half=built.half,
        )
        write_manifest(building, manifest)
        _move(building, output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_artifact(output)


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
    more: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)
    half: str = ""


def _build(
    network: SRRAM,
    settings: ExportSettings,
    precision: Precision,
    folder: Path,
    on_step: Callable[[int, int], None],
) -> _Built:
    gate = _Gate(network, precision)
    recipe = None
    if precision == "int8" and settings.int8 is not None:
        recipe = prepare_int8(network, settings.int8, on_step)
    has_tiles = network.config.attention == "ram"
    frame, tile = folder / "model.onnx", folder / "tile.onnx"
    excitation = folder / "attention.safetensors"
    _export(network, frame, "frame", precision, recipe)
    if has_tiles:
        _export(network, tile, "tile", precision, recipe)
        save_excitation(excitation_of(network), excitation)
    report = gate.check_frame(OnnxRuntimeSession(frame), "onnxruntime")
    tiled = gate.check_tile(OnnxRuntimeSession(tile), "onnxruntime") if has_tiles else None
    more: dict[str, Any] = {}
    half = ""
    if recipe is not None and settings.int8 is not None:
        more = _check_worth(network, frame, recipe, settings.int8)
        if settings.runtime == "onnx":
            half = _HALF_NAME
            _export(network, folder / half, "frame", "fp16", recipe)
            found = gate.check_frame(OnnxRuntimeSession(folder / half), "onnxruntime")
            more["half"] = found.as_dict()
    if settings.runtime == "openvino":
        frame, tile = _convert(frame), _convert(tile) if has_tiles else tile
        tiles = TileModel(tile, excitation) if has_tiles else None
        with OpenVinoRuntime(frame, settings.scale, precision, tiles=tiles) as runtime:
            name = f"openvino ({runtime.precision})"
            report = gate.check_frame(runtime, name)
            tiled = gate.check_tile(runtime, name) if has_tiles else None
    record = {} if recipe is None else recipe.record
    if tiled is None:
        return _Built(frame.name, report, more=more, int8=record, half=half)
    more["tile"] = tiled.as_dict()
    return _Built(frame.name, report, tile.name, excitation.name, more, record, half)


def _export(
    network: SRRAM, path: Path, kind: GraphKind, precision: Precision, recipe: Int8Recipe | None
) -> None:
    if recipe is None:
        export_onnx(network, path, precision, kind)
        return
    plain = path.with_name(f"plain_{path.name}")
    export_onnx(network, plain, "fp16" if precision == "fp16" else "fp32", kind)
    recipe.plan.apply(plain, path)
    plain.unlink()


def _convert(onnx_file: Path) -> Path:
    xml = onnx_file.with_suffix(".xml")
    convert_to_openvino(onnx_file, xml)
    onnx_file.unlink()
    return xml


def _check_worth(
    network: SRRAM, model: Path, recipe: Int8Recipe, settings: Int8Settings
) -> dict[str, Any]:
    """What INT8 loses against the truth and gains in time, in OpenVINO: it runs every ONNX file."""
    scale = network.config.scales[0]
    photos = gate_photos()
    shipped = [Picture.of(name, _pixels(image), scale) for name, image in photos.items()]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        export_onnx(network, plain)
        with (
            OpenVinoRuntime(model, scale, "int8") as candidate,
            OpenVinoRuntime(plain, scale, "auto") as baseline,
        ):
            truth = check_truth(
                candidate.infer_float,
                TorchRuntime(network, "fp32", "cpu").infer_float,
                [*shipped, *recipe.checks],
                scale,
                settings.budget,
            )
            name = f"openvino ({baseline.precision})"
            image = next(iter(photos.values()))
            speed = check_speed(candidate.infer_float, baseline.infer_float, image, name)
    return {"truth": truth, "speed": speed}


def _pixels(image: Images) -> Pixels8:
    levels: Pixels8 = np.rint(image[0].transpose(1, 2, 0) * 255.0).astype(np.uint8)
    return levels


class _Gate:
    """The gate for both graph kinds of one network."""

    def __init__(self, network: SRRAM, precision: Precision) -> None:
        self._precision = precision
        self._network = network
        self._reference = TorchRuntime(network, "fp32", "cpu").infer_float

    def check_frame(self, candidate: FrameRunner, name: str) -> GateReport:
        return check(candidate.infer_float, self._reference, self._precision, name)

    def check_tile(self, candidate: TileRunner, name: str) -> GateReport:
        excitation = excitation_of(self._network)

        def run(images: Images) -> Images:
            return frame_through_tile(candidate.infer_tile_float, excitation, images)

        return check(run, self._reference, self._precision, name)


def _check_output(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose a folder with -o.")
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST_NAME).is_file():
        raise UsageError(f"{folder} holds other files: choose another folder with -o.")
    if not overwrite:
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
