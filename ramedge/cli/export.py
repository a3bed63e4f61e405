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
    """What to export to."""

    auto = "auto"
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
        typer.Option(
            "--precision",
            "-p",
            help="Precision of the model. int8 of your own weights needs --calibration. OpenVINO "
            "runs fp32 models in half precision where that is faster; ramedge upscale --precision "
            "fp32 does not.",
        ),
    ] = ExportPrecision.fp32,
    runtime: Annotated[
        TargetChoice,
        typer.Option(
            help="What the model is for. auto: TensorRT or TensorRT-RTX where one is installed and "
            "there is an NVIDIA GPU, otherwise OpenVINO."
        ),
    ] = TargetChoice.auto,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "-m",
            help="Safetensors file. Default: the shipped weights, which need no PyTorch.",
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
        int | None,
        typer.Option(
            "--calibration-frames", help="INT8: pictures to take of them, at least 16. Default: 48."
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="INT8: dB of PSNR-Y it may lose on average; three times as much on one photo. "
            "Default: 0.05.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="INT8: write what was found to this .md, and a picture beside it."),
    ] = None,
    min_shape: MinShape = None,
    opt_shape: OptShape = None,
    max_shape: MaxShape = None,
    opt_level: OptLevel = None,
    workspace: Workspace = None,
    rebuild: Rebuild = False,
) -> None:
    """Export weights to a model folder, checked against PyTorch on real photos.

    The folder is for OpenVINO, ONNX or TensorRT; ramedge upscale --model takes it. For tensorrt and
    tensorrt-rtx an engine for this machine is built of it as well, and kept in the user's cache;
    ramedge engines build does that on another machine. INT8 is kept only where it loses no more
    than --max-loss and is faster here; otherwise FP16 is exported, and the manifest says why.
    """
    from ramedge.cli.export_run import ExportOptions, run_export  # imports what is heavy

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
