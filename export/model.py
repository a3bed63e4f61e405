"""`export_model`: weights in, a gated artifact out."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from ramedge import __version__
from ramedge.artifacts.artifact import (
    MANIFEST_NAME,
    STORE_NAME,
    Artifact,
    Manifest,
    load_artifact,
    write_manifest,
)
from ramedge.artifacts.graphs import FRAME, TILE, cut, graph_names
from ramedge.artifacts.half import to_half
from ramedge.artifacts.model_files import ModelFiles, Precision
from ramedge.artifacts.storage import save_graphs
from ramedge.calibration.quantize import QuantizationPlan
from ramedge.errors import GateError, OutputError, UsageError
from ramedge.export.int8 import Int8Settings, prepare_int8
from ramedge.export.openvino import convert_to_openvino
from ramedge.export.sources import NetworkSource, QuantizedGraphs, open_source, shipped_int8
from ramedge.files import check_writable, file_digest, partial_path
from ramedge.network.channel_statistics import save_excitation
from ramedge.network.config import SUPPORTED_SCALES
from ramedge.quality.gate import GateReport, Images, check, frame_through_tile, gate_photos
from ramedge.quality.int8_budget import Budget, CheckImage, Pixels8, check_speed, check_truth
from ramedge.runtimes.onnxruntime.session import open_onnxruntime
from ramedge.runtimes.openvino.session import open_onnx, open_openvino
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.variant import VARIANTS

Target = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "openvino")
_FALLBACK: dict[Precision, Precision] = {"int8": "fp16", "fp16": "fp32"}
_FRAME, _TILE, _EXCITATION = "model", "tile", "attention.safetensors"


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to export.

    Attributes:
        output: folder of the artifact; `None` names it after what it holds, in the working folder.
        weights: safetensors file; the shipped model where `None`, which needs no PyTorch.
        strict: fail where the gate refuses the precision, instead of taking the next.
        overwrite: replace an artifact that stands in `output`.
        int8: how to calibrate, which the precision `int8` needs, except of the shipped model, and
            what INT8 may lose.

    Raises:
        UsageError: an unknown scale; INT8 of own weights without pictures to calibrate on.
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
        if self.scale not in SUPPORTED_SCALES:
            raise UsageError(f"Scale {self.scale} is not supported: choose among 2, 3 and 4.")
        calibrates = self.int8 is not None and self.int8.calibration is not None
        if self.precision == "int8" and not calibrates and self.weights is not None:
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
    """Export a network to an artifact that agrees with its reference, or to none.

    The reference is PyTorch in FP32. Where PyTorch is not installed, the shipped model's is its
    FP32 graph, whose agreement with PyTorch its manifest records.

    The folder appears complete or not at all. `on_step` is told how far the calibration is.

    Raises:
        WeightsError: the weights cannot be loaded.
        InputError: the calibration pictures cannot be used.
        UsageError: they have no such scale, or the folder is in use.
        MissingExtraError: something is not installed that own weights or a calibration need.
        GateError: the gate refused what was exported (with `strict`, or FP32 itself).
        ExportError: a conversion failed.
        OutputError: the folder cannot be written.
    """
    precision = settings.precision
    output = settings.folder(precision)
    check_output(output, settings.overwrite)
    source = open_source(settings.weights, settings.scale)
    building = partial_path(output)
    refused: dict[str, str] = {}
    try:
        while True:
            _make_empty(building)
            try:
                built = _build(source, settings, precision, building, on_step)
                break
            except GateError as failure:
                if settings.strict or precision not in _FALLBACK:
                    raise
                refused[precision] = str(failure)
                following = _FALLBACK[precision]
                on_notice(f"The gate refused {precision}: {failure} Exporting {following}.")
                precision, output = following, settings.folder(following)
                check_output(output, settings.overwrite)
        manifest = Manifest(
            network=source.network,
            scale=settings.scale,
            precision=precision,
            runtime=settings.runtime,
            graph="frame",
            receptive_field=source.receptive_field,
            model=built.model,
            files={file.name: file_digest(file) for file in sorted(building.iterdir())},
            weights=source.weights,
            tools=_tool_versions(),
            gate=built.gate,
            refused=refused,
            tile=built.tile,
            excitation=built.excitation,
            int8=built.int8,
            cut=built.cut,
        )
        write_manifest(building / MANIFEST_NAME, manifest)
        _move(building, output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_artifact(output)


@dataclass(frozen=True, slots=True)
class _Built:
    """File names of what was built, and what the gate measured."""

    model: str
    tile: str
    excitation: str
    gate: dict[str, Any]
    int8: dict[str, Any] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)


def _build(
    source: NetworkSource,
    settings: ExportSettings,
    precision: Precision,
    folder: Path,
    on_step: Callable[[int, int], None],
) -> _Built:
    quantized = None
    frame, tile = source.frame, source.tile
    if precision == "int8":
        quantized = _quantize(source, settings, on_step)
        frame, tile = quantized.frame, quantized.tile
    if precision == "fp16" or (precision == "int8" and settings.runtime in VARIANTS):
        frame, tile = to_half(frame), None if tile is None else to_half(tile)
    excitation = ""
    if source.excitation is not None:
        excitation = _EXCITATION
        save_excitation(source.excitation, folder / excitation)
    graphs = {f"{_FRAME}.onnx": frame} | ({} if tile is None else {f"{_TILE}.onnx": tile})
    files = ModelFiles(
        scale=settings.scale,
        frame=folder / f"{_FRAME}.onnx",
        precision=precision,
        tile=None if tile is None else folder / f"{_TILE}.onnx",
        excitation=folder / excitation if excitation else None,
    )
    gate = _Gate(source, precision)
    if settings.runtime == "openvino":
        files = _write_ir(frame, tile, files)
        found = gate.check_openvino(files, settings.runtime)
    else:
        save_graphs(graphs, folder, STORE_NAME)
        if importlib.util.find_spec("onnxruntime") is not None:
            found = gate.check_onnx(files)
        else:
            found = gate.check_openvino(files, settings.runtime)
    if quantized is not None:
        found |= quantized.gate
    int8 = {} if quantized is None else dict(quantized.record)
    tile_name = "" if files.tile is None else files.tile.name
    cut_names = {name: path.name for name, path in files.cut.items()}
    return _Built(files.frame.name, tile_name, excitation, found, int8, cut_names)


def _write_ir(
    frame: onnx.ModelProto, tile: onnx.ModelProto | None, files: ModelFiles
) -> ModelFiles:
    """Write OpenVINO's IR of every graph, those that are cut from the tile graph too."""
    names = {FRAME: _FRAME, TILE: _TILE}
    graphs = {
        name: cut(frame if name == FRAME or tile is None else tile, name)
        for name in graph_names(tile)
    }
    folder = files.frame.parent
    irs = {name: folder / f"{names.get(name, name)}.xml" for name in graphs}
    convert_to_openvino({irs[name].name: graph for name, graph in graphs.items()}, folder)
    own = {name: path for name, path in irs.items() if name not in names}
    return replace(files, frame=irs[FRAME], tile=irs.get(TILE), cut=own)


