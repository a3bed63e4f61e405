"""`export_model`: weights in, a gated artifact out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from ramedge import __version__
from ramedge.errors import GateError, OutputError, UsageError
from ramedge.export.artifact import MANIFEST_NAME, Artifact, Manifest, load_artifact, write_manifest
from ramedge.export.onnx import export_onnx
from ramedge.export.openvino import convert_to_openvino
from ramedge.files import file_digest, partial_path
from ramedge.gate import GateReport, Network, check
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.runtimes.onnxruntime import OnnxRuntimeSession
from ramedge.runtimes.openvino import OpenVinoRuntime
from ramedge.runtimes.torch import TorchRuntime
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
                model, report = _build(network, settings, precision, building)
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
            model=model.name,
            files={file.name: file_digest(file) for file in sorted(building.iterdir())},
            weights=loaded.digest,
            tools=_tool_versions(),
            gate=report.as_dict(),
            refused=refused,
        )
        write_manifest(building, manifest)
        _move(building, settings.output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_artifact(settings.output)


def _build(
    network: SRRAM, settings: ExportSettings, precision: Precision, folder: Path
) -> tuple[Path, GateReport]:
    reference = TorchRuntime(network, "fp32", "cpu").infer_float
    onnx_file = folder / "model.onnx"
    export_onnx(network, onnx_file, precision)
    candidate: Network = OnnxRuntimeSession(onnx_file).infer_float
    report = check(candidate, reference, precision, "onnxruntime")
    if settings.runtime == "onnx":
        return onnx_file, report
    xml = folder / "model.xml"
    convert_to_openvino(onnx_file, xml)
    onnx_file.unlink()
    with OpenVinoRuntime(xml, settings.scale, precision) as runtime:
        report = check(runtime.infer_float, reference, precision, f"openvino ({runtime.precision})")
    return xml, report


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
