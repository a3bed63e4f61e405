"""Trains and measures the eleven variants, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ramedge.errors import CancelledError, TrainingError, UsageError
from ramedge.files import file_digest
from ramedge.network.config import ATTENTION_NAMES
from ramedge.network.srram import SRRAM
from ramedge.quality.evaluation import evaluate
from ramedge.study.report import write_results
from ramedge.study.result import Row, SetScore, Study, title
from ramedge.study.settings import SCALE, StudySettings
from ramedge.study.stored import StoredRun, holds_study, stored_rows, stored_run
from ramedge.system import describe_machine
from ramedge.training.distributed import choose_device
from ramedge.training.loop import train
from ramedge.training.progress import Observer, Progress
from ramedge.training.run_files import CHECKPOINT_NAME
from ramedge.training.settings import TrainingSettings
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler


@dataclass(slots=True)
class StudyObserver:
    """What a caller may be told.

    Attributes:
        on_variant: (attention, its number from 0), before it is trained.
        on_photo: (done, all) while photos are decoded for one variant.
        on_step: (steps done of the whole study, progress of the variant).
        on_image: (done, all) while a set is measured.
        on_row: a variant is trained and measured.
        on_notice: a fallback; one that all variants share comes once for each.
    """

    on_variant: Callable[[str, int], None] = lambda attention, number: None
    on_photo: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[int, Progress], None] = lambda done, progress: None
    on_image: Callable[[int, int], None] = lambda done, total: None
    on_row: Callable[[Row], None] = lambda row: None
    on_notice: Callable[[str], None] = lambda text: None


def run_study(settings: StudySettings, observer: StudyObserver | None = None) -> Study:
    """Train every variant of `ATTENTION_NAMES` alike and measure it.

    The results are written after each variant, so that a stopped study shows what it has. With
    `resume`, variants that did all their steps are not trained again, the one in progress goes
    on, and scores of the same weights on the same folder are kept.

    Raises:
        InputError: a folder is not there, or holds nothing that can be used.
        UsageError: no such device, or started under torchrun.
        TrainingError: the folder holds another study, the photos changed between two variants,
            or a loss became NaN.
        CancelledError: interrupted; a checkpoint was written.
    """
    observer = observer if observer is not None else StudyObserver()
    _check(settings)
    rows = stored_rows(settings) if settings.resume else {}
    machine = describe_machine()
    study: Study | None = None
    for number, attention in enumerate(ATTENTION_NAMES):
        observer.on_variant(attention, number)
        run = stored_run(settings, attention)
        if run is None or not run.finished:
            run = _train(settings, attention, number, observer)
        if study is not None and run.photos != study.photos:
            raise TrainingError(
                f"{attention} was not trained on the photos that {ATTENTION_NAMES[0]} was: bring "
                f"them back and remove {settings.folder(attention)}, or begin another study."
            )
        rows[attention] = _measure(settings, attention, run, rows.get(attention), observer)
        done = tuple(rows[name] for name in ATTENTION_NAMES if name in rows)
        study = Study(settings, run.photos, machine, done)
        write_results(study)
        observer.on_row(rows[attention])
    assert study is not None  # there are eleven variants
    return study


def _check(settings: StudySettings) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("A study runs in one process: start it without torchrun.")
    settings.check_folders()
    if settings.output.exists() and not settings.output.is_dir():
        raise UsageError(f"{settings.output} is a file: choose a folder with -o.")
    choose_device(settings.device)
    if holds_study(settings) and not settings.resume:
        raise TrainingError(
            f"{settings.output} holds a study already: "
            "continue it with --resume or choose another folder with -o."
        )
    for attention in ATTENTION_NAMES:
        stored_run(settings, attention)  # one of other settings is said before any training


def _train(
    settings: StudySettings, attention: str, number: int, observer: StudyObserver
) -> StoredRun:
    folder = settings.folder(attention)
    before = number * settings.steps
    where = f"{title(attention)} ({number + 1} of {len(ATTENTION_NAMES)})"
    if settings.recipe.compile:
        # The compiler keeps eight versions of a function: the last variants would run uncompiled.
        torch.compiler.reset()
    try:
        train(
            TrainingSettings(
                data=settings.data,
                output=folder,
                network=settings.network(attention),
                recipe=settings.recipe,
                steps=settings.steps,
                seed=settings.seed,
                device=settings.device,
                resume=(folder / CHECKPOINT_NAME).exists(),
            ),
            Observer(
                on_photo=observer.on_photo,
                on_step=lambda progress: observer.on_step(before + progress.step, progress),
                on_notice=observer.on_notice,
            ),
        )
    except (CancelledError, TrainingError) as stopped:
        raise type(stopped)(f"{where}: {stopped}") from None
    run = stored_run(settings, attention)
    assert run is not None  # training ends with its log
    return run


def _measure(
    settings: StudySettings,
    attention: str,
    run: StoredRun,
    before: Row | None,
    observer: StudyObserver,
) -> Row:
    digest = file_digest(run.weights)
    known = {score.folder: score for score in before.sets} if before is not None else {}
    folders = {str(folder.resolve()): folder for folder in settings.sets}
    missing = [key for key in folders if key not in known]
    if missing:
        runtime = RuntimeSettings("torch", "fp32", SCALE, run.weights, settings.device)
        with Upscaler(runtime) as upscaler:
            for key in missing:
                result = evaluate(folders[key], upscaler, observer.on_image)
                known[key] = SetScore.of(result, key)
                for failure in result.failed:
                    observer.on_notice(f"{failure.error} It is left out of the mean.")
    return Row(
        attention=attention,
        parameters=SRRAM(settings.network(attention)).parameter_count(),
        held_out=run.held_out,
        sets=tuple(known[key] for key in folders),
        weights=run.weights.relative_to(settings.output).as_posix(),
        digest=digest,
        notices=run.notices,
    )
