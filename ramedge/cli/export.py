"""`ramedge export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ramedge.cli import console
from ramedge.errors import MissingExtraError


class TargetChoice(str, Enum):
    """What to export to."""

    onnx = "onnx"
    openvino = "openvino"


class ExportPrecision(str, Enum):
    """Precision of the exported graph."""

    fp32 = "fp32"
    fp16 = "fp16"


def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to make.")] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="2, 3 or 4.")] = 2,
    precision: Annotated[ExportPrecision, typer.Option("--precision", "-p")] = ExportPrecision.fp32,
    runtime: Annotated[
        TargetChoice, typer.Option(help="What the model is for.")
    ] = TargetChoice.openvino,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-m", help="Safetensors file. Default: the shipped weights."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where the gate refuses, do not fall back.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an exported model.")
    ] = False,
) -> None:
    """Export weights to ONNX or OpenVINO, checked against PyTorch on real photos."""
    try:
        from ramedge.export.model import ExportSettings, export_model
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "torch", "export", "Export") from None
    name = f"srram_x{scale}_{precision.value}_{runtime.value}"
    settings = ExportSettings(
        output=output if output is not None else Path(name),
        scale=scale,
        precision=precision.value,
        runtime=runtime.value,
        weights=weights,
        strict=strict,
        overwrite=overwrite,
    )
    with console.stderr.status("Exporting and checking against PyTorch"):
        artifact = export_model(settings, console.notice)
    manifest, gate = artifact.manifest, artifact.manifest.gate
    console.stdout.print(
        f"{manifest.network} ×{manifest.scale} {manifest.precision}: agrees with PyTorch to "
        f"{gate['psnr']:.1f} dB, at most {gate['max_error'] * 255:.3f} levels of 255 off, "
        f"tint {gate['max_channel_bias'] * 255:.4f} ({gate['runtime']})"
    )
    console.stdout.print(f"Model: {artifact.folder}")
