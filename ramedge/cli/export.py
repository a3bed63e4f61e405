"""`ramedge export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ramedge.cli import console
from ramedge.cli.options import check_text_output
from ramedge.errors import MissingExtraError, UsageError


class TargetChoice(str, Enum):
    """What to export to."""

    onnx = "onnx"
    openvino = "openvino"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class ExportPrecision(str, Enum):
    """Precision of the exported graph."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to make.")] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="2, 3 or 4.")] = 2,
    precision: Annotated[
        ExportPrecision,
        typer.Option("--precision", "-p", help="What it computes in; int8 needs --calibration."),
    ] = ExportPrecision.fp32,
    runtime: Annotated[
        TargetChoice, typer.Option(help="What the model is for.")
    ] = TargetChoice.openvino,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "-m",
            help="Safetensors file; for engines also an exported ONNX folder or .onnx file. "
            "Default: the shipped weights.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where the gate refuses, do not fall back.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an exported model or report.")
    ] = False,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="INT8: photos, folders, videos or .txt lists of them to measure ranges on. Repeat "
            "for several."
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option("--calibration-frames", help="INT8: pictures to take of them, at least 16."),
    ] = 48,
    max_loss: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="INT8: dB of PSNR-Y it may lose on average; three times as much on one photo.",
        ),
    ] = 0.05,
    report: Annotated[
        Path | None,
        typer.Option(help="INT8: write what was found to this .md, and a picture beside it."),
    ] = None,
    min_shape: Annotated[
        str | None,
        typer.Option(help="Engines: smallest frame, height x width. Default: 1x1."),
    ] = None,
    opt_shape: Annotated[
        str | None, typer.Option(help="Engines: frame to tune for. Default: 360x640.")
    ] = None,
    max_shape: Annotated[
        str | None, typer.Option(help="Engines: largest frame. Default: 1080x1920.")
    ] = None,
    opt_level: Annotated[
        int | None, typer.Option(help="Engines: 0 to 5, how long the builder searches.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(help="Engines: MiB that a layer may use while it runs.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Engines: build anew, whatever the cache holds.")
    ] = False,
) -> None:
    """Export weights to ONNX or OpenVINO, checked against PyTorch on real photos.

    INT8 is kept only where it loses no more than --max-loss and is faster here; otherwise FP16 is
    exported, and the manifest says why. For tensorrt and tensorrt-rtx it builds an engine for this
    machine, kept in the user's cache; INT8 engines are built from an exported INT8 model.
    """
    if runtime in {TargetChoice.tensorrt, TargetChoice.tensorrt_rtx}:
        if calibration or report is not None:
            raise UsageError(
                "INT8 engines are built from an exported INT8 model: calibrate with --runtime "
                "onnx, then name its folder with --weights."
            )
        from ramedge.cli.engine_export import EngineOptions, export_engine

        export_engine(
            EngineOptions(
                runtime=runtime.value,
                precision=precision.value,
                scale=scale,
                weights=weights,
                output=output,
                overwrite=overwrite,
                min_shape=min_shape,
                opt_shape=opt_shape,
                max_shape=max_shape,
                opt_level=opt_level,
                workspace=workspace,
                rebuild=rebuild,
            )
        )
        return
    _check_int8(precision, calibration)
    given = (min_shape, opt_shape, max_shape, opt_level, workspace)
    if rebuild or any(value is not None for value in given):
        raise UsageError(
            "Shapes, --opt-level, --workspace and --rebuild are for --runtime tensorrt and "
            "tensorrt-rtx."
        )
    try:
        from ramedge.calibration.frames import CalibrationSettings
        from ramedge.export.int8 import Int8Settings
        from ramedge.export.int8_report import picture_of, write_report
        from ramedge.export.model import ExportSettings, export_model
        from ramedge.worth import Budget
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "torch", "export", "Export") from None
    if report is not None:
        _check_report(precision, report, picture_of(report), overwrite)
    settings = ExportSettings(
        output=output,
        scale=scale,
        precision=precision.value,
        runtime=runtime.value,
        weights=weights,
        strict=strict,
        overwrite=overwrite,
        int8=(
            Int8Settings(
                CalibrationSettings(tuple(calibration), frames=frames), Budget.of(max_loss)
            )
            if calibration
            else None
        ),
    )
    with console.progress_bar() as bar:
        task = bar.add_task("Exporting and checking against PyTorch", total=None, info="")
        artifact = export_model(
            settings,
            console.notice,
            lambda done, total: bar.update(
                task, description="Calibrating", completed=done, total=total
            ),
        )
    manifest, gate = artifact.manifest, artifact.manifest.gate
    console.stdout.print(
        f"{manifest.network} ×{manifest.scale} {manifest.precision}: agrees with PyTorch to "
        f"{gate['psnr']:.1f} dB, at most {gate['max_error'] * 255:.3f} levels of 255 off, "
        f"tint {gate['max_channel_bias'] * 255:.4f} ({gate['runtime']})"
    )
    if "truth" in gate:
        loss, speed = gate["truth"]["loss"], gate["speed"]
        console.stdout.print(
            f"INT8 loses {loss['mean']:.3f} dB of PSNR-Y ({loss['worst']:.3f} dB at worst) on "
            f"{len(gate['truth']['photos'])} photos, and is {speed['speedup']:.2f} times as fast "
            f"as {speed['baseline']} here"
        )
    if report is not None and not manifest.int8:
        console.notice(f"No report: {manifest.precision} was exported, see above.")
    elif report is not None:
        write_report(manifest, report)
        console.stdout.print(f"Report: {report}", markup=False)
    console.stdout.print(f"Model: {artifact.folder}", markup=False)


def _check_int8(precision: ExportPrecision, calibration: list[Path] | None) -> None:
    if precision is ExportPrecision.int8 and not calibration:
        raise UsageError("INT8 needs pictures to calibrate on: --calibration DIR.")
    if precision is not ExportPrecision.int8 and calibration:
        raise UsageError("--calibration is for --precision int8.")


def _check_report(precision: ExportPrecision, report: Path, picture: Path, replace: bool) -> None:
    if precision is not ExportPrecision.int8:
        raise UsageError("--report is for --precision int8.")
    check_text_output("--report", report, ".md")
    for path in (report, picture):
        if path.exists() and not replace:
            raise UsageError(f"{path} exists already: replace it with -y, or name another report.")