def _quantize(
    source: NetworkSource, settings: ExportSettings, on_step: Callable[[int, int], None]
) -> QuantizedGraphs:
    """The shipped INT8 graphs, or own ones; either has to be worth it here."""
    int8 = Int8Settings() if settings.int8 is None else settings.int8
    if int8.calibration is None:
        found = shipped_int8(settings.scale, int8.budget)
        return replace(found, gate={**found.gate, "speed": _check_speed(source, found.frame)})
    recipe = prepare_int8(source.frame, source.scale, int8.calibration, int8.budget, on_step)
    frame = _with_plan(recipe.plan, source.frame)
    tile = None if source.tile is None else _with_plan(recipe.plan, source.tile)
    gate = {
        "truth": _check_truth(source, frame, recipe.checks, int8.budget),
        "speed": _check_speed(source, frame),
    }
    return QuantizedGraphs(frame, tile, recipe.record, gate)


def _with_plan(plan: QuantizationPlan, graph: onnx.ModelProto) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        plain, quantized = Path(folder) / "plain.onnx", Path(folder) / "quantized.onnx"
        onnx.save(graph, plain)
        plan.apply(plain, quantized)
        return onnx.load(quantized)


def _check_truth(
    source: NetworkSource, model: onnx.ModelProto, checks: tuple[CheckImage, ...], budget: Budget
) -> dict[str, Any]:
    """What INT8 loses against the truth, in OpenVINO: it runs every ONNX file."""
    scale = source.scale
    photos = gate_photos().items()
    pictures = [CheckImage.of(name, _pixels(image), scale) for name, image in photos]
    with _opened(model, scale, "int8") as candidate:
        return check_truth(
            candidate.infer_float, source.reference, [*pictures, *checks], scale, budget
        )


