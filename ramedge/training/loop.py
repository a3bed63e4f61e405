"""The training loop: steps, validation, checkpoints, and a clean stop."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import torch

from ramedge.errors import CancelledError, TrainingError, UsageError
from ramedge.training.batches import Batches, make_batches
from ramedge.training.distributed import processes
from ramedge.training.folder import claim
from ramedge.training.interrupt import stop_on_signal
from ramedge.training.memory import check_memory
from ramedge.training.patterns import Patterns
from ramedge.training.progress import Observer, Progress, TrainingResult
from ramedge.training.run_files import RUN_FILES, WEIGHTS_NAME, save_run
from ramedge.training.sampler import PatchSampler
from ramedge.training.settings import TrainingSettings
from ramedge.training.setup import Run, set_up
from ramedge.training.throughput import StepTimer, measure_roofline, step_flops

_LOSS_CHECK_EVERY = 10
"""Steps between two looks at the loss, for which a GPU waits."""


def train(settings: TrainingSettings, observer: Observer | None = None) -> TrainingResult:
    """Train a network and write its weights.

    The same settings give the same weights on one machine, however often the run was
    stopped and resumed. Started under torchrun, each process works on its share of every
    batch and the gradients are averaged.

    Raises:
        InputError: the photos cannot be used.
        UsageError: the settings fit neither the memory nor the devices.
        OutputError: the run folder cannot be written to.
        TrainingError: the run folder is in use, a checkpoint does not fit, or the loss
            became NaN (the last checkpoint is kept).
        CancelledError: interrupted; a checkpoint was written.
    """
    with processes(settings.device) as group:
        if group.device.type == "cpu":  # a GPU may have more memory than its host
            check_memory(settings.network, settings.recipe, group.world)
        with claim(settings.output, RUN_FILES) if group.is_first else nullcontext():
            run = set_up(settings, observer if observer and group.is_first else Observer(), group)
            try:
                return _train(run)
            except torch.OutOfMemoryError:
                raise TrainingError(
                    f"Not enough memory on {group.device}: lower --batch or --patch."
                ) from None


def _train(run: Run) -> TrainingResult:
    settings, state, group = run.settings, run.state, run.group
    batches = _make_batches(run)
    timer = StepTimer(
        flops=step_flops(settings.network, settings.recipe) / group.world,
        roofline=measure_roofline(group.device, run.acceleration.bf16),
    )
    if run.acceleration.compile:
        run.observer.on_compile()
    with stop_on_signal() as signals:
        for step, batch in batches.stream(state.step, settings.steps):
            started = time.perf_counter()
            state.losses.add(run.training_step(step, batch))
            state.step = step + 1
            last = state.step == settings.steps
            stop = group.any(bool(signals))
            if last or state.step % _LOSS_CHECK_EVERY == 0 or stop:
                _read_losses(run)
            timer.add(time.perf_counter() - started)
            if last or state.step % settings.validate_every == 0:
                run.validate(state)
            if last or stop or state.step % settings.checkpoint_every == 0:
                _save(run, timer)
            run.observer.on_step(_progress(run, timer))
            if stop and not last:
                raise CancelledError(
                    f"Stopped at step {state.step} of {settings.steps}; continue with --resume."
                )
    return TrainingResult(
        weights=settings.output / WEIGHTS_NAME,
        step=state.step,
        psnr=state.psnr(),
        notices=run.notices.texts,
        throughput=timer.throughput,
        held_out=run.photos.held_out,
    )


def _make_batches(run: Run) -> Batches:
    settings, recipe, group = run.settings, run.settings.recipe, run.group
    sampler = PatchSampler(
        photos=run.photos.training,
        scales=settings.network.scales,
        patch=recipe.patch,
        batch=recipe.batch,
        seed=settings.seed,
        rank=group.rank,
        world=group.world,
        candidates=recipe.candidates,
        shares=recipe.shares,
    )
    if recipe.batch < group.world:
        raise UsageError(f"A batch of {recipe.batch} cannot feed {group.world} GPUs.")
    patterns = None
    if recipe.patterns > 0.0:
        patterns = Patterns(recipe.patterns, recipe.batch, settings.seed, group.rank, group.world)
    return make_batches(sampler, group.device, run.acceleration.channels_last, patterns)


def _read_losses(run: Run) -> None:
    if not run.state.losses.read():
        raise TrainingError(
            f"The loss became NaN or infinite before step {run.state.step}. "
            f"{_after_nan(run.settings.output / WEIGHTS_NAME)}"
        )


def _after_nan(weights: Path) -> str:
    if not weights.exists():
        return "Use a lower --learning-rate."
    return (
        f"{weights} is from before: continue in another folder with --start-from {weights} and "
        "a lower --learning-rate."
    )


def _save(run: Run, timer: StepTimer) -> None:
    """Write the files of the run; the other processes wait."""
    _read_losses(run)
    if run.group.is_first:
        save_run(run.state, run.settings, run.fixed, run.notices, timer.throughput)
    run.group.barrier()


def _progress(run: Run, timer: StepTimer) -> Progress:
    return Progress(
        step=run.state.step,
        steps=run.settings.steps,
        loss=run.state.losses.mean,
        psnr=run.state.psnr(),
        seconds_per_step=timer.seconds_per_step,
    )
