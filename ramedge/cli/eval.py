"""`ramedge eval`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from ramedge.artifacts.artifact import is_artifact, load_artifact
from ramedge.cli import console
from ramedge.cli.options import (
    Device,
    Ensemble,
    Json,
    Model,
    PrecisionChoice,
    RuntimeChoice,
    RuntimeOption,
    check_json_output,
    check_text_output,
    exit_code,
)
from ramedge.errors import UsageError
from ramedge.files import write_text
from ramedge.quality.benchmark_sets import Comparison, evaluate_sets
from ramedge.quality.evaluation import Evaluation, Score
from ramedge.quality.photos import find_photos
from ramedge.quality.tables import UNITS, Summary, as_markdown, summarize
from ramedge.runtimes.backend import PrecisionName
from ramedge.system import describe_machine
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler


def evaluate_folders(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of high-resolution images, such as Set5.")
    ],
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale",
            "-s",
            help="Upscaling factor, or a list: 2,3,4. Default: the model's own, 2 for the "
            "shipped one.",
        ),
    ] = None,
    model: Model = None,
    runtime: RuntimeOption = RuntimeChoice.auto,
    precision: Annotated[
        PrecisionChoice | None,
        typer.Option(
            "--precision",
            "-p",
            help="Arithmetic. auto: the faster of fp32 and fp16. Default: fp32, int8 for an INT8 "
            "model.",
        ),
    ] = None,
    device: Device = "auto",
    ensemble: Ensemble = False,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the means as a table to this .md file."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Measure PSNR-Y and SSIM-Y on folders of images, and compare with bicubic.

    The paper's protocol: bicubic downscaling, luma of 8-bit images, a border of SCALE pixels
    ignored. One folder at one scale prints a row for each image; several folders or scales print
    one table of means.
    """
    if json_file is not None:
        check_json_output(json_file)
    if markdown is not None:
        check_text_output("--markdown", markdown, ".md")
    scales = _parse_scales(scale)
    settings = RuntimeSettings(
        runtime=runtime.value,
        precision=_default_precision(model) if precision is None else precision.value,
        model=model,
        device=device,
    )
    for folder in folders:
        find_photos(folder)  # a missing folder is reported before a network is opened
    with ExitStack() as stack:
        # All are opened before the first is used: a scale without weights costs no waiting.
        upscalers = [
            stack.enter_context(Upscaler(replace(settings, scale=one), ensemble=ensemble))
            for one in scales
        ]
        result = _measure(folders, upscalers)
        notes = list(dict.fromkeys(note for one in upscalers for note in one.notes))
    for note in notes:
        console.notice(note)
    single = len(scales) == 1 and len(set(folders)) == 1
    summary = summarize(result.evaluations)
    console.print_table(_images(result.evaluations[0]) if single else _means(result, summary))
    if markdown is not None:
        write_text(markdown, as_markdown(summary))
    if json_file is not None:
        document = result.evaluations[0].as_dict() if single else result.as_dict()
        document |= {"notes": notes, "machine": describe_machine()}
        write_text(json_file, json.dumps(document, indent=2, allow_nan=False) + "\n")
    for failure in result.failures:
        console.error(failure.error)
    if result.failures:
        raise typer.Exit(exit_code(failure.unexpected for failure in result.failures))


def _default_precision(model: Path | None) -> PrecisionName:
    is_int8 = (
        model is not None
        and is_artifact(model)
        and load_artifact(model).manifest.precision == "int8"
    )
    return "int8" if is_int8 else "fp32"


def _parse_scales(texts: list[str] | None) -> list[int | None]:
    if not texts:
        return [None]
    try:
        return list(dict.fromkeys(int(part) for text in texts for part in text.split(",")))
    except ValueError:
        given = ",".join(texts)
        raise UsageError(f"--scale {given!r} is not a number, or a list such as 2,3,4.") from None


def _measure(folders: list[Path], upscalers: list[Upscaler]) -> Comparison:
    for upscaler in upscalers:
        console.stderr.print(upscaler.reason, markup=False)
    with console.progress_bar() as bar:
        task = bar.add_task("Images", total=None, info="")
        return evaluate_sets(
            folders,
            upscalers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )


def _means(result: Comparison, summary: Summary) -> Table:
    first = result.evaluations[0]
    table = Table(title=f"{UNITS}: {first.network}, {first.runtime} {first.precision}")
    for index, name in enumerate(summary.header):
        side: Literal["left", "right"] = "left" if index < 2 else "right"
        table.add_column(escape(name), justify=side, overflow="fold")
    for before, row in zip((None, *summary.rows), summary.rows, strict=False):
        if before is not None and before[0] != row[0]:
            table.add_section()
        table.add_row(*row)
    return table


def _images(result: Evaluation) -> Table:
    turns = ", self-ensemble" if result.ensemble else ""
    table = Table(
        title=f"{escape(result.folder)} ×{result.scale}, {result.runtime} {result.precision}{turns}"
    )
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
        escape(score.name),
        f"{score.psnr:.2f}",
        f"{score.ssim:.4f}",
        f"{score.bicubic_psnr:.2f}",
        f"{score.bicubic_ssim:.4f}",
        f"{score.psnr - score.bicubic_psnr:+.2f}",
    )
