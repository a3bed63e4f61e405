"""`ramedge study`."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress as ProgressBars
from rich.table import Table

from ramedge.cli import console
from ramedge.cli.train import RecipeName
from ramedge.errors import MissingExtraError, UsageError
from ramedge.network.config import ATTENTION_NAMES
from ramedge.study.report import REPORT_NAME
from ramedge.study.result import RESULT_NAME, Row, Study, title
from ramedge.study.settings import StudySettings

if TYPE_CHECKING:
    from ramedge.training.progress import Progress
    from ramedge.training.recipe import Recipe

_LINE_EVERY = 50
"""Steps between lines where stderr is no terminal."""


def study(
    data: Annotated[
        Path | None, typer.Option(help="Folder of training photos, sub-folders included.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each network.")] = 2000,
    blocks: Annotated[
        int, typer.Option(help="Number of residual blocks, R; the paper has 16.")
    ] = 4,
    channels: Annotated[
        int, typer.Option(help="Number of feature channels, C; the paper has 64.")
    ] = 32,
    recipe: Annotated[
        RecipeName, typer.Option(help="Training recipe: the paper's, or fast.")
    ] = RecipeName.fast,
    patch: Annotated[
        int | None,
        typer.Option(min=1, help="Patch side in low-resolution pixels. Default: the recipe's."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Patches per step. Default: the recipe's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate. Default: the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the weights and patches.")] = 0,
    evaluate: Annotated[
        list[Path] | None,
        typer.Option(
            "--eval",
            help="Folder of high-resolution images to measure on, such as Set5; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the study. Default: runs/study_rBLOCKScCHANNELS.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study in --output.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="PyTorch device, such as cpu or cuda:1. auto: a GPU if any.")
    ] = "auto",
    figures_only: Annotated[
        Path | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Draw the pictures of these .safetensors weights instead of training, with the "
            "photos of --data or the shipped ones.",
        ),
    ] = None,
) -> None:
    """Compare the eleven attention mechanisms of the paper's Table 2 in small networks.

    Trains eleven ×2 networks with the same settings, one after the other, and measures each.
    Writes study.md, study.json and pictures. Stop with Ctrl-C and continue with --resume.
    """
    try:
        from ramedge.study.figures import check_matplotlib, draw_network

        check_matplotlib()
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "torch", "train", "A study") from None
    if figures_only is not None:
        folder = output if output is not None else figures_only.parent
        _print_files(draw_network(figures_only, folder, data))
        return
    if data is None:
        raise UsageError("Give a folder of photos to train on: --data PHOTOS.")
    _run(
        StudySettings(
            data=data,
            output=output if output is not None else Path("runs") / f"study_r{blocks}c{channels}",
            recipe=_recipe(recipe, patch, batch, learning_rate),
            steps=steps,
            blocks=blocks,
            channels=channels,
            seed=seed,
            sets=tuple(evaluate or ()),
            device=device,
            resume=resume,
        )
    )


def _recipe(
    name: RecipeName, patch: int | None, batch: int | None, learning_rate: float | None
) -> Recipe:
    from ramedge.training.recipe import RECIPES

    recipe = RECIPES[name.value]
    return replace(
        recipe,
        patch=recipe.patch if patch is None else patch,
        batch=recipe.batch if batch is None else batch,
        learning_rate=recipe.learning_rate if learning_rate is None else learning_rate,
    )


def _run(settings: StudySettings) -> None:
    from ramedge.study.figures import draw_study
    from ramedge.study.run import StudyObserver, run_study

    with console.progress_bar() as bar:
        shown = _Shown(bar, settings.steps)
        result = run_study(
            settings,
            StudyObserver(
                on_variant=shown.variant,
                on_photo=shown.photo,
                on_step=shown.step,
                on_image=shown.image,
                on_row=shown.row,
                on_notice=shown.notice,
            ),
        )
    weights = {row.attention: settings.output / row.weights for row in result.rows}
    pictures = draw_study(weights, "ram", settings.output)
    console.print_table(_table(result))
    _print_files([settings.output / REPORT_NAME, settings.output / RESULT_NAME, *pictures])


class _Shown:
    """The progress of a study on stderr: bars on a terminal, a line now and then elsewhere."""

    def __init__(self, bar: ProgressBars, steps: int) -> None:
        self.bar = bar
        self.variants = len(ATTENTION_NAMES)
        self.decoding = bar.add_task("Decoding photos", total=None, info="")
        self.training = bar.add_task("Training", total=self.variants * steps, info="")
        self.measuring = bar.add_task("Measuring", total=None, info="", visible=False)
        self.name = ""
        self.noticed: set[str] = set()
        self.started = time.monotonic()
        self.taken = 0

    def variant(self, attention: str, number: int) -> None:
        self.name = f"{title(attention)} ({number + 1}/{self.variants})"
        self.bar.update(self.training, info=self.name)

    def photo(self, done: int, total: int) -> None:
        self.bar.update(self.decoding, completed=done, total=total)

    def step(self, done: int, progress: Progress) -> None:
        loss = "" if math.isnan(progress.loss) else f" loss {progress.loss:.5f}"
        self.bar.update(self.training, completed=done, info=f"{self.name}{loss}")
        self.taken += 1
        if self.bar.disable and (progress.step % _LINE_EVERY == 0):
            # By the clock, so that decoding, compiling and measuring are in it.
            elapsed = time.monotonic() - self.started
            seconds = (self.variants * progress.steps - done) * elapsed / self.taken
            console.stderr.print(
                f"{self.name} step {progress.step}/{progress.steps}{loss} "
                f"{progress.seconds_per_step:.2f} s/step ETA {seconds / 60:.0f} min"
            )

    def image(self, done: int, total: int) -> None:
        self.bar.update(
            self.measuring, completed=done, total=total, info=self.name, visible=done < total
        )

    def row(self, row: Row) -> None:
        scores = [f"{score.name} {_decibels(score.psnr)}" for score in row.sets]
        found = ", ".join([f"held-out {_decibels(row.held_out)}", *scores])
        console.stderr.print(f"{self.name}: {row.parameters:,} parameters, {found}", markup=False)

    def notice(self, text: str) -> None:
        if text not in self.noticed:  # most hold for every variant
            self.noticed.add(text)
            console.notice(text)


def _table(result: Study) -> Table:
    """The variants below one another: as columns they would not fit in a terminal."""
    settings = result.settings
    table = Table(
        title=f"PSNR-Y (dB) ×2, R = {settings.blocks}, C = {settings.channels}, "
        f"{settings.steps:,} steps"
    )
    table.add_column("attention")
    for column in ("parameters", "held-out", *map(escape, settings.named_sets())):
        table.add_column(column, justify="right", overflow="fold")
    for row in result.rows:
        scores = [_decibels(score.psnr) for score in row.sets]
        table.add_row(title(row.attention), f"{row.parameters:,}", _decibels(row.held_out), *scores)
    return table


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _print_files(paths: list[Path]) -> None:
    for path in paths:
        console.stdout.print(path, markup=False)
