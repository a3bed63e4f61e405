"""`ramedge eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ramedge.cli import console
from ramedge.cli.options import (
    Device,
    Json,
    Model,
    PrecisionChoice,
    PrecisionOption,
    RuntimeChoice,
    RuntimeOption,
    Scale,
    check_json_output,
)
from ramedge.evaluation import Evaluation, Score, evaluate
from ramedge.files import write_text
from ramedge.runtimes.select import RuntimeSettings
from ramedge.upscale import Upscaler


def evaluate_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of high-resolution images.")],
    scale: Scale = None,
    model: Model = None,
    runtime: RuntimeOption = RuntimeChoice.auto,
    precision: PrecisionOption = PrecisionChoice.fp32,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Measure PSNR-Y and SSIM-Y on a folder of images, bicubic beside them.

    The paper's protocol: bicubic downscaling, luma, 8 bits, a border of `scale` pixels left out.
    """
    if json_file is not None:
        check_json_output(json_file)
    settings = RuntimeSettings(
        runtime=runtime.value, precision=precision.value, scale=scale, model=model, device=device
    )
    with Upscaler(settings) as upscaler, console.progress_bar() as bar:
        console.stderr.print(upscaler.model.reason)
        task = bar.add_task("Images", total=None, info="")
        result = evaluate(
            folder, upscaler, lambda done, total: bar.update(task, completed=done, total=total)
        )
        notes = list(upscaler.notes)
    for note in notes:
        console.notice(note)
    console.stdout.print(_table(result))
    if json_file is not None:
        write_text(json_file, json.dumps(result.as_dict() | {"notes": notes}, indent=2) + "\n")


def _table(result: Evaluation) -> Table:
    table = Table(title=f"{result.folder} ×{result.scale}, {result.runtime} {result.precision}")
    table.add_column("image", overflow="fold")
    for column in ("PSNR-Y", "SSIM-Y", "bicubic PSNR-Y", "bicubic SSIM-Y", "gain dB"):
        table.add_column(column, justify="right")
    for score in result.images:
        table.add_row(*_row(score))
    table.add_section()
    table.add_row(*_row(result.mean), style="bold")
    return table


def _row(score: Score) -> tuple[str, ...]:
    return (
        score.name,
        f"{score.psnr:.2f}",
        f"{score.ssim:.4f}",
        f"{score.bicubic_psnr:.2f}",
        f"{score.bicubic_ssim:.4f}",
        f"{score.psnr - score.bicubic_psnr:+.2f}",
    )
