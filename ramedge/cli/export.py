"""`ramedge export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ramedge.cli.engine_options import (
    MaxShape,
    MinShape,
    OptLevel,
    OptShape,
    Rebuild,
    ShapeOptions,
    Workspace,
)


class TargetChoice(str, Enum):
    """Backends to export for."""

    auto = "auto"
    onnx = "onnx"
    openvino = "openvino"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class ExportPrecision(str, Enum):
    """Precision of the exported model."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to create. Default: named after the model, such as "
            "srram_x2_fp16_openvino.",
        ),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="Upscaling factor: 2, 3 or 4.")] = 2,
    precision: Annotated[
        ExportPrecision,
        typer.Option(
            "--precision",
            "-p",
            help="Precision of the model. int8 with your own --weights needs --calibration.",
        ),
    ] = ExportPrecision.fp32,
    runtime: Annotated[
        TargetChoice,
        typer.Option(
            help="Backend that the model is for. auto: TensorRT or TensorRT-RTX if installed with "
            "an NVIDIA GPU, otherwise OpenVINO."
        ),
    ] = TargetChoice.auto,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "-m",
            help="File of weights (.safetensors; needs PyTorch). Default: the shipped weights.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail if the precision is refused. Default: export the next higher precision.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing model or report.")
    ] = False,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="INT8: pictures to calibrate on: photos, folders, videos or .txt lists of them; "
            "may be repeated."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--calibration-frames",
            help="INT8: number of calibration pictures, at least 16. Default: 48.",
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="INT8: accepted mean loss of PSNR-Y in dB; a single photo may lose three times as "
            "much. Default: 0.05.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="INT8: write a report to this .md file, and a picture next to it."),
    ] = None,
    min_shape: MinShape = None,
    opt_shape: OptShape = None,
    max_shape: MaxShape = None,
    opt_level: OptLevel = None,
    workspace: Workspace = None,
    rebuild: Rebuild = False,
) -> None:
    """Export weights to a model folder, checked against PyTorch on real photos.

    Use the folder with ramedge upscale --model. For tensorrt and tensorrt-rtx an engine for this
    machine's GPU is built as well and kept in the user's cache. INT8 is exported only if it loses
    no more than --max-loss and is faster on this machine; otherwise FP16 is exported with a
    warning.
    """
    from ramedge.cli.export_run import ExportOptions, run_export  # heavy imports

    run_export(
        ExportOptions(
            output=output,
            scale=scale,
            precision=precision.value,
            runtime=runtime.value,
            weights=weights,
            strict=strict,
            overwrite=overwrite,
            calibration=tuple(calibration or ()),
            frames=frames,
            max_loss=max_loss,
            report=report,
            shapes=ShapeOptions(min_shape, opt_shape, max_shape, opt_level, workspace),
            rebuild=rebuild,
        )
    )
