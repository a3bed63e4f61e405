"""What `ramedge export` does with its options."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from ramedge.artifacts.artifact import Artifact, is_artifact
from ramedge.artifacts.model_files import Precision
from ramedge.calibration.pictures import CalibrationSettings
from ramedge.cli import console
from ramedge.cli.engine_build import build_engine, check_engine_options
from ramedge.cli.engine_options import ShapeOptions
from ramedge.cli.options import check_text_output
from ramedge.errors import MissingExtraError, RuntimeUnavailableError, UsageError
from ramedge.export.int8 import Int8Settings
from ramedge.export.int8_report import picture_of, write_report
from ramedge.export.model import (
    ExportSettings,
    Target,
    check_output,
    export_model,
)
from ramedge.export.sources import check_installed
from ramedge.quality.int8_budget import Budget
from ramedge.runtimes.registry import BACKENDS, best
from ramedge.runtimes.tensorrt.variant import VariantName


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of the command line; see `ramedge.cli.export.export`."""

    output: Path | None
    scale: int
    precision: Precision
    runtime: Target | Literal["auto"]
    weights: Path | None
    strict: bool
    overwrite: bool
    calibration: tuple[Path, ...]
    frames: int | None
    max_loss: float | None
    report: Path | None
    shapes: ShapeOptions
    rebuild: bool


def run_export(options: ExportOptions) -> None:
    """Export, build an engine if the model is for TensorRT, and report the result.

    Raises:
        RamedgeError: see `export_model` and `build_engine`.
    """
    target, reason = _choose_target(options.runtime)
    weights = options.weights
    engine = _engine_of(target)
    if engine is not None:
        _check_engine(engine, options.shapes)
        if weights is not None and (is_artifact(weights) or weights.suffix.lower() == ".onnx"):
            _check_engine_alone(weights, options)
            build_engine(
                weights, engine, options.precision, options.shapes, options.scale, options.rebuild
            )
            return
    elif options.shapes.given or options.rebuild:
        raise UsageError(
            "Engine options (shapes, --opt-level, --workspace, --rebuild) are for --runtime "
            f"tensorrt and tensorrt-rtx; this export is for {target} ({reason})."
        )
    _check(options)
    settings = ExportSettings(
        output=options.output,
        scale=options.scale,
        precision=options.precision,
        runtime=target,
        weights=weights,
        strict=options.strict,
        overwrite=options.overwrite,
        int8=_int8(options) if options.precision == "int8" else None,
    )
    check_output(settings.folder(settings.precision), settings.overwrite)
    if options.runtime == "auto":
        title = BACKENDS["openvino" if engine is None else engine].title
        console.stderr.print(f"Exporting for {title}: {reason}.", markup=False)
    with console.progress_bar() as bar:
        task = bar.add_task("Exporting and checking", total=None, info="")
        artifact = export_model(
            settings,
            console.notice,
            lambda done, total: bar.update(
                task, description="Calibrating", completed=done, total=total
            ),
        )
    _tell(artifact)
    if options.report is not None and not artifact.manifest.int8:
        console.notice(
            f"No report was written, because {artifact.manifest.precision} was exported."
        )
    elif options.report is not None:
        write_report(artifact.manifest, options.report)
        console.stdout.print(f"Report: {options.report}", markup=False)
    console.stdout.print(f"Model: {artifact.folder}", markup=False)
    name = shlex.quote(str(artifact.folder))
    console.stderr.print(f"Use it with: ramedge upscale FILE --model {name}", markup=False)
    if engine is not None:
        build_engine(artifact.folder, engine, "auto", options.shapes, rebuild=options.rebuild)


def _choose_target(runtime: Target | Literal["auto"]) -> tuple[Target, str]:
    """The backend to export for, and why."""
    if runtime != "auto":
        return runtime, "asked for"
    backend, reason = best()
    return cast("Target", backend.name), reason


def _int8(options: ExportOptions) -> Int8Settings:
    budget = Budget() if options.max_loss is None else Budget.of(options.max_loss)
    if not options.calibration:
        return Int8Settings(budget=budget)
    calibration = CalibrationSettings(options.calibration)
    if options.frames is not None:
        calibration = replace(calibration, frames=options.frames)
    return Int8Settings(calibration, budget)


def _engine_of(target: Target) -> VariantName | None:
    match target:
        case "tensorrt" | "tensorrt-rtx":
            return target
        case _:
            return None


def _check(options: ExportOptions) -> None:
    weights = options.weights
    if weights is not None and is_artifact(weights):
        raise UsageError(
            f"{weights} is an exported model already: use it with ramedge upscale --model, or "
            "build an engine from it with ramedge engines build."
        )
    is_int8 = options.precision == "int8"
    if is_int8 and not options.calibration and weights is not None:
        raise UsageError(
            "INT8 with your own weights needs calibration pictures: --calibration DIR."
        )
    for name, value in (
        ("--calibration", options.calibration),
        ("--calibration-frames", options.frames),
        ("--max-loss", options.max_loss),
    ):
        if value not in (None, ()) and not is_int8:
            raise UsageError(f"{name} needs --precision int8.")
    if options.frames is not None and not options.calibration:
        raise UsageError("--calibration-frames needs --calibration.")
    if options.report is not None:
        _check_report(options.report, is_int8, options.overwrite)
    check_installed(weights, bool(options.calibration))


def _check_engine(engine: VariantName, shapes: ShapeOptions) -> None:
    try:
        check_engine_options(engine, shapes)
    except RuntimeUnavailableError as missing:
        raise RuntimeUnavailableError(
            f"{missing} For another machine: export with --runtime onnx here, then run ramedge "
            "engines build there."
        ) from None


def _check_engine_alone(weights: Path, options: ExportOptions) -> None:
    if options.output is not None or options.calibration or options.report is not None:
        raise UsageError(
            f"{weights} is an exported model already, and its engine is kept in the user's cache: "
            "leave -o, --calibration and --report out."
        )


def _check_report(report: Path, is_int8: bool, replace: bool) -> None:
    if not is_int8:
        raise UsageError("--report needs --precision int8.")
    check_text_output("--report", report, ".md")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "export", "The report's picture")
    for path in (report, picture_of(report)):
        if path.exists() and not replace:
            raise UsageError(
                f"{path} exists already: replace it with -y, or give another --report."
            )


def _agreement(gate: Mapping[str, Any]) -> str:
    if gate["psnr"] is None:
        return "exactly"
    return (
        f"to {gate['psnr']:.1f} dB, largest difference {gate['max_error'] * 255:.3f} of 255, "
        f"largest mean difference of a colour channel {gate['max_channel_bias'] * 255:.4f}"
    )


def _tell(artifact: Artifact) -> None:
    manifest, gate = artifact.manifest, artifact.manifest.gate
    console.stdout.print(
        f"{manifest.network} ×{manifest.scale} {manifest.precision}: agrees with "
        f"{gate['compared_with']} {_agreement(gate)} ({gate['runtime']})"
    )
    if "truth" in gate:
        loss, speed = gate["truth"]["loss"], gate["speed"]
        console.stdout.print(
            f"INT8 loses {loss['mean']:.3f} dB of PSNR-Y (worst photo {loss['worst']:.3f} dB) on "
            f"{len(gate['truth']['photos'])} photos, and is {speed['speedup']:.2f} times as fast "
            f"as {speed['baseline']} on this machine"
        )
