"""`ramedge train`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ramedge.cli import console
from ramedge.errors import MissingExtraError, UsageError
from ramedge.network.config import NetworkConfig

if TYPE_CHECKING:
    from ramedge.training.progress import Observer, Progress, TrainingResult
    from ramedge.training.recipe import Recipe
    from ramedge.training.settings import TrainingSettings
    from ramedge.training.teachers.settings import Distillation

_LINE_EVERY = 50
"""Steps between lines of progress if stderr is not a terminal."""


class LossChoice(str, Enum):
    """Names of the losses."""

    l1 = "l1"
    l2 = "l2"
    psnr = "psnr"
    charbonnier = "charbonnier"
    frequency = "frequency"


class TeacherOutputs(str, Enum):
    """When the teacher runs."""

    patch = "patch"
    cached = "cached"


class RecipeName(str, Enum):
    """Names of the recipes."""

    paper = "paper"
    fast = "fast"


def train(
    data: Annotated[Path, typer.Option(help="Folder of photos; sub-folders are searched.")],
    steps: Annotated[int, typer.Option(min=1, help="Total optimisation steps.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Scale: 2, 3 or 4. Default: 2.")] = None,
    scales: Annotated[
        str | None, typer.Option(help="Several scales with a shared trunk, for example 2,3,4.")
    ] = None,
    recipe: Annotated[
        RecipeName, typer.Option(help="Hyperparameters: paper or fast.")
    ] = RecipeName.fast,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o.")] = False,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 …")] = "auto",
    blocks: Annotated[int, typer.Option(help="Number of residual attention modules, R.")] = 10,
    channels: Annotated[int, typer.Option(help="Number of feature channels, C.")] = 64,
    attention: Annotated[
        str, typer.Option(help="Attention: ram, or a column of the paper's Table 2.")
    ] = "ram",
    patch: Annotated[
        int | None, typer.Option(min=1, help="Patch side in low-resolution pixels.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    loss: Annotated[
        LossChoice | None, typer.Option(help="Loss: l1, l2, psnr, charbonnier or frequency.")
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(help="Share of the steps, at the end, in which the rate of fast falls to 0."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Draw N candidate patches and keep the one with the most detail.",
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Relative frequency of each of --scales, for example 1,2,3. Default: equal."
        ),
    ] = None,
    reduced: Annotated[
        str | None,
        typer.Option(
            help="Also train on the photos reduced by these factors, for example 0.75,0.5."
        ),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Fine-tune these safetensors weights.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights of a teacher to distil from: safetensors of ramedge, SMFANet+, or any "
            "network that spandrel loads. Repeat for several scales."
        ),
    ] = None,
    teacher_weight: Annotated[
        float | None,
        typer.Option(
            help="W in (1 - W)·loss(output, truth) + W·loss(output, teacher's). Default: 0.5."
        ),
    ] = None,
    teacher_outputs: Annotated[
        TeacherOutputs | None,
        typer.Option(
            help="patch: run the teacher in every step (default). cached: run it once on all "
            "photos and keep its outputs on disk, for a slow teacher or a long training."
        ),
    ] = None,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the cached outputs. Default: the user's cache folder."),
    ] = None,
    teacher_license: Annotated[
        str | None, typer.Option(help="Licence of the teachers, recorded in the weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and patches.")] = 0,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 500,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
) -> None:
    """Train a network on a folder of photos.

    Low-resolution images are made by bicubic downscaling. Ctrl-C stops after the step in
    progress; --resume continues. Several GPUs: torchrun --nproc-per-node 4 -m ramedge train …
    """
    network = NetworkConfig(
        blocks=blocks, channels=channels, scales=_parse_scales(scale, scales), attention=attention
    )
    try:
        from ramedge.training.loop import train as run_training
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "torch", "train", "Training") from None
    from ramedge.training.settings import TrainingSettings

    chosen = _recipe(recipe, network.scales, patch, batch, learning_rate, loss, decay, candidates)
    chosen = dataclasses.replace(
        chosen,
        shares=_parse_numbers("--shares", shares, "1,2,3"),
        reduced=_parse_numbers("--reduced", reduced, "0.75,0.5"),
    )
    settings = TrainingSettings(
        data=data,
        output=output if output is not None else Path("runs") / _run_name(network, recipe.value),
        network=network,
        recipe=chosen,
        steps=steps,
        seed=seed,
        device=device,
        resume=resume,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        start_from=start_from,
        distillation=_distillation(
            teacher, teacher_weight, teacher_outputs, teacher_cache, teacher_license
        ),
    )
    _run(run_training, settings)


def _distillation(
    teachers: list[Path] | None,
    weight: float | None,
    outputs: TeacherOutputs | None,
    cache: Path | None,
    license_name: str | None,
) -> Distillation | None:
    from ramedge.training.teachers.settings import Distillation

    if not teachers:
        if any(value is not None for value in (weight, outputs, cache, license_name)):
            raise UsageError("--teacher-weight, -outputs, -cache and -license need a --teacher.")
        return None
    distillation = Distillation(teachers=tuple(teachers), license=license_name, cache=cache)
    if weight is not None:
        distillation = dataclasses.replace(distillation, weight=weight)
    if outputs is not None:
        distillation = dataclasses.replace(distillation, outputs=outputs.value)
    if cache is not None and distillation.outputs != "cached":
        raise UsageError("--teacher-cache needs --teacher-outputs cached.")
    return distillation


def _parse_scales(scale: int | None, scales: str | None) -> tuple[int, ...]:
    if scale is not None and scales is not None:
        raise UsageError("Give either --scale or --scales, not both.")
    if scales is None:
        return (2 if scale is None else scale,)
    try:
        return tuple(int(part) for part in scales.split(","))
    except ValueError:
        raise UsageError(f"--scales {scales!r} is not a list of numbers such as 2,3,4.") from None


def _parse_numbers(option: str, text: str | None, example: str) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a list of numbers such as {example}.") from None


def _recipe(
    name: RecipeName,
    scales: tuple[int, ...],
    patch: int | None,
    batch: int | None,
    learning_rate: float | None,
    loss: LossChoice | None,
    decay: float | None,
    candidates: int | None,
) -> Recipe:
    from ramedge.training.recipe import RECIPES, paper_patch

    recipe = RECIPES[name.value]
    if name is RecipeName.paper:
        if decay is not None:
            raise UsageError("--decay needs --recipe fast: the recipe paper has no decay.")
        recipe = dataclasses.replace(recipe, patch=paper_patch(scales))
    return dataclasses.replace(
        recipe,
        patch=recipe.patch if patch is None else patch,
        batch=recipe.batch if batch is None else batch,
        learning_rate=recipe.learning_rate if learning_rate is None else learning_rate,
        loss=recipe.loss if loss is None else loss.value,
        decay_fraction=recipe.decay_fraction if decay is None else decay,
        candidates=recipe.candidates if candidates is None else candidates,
    )


def _run_name(network: NetworkConfig, recipe: str) -> str:
    return f"{network.name}_x{''.join(map(str, network.scales))}_{recipe}"


def _run(
    run_training: Callable[[TrainingSettings, Observer], TrainingResult], settings: TrainingSettings
) -> None:
    from ramedge.training.progress import Observer

    with console.progress_bar() as bar:
        decoding = bar.add_task("Decoding photos", total=None, info="")
        caching = bar.add_task("Teacher outputs", total=None, info="", visible=False)
        training = bar.add_task("Training", total=settings.steps, info="", visible=False)

        def on_photo(done: int, total: int) -> None:
            bar.update(decoding, completed=done, total=total)

        def on_teacher_output(done: int, total: int) -> None:
            bar.update(caching, completed=done, total=total, visible=True)
            if bar.disable and (done % _LINE_EVERY == 0 or done == total):
                console.stderr.print(f"teacher outputs: {done} of {total}")

        def on_step(progress: Progress) -> None:
            info = _info(progress)
            bar.update(training, completed=progress.step, info=info, visible=True)
            if bar.disable and (progress.step % _LINE_EVERY == 0 or progress.step == 1):
                seconds = (progress.steps - progress.step) * progress.seconds_per_step
                console.stderr.print(
                    f"step {progress.step}/{progress.steps} {info} "
                    f"{progress.seconds_per_step:.2f} s/step ETA {seconds / 60:.0f} min"
                )

        def on_compile() -> None:
            bar.update(
                training,
                info="compiling: minutes the first time (press Ctrl-C twice to stop)",
                visible=True,
            )
            if bar.disable:
                console.stderr.print(
                    "Compiling for this machine: minutes the first time. Press Ctrl-C twice to "
                    "stop at once."
                )

        observer = Observer(on_photo, on_step, console.notice, on_compile, on_teacher_output)
        result = run_training(settings, observer)
    measured_on = "held-out photos" if result.held_out else "the training photo"
    for scale, value in result.psnr.items():
        console.stdout.print(f"×{scale}: {value:.2f} dB PSNR-Y on {measured_on}")
    if result.throughput is not None:
        console.stderr.print(str(result.throughput))
    console.stdout.print(f"Weights: {result.weights}", markup=False)


def _info(progress: Progress) -> str:
    psnr = " ".join(f"×{scale} {value:.2f} dB" for scale, value in progress.psnr.items())
    loss = "" if math.isnan(progress.loss) else f"loss {progress.loss:.5f} "
    return f"{loss}{psnr}".strip()