def _check_speed(source: NetworkSource, model: onnx.ModelProto) -> dict[str, Any]:
    """What INT8 gains in time here, in OpenVINO."""
    with (
        _opened(model, source.scale, "int8") as candidate,
        _opened(source.frame, source.scale, "auto") as baseline,
    ):
        name = f"openvino ({baseline.precision})"
        image = next(iter(gate_photos().values()))
        return check_speed(candidate.infer_float, baseline.infer_float, image, name)


@contextmanager
def _opened(model: onnx.ModelProto, scale: int, precision: str) -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        with open_onnx(path, scale, precision) as runtime:
            yield runtime


def _pixels(image: Images) -> Pixels8:
    levels: Pixels8 = np.rint(image[0].transpose(1, 2, 0) * 255.0).astype(np.uint8)
    return levels


class _Gate:
    """The gate for both graph kinds of one network."""

    def __init__(self, source: NetworkSource, precision: Precision) -> None:
        self._source = source
        self._precision = precision

    def check_onnx(self, files: ModelFiles) -> dict[str, Any]:
        """By ONNX Runtime, which rounds to FP16 between nodes as a GPU would."""
        with open_onnxruntime(files, "cpu") as runtime:
            return self._check(runtime, "onnxruntime")

    def check_openvino(self, files: ModelFiles, target: Target) -> dict[str, Any]:
        """By OpenVINO: in what it will run in, or in FP32 where another runtime will run it."""
        wanted = "fp32" if target != "openvino" and self._precision == "fp16" else self._precision
        with open_openvino(files, wanted) as runtime:
            return self._check(runtime, f"openvino ({runtime.precision})")

    def _check(self, runtime: Runtime, name: str) -> dict[str, Any]:
        """What the gate measures, for the manifest."""
        found = self._compare(runtime.infer_float, name).as_dict()
        found["compared_with"] = self._source.compared_with
        if runtime.excitation is not None:
            run = partial(frame_through_tile, runtime.infer_tile_float, runtime.excitation)
            found["tile"] = self._compare(run, name).as_dict()
        return found

    def _compare(self, candidate: Callable[[Images], Images], name: str) -> GateReport:
        return check(candidate, self._source.reference, self._precision, name)


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse, before any work, a folder that an artifact cannot be written to.

    Raises:
        UsageError: it holds something else, or a model that is not to be replaced.
        OutputError: it cannot be made.
    """
    check_writable(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose a folder with -o.")
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST_NAME).is_file():
        raise UsageError(f"{folder} holds other files: choose another folder with -o.")
    if not overwrite:
        raise UsageError(
            f"{folder} holds a model already: replace it with -y, or choose another with -o."
        )


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"Cannot create a folder in {folder.parent}: {error.strerror}. Choose another with -o."
        ) from None


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
