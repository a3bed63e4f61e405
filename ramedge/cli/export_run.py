"""What `ramedge export` does with its options."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ramedge.artifacts.artifact import Artifact, is_artifact
from ramedge.calibration.frames import CalibrationSettings
from ramedge.cli import console
from ramedge.cli.engine_build import build_engine, check_engine_options
from ramedge.cli.engine_options import ShapeOptions
from ramedge.cli.options import check_text_output
from ramedge.errors import MissingExtraError, UsageError
from ramedge.export.int8 import Int8Settings
from ramedge.export.int8_report import picture_of, write_report
from ramedge.export.model import ExportSettings, Precision, Target, export_model
from ramedge.export.sources import check_installed
from ramedge.quality.int8_budget import Budget
from ramedge.runtimes.tensorrt.flavour import FLAVOURS, FlavourName
from ramedge.upscaling.open_model import best_flavour


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the command line says; see `ramedge.cli.export.export`."""

    output: Path | None
    scale: int
    precision: Precision
    runtime: Target | Literal["auto"]
    weights: Path | None
    strict: bool
    overwrite: bool
    calibration: tuple[Path, ...]
    frames: int
    max_loss: float
    report: Path | None
    shapes: ShapeOptions
    rebuild: bool


def run_export(options: ExportOptions) -> None:
    """Export, build an engine where the model is for one, and say what came of it.

    Raises:
        RamedgeError: see `export_model` and `build_engine`.
    """
    target, reason = _choose_target(options.runtime)
    weights = options.weights
    engine = _engine_of(target)
    if engine is not None:
        check_engine_options(engine, options.shapes)
        if weights is not None and (is_artifact(weights) or weights.suffix.lower() == ".onnx"):
            _check_engine_alone(weights, options)
            build_engine(
                weights, engine, options.precision, options.shapes, options.scale, options.rebuild
            )
            return
    elif options.shapes.given or options.rebuild:
        raise UsageError(
            "Shapes, --opt-level, --workspace and --rebuild are for --runtime tensorrt and "
            f"tensorrt-rtx; this export is for {target} ({reason})."
        )
    _check(options)
    if options.runtime == "auto":
        title = FLAVOURS[engine].title if engine is not None else "OpenVINO"
        console.stderr.print(f"Exporting for {title}: {reason}.", markup=False)
    int8 = None
    if options.calibration:
        calibration = CalibrationSettings(options.calibration, frames=options.frames)
        int8 = Int8Settings(calibration, Budget.of(options.max_loss))
    settings = ExportSettings(
        output=options.output,
        scale=options.scale,
        precision=options.precision,
        runtime=target,
        weights=weights,
        strict=options.strict,
        overwrite=options.overwrite,
        int8=int8,
    )
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
        console.notice(f"No report: {artifact.manifest.precision} was exported, see above.")
    elif options.report is not None:
        write_report(artifact.manifest, options.report)
        console.stdout.print(f"Report: {options.report}", markup=False)
    console.stdout.print(f"Model: {artifact.folder}", markup=False)
    console.stderr.print(f"Use it: ramedge upscale FILE --model {artifact.folder}", markup=False)
    if engine is not None:
        build_engine(artifact.folder, engine, "auto", options.shapes, rebuild=options.rebuild)


def _choose_target(runtime: Target | Literal["auto"]) -> tuple[Target, str]:
    """What to export for, and why."""
    if runtime != "auto":
        return runtime, "asked for"
    flavour, reason = best_flavour()
    return ("openvino" if flavour is None else flavour.name), reason


def _engine_of(target: Target) -> FlavourName | None:
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
            "build an engine of it with ramedge engines build."
        )
    is_int8 = options.precision == "int8"
    if is_int8 and not options.calibration and weights is not None:
        raise UsageError("INT8 needs pictures to calibrate on: --calibration DIR.")
    if options.calibration and not is_int8:
        raise UsageError("--calibration is for --precision int8.")
    if options.report is not None:
        _check_report(options.report, is_int8, options.overwrite)
    check_installed(weights is not None, bool(options.calibration))


def _check_engine_alone(weights: Path, options: ExportOptions) -> None:
    if options.output is not None or options.calibration or options.report is not None:
        raise UsageError(
            f"{weights} is an exported model already, and its engine is kept in the user's cache: "
            "leave -o, --calibration and --report out."
        )


def _check_report(report: Path, is_int8: bool, replace: bool) -> None:
    if not is_int8:
        raise UsageError("--report is for --precision int8.")
    check_text_output("--report", report, ".md")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "export", "The report's picture")
    for path in (report, picture_of(report)):
        if path.exists() and not replace:
            raise UsageError(f"{path} exists already: replace it with -y, or name another report.")


def _tell(artifact: Artifact) -> None:
    manifest, gate = artifact.manifest, artifact.manifest.gate
    console.stdout.print(
        f"{manifest.network} ×{manifest.scale} {manifest.precision}: agrees with "
        f"{gate['compared_with']} to {gate['psnr']:.1f} dB, at most "
        f"{gate['max_error'] * 255:.3f} levels of 255 off, "
        f"tint {gate['max_channel_bias'] * 255:.4f} ({gate['runtime']})"
    )
    if "truth" in gate:
        loss, speed = gate["truth"]["loss"], gate["speed"]
        console.stdout.print(
            f"INT8 loses {loss['mean']:.3f} dB of PSNR-Y ({loss['worst']:.3f} dB at worst) on "
            f"{len(gate['truth']['photos'])} photos, and is {speed['speedup']:.2f} times as fast "
            f"as {speed['baseline']} where it was calibrated"
        )
