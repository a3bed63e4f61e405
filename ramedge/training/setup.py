"""Everything a run needs before its first step: photos, teachers, network, optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from ramedge.errors import TrainingError
from ramedge.network.srram import SRRAM
from ramedge.network.weights import Weights, load_weights
from ramedge.training.acceleration import Acceleration, accelerate
from ramedge.training.distributed import Processes
from ramedge.training.optimizer import Optimizer, squeeze_weights
from ramedge.training.photos import PhotoSet, load_photos
from ramedge.training.progress import Notices, Observer
from ramedge.training.run_files import find_checkpoint
from ramedge.training.settings import TrainingSettings, fixed_settings
from ramedge.training.state import TrainingState
from ramedge.training.step import TrainingStep
from ramedge.training.teachers.cache import add_outputs
from ramedge.training.teachers.check import check_teachers
from ramedge.training.teachers.group import Teachers, load_teachers
from ramedge.training.validation import Validator


@dataclass(frozen=True, slots=True)
class Run:
    """A run in one process, ready for its next step.

    Attributes:
        fixed: settings that must not change when it is resumed.
        training_step: does one optimisation step.
        validate: adds an entry to the history of the state.
    """

    settings: TrainingSettings
    observer: Observer
    group: Processes
    notices: Notices
    photos: PhotoSet
    fixed: dict[str, Any]
    acceleration: Acceleration
    state: TrainingState
    training_step: TrainingStep
    validate: Validator


def set_up(settings: TrainingSettings, observer: Observer, group: Processes) -> Run:
    """Load and build what the run needs; restore its checkpoint where it is resumed.

    Raises:
        InputError: the photos cannot be used.
        UsageError: the teachers cannot be used.
        TrainingError: a checkpoint or the weights to start from do not fit.
    """
    notices = Notices(observer.on_notice)
    checkpoint = find_checkpoint(settings, notices)
    teachers = _load_teachers(settings, group)
    recipe, scales = settings.recipe, settings.network.scales
    photos = load_photos(settings.data, scales, recipe.patch, observer.on_photo, recipe.reduced)
    for notice in photos.notices:
        notices.add(notice)
    start = None if settings.start_from is None else load_weights(settings.start_from)
    fixed = fixed_settings(settings, photos, start, teachers)
    torch.manual_seed(settings.seed)
    network = SRRAM(settings.network).to(group.device)
    _initialize(network, settings, start)
    acceleration = accelerate(recipe, group.device)
    for notice in acceleration.notices:
        notices.add(notice)
    if acceleration.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(network) if recipe.ema else None
    state = TrainingState(network, ema, Optimizer(network, recipe))
    if checkpoint is not None:
        state.restore(checkpoint, settings, fixed)
    training_step = TrainingStep(settings, state, acceleration, group, teachers)
    if teachers is not None:
        photos = _prepare_teachers(teachers, photos, settings, acceleration, observer, group)
    return Run(
        settings=settings,
        observer=observer,
        group=group,
        notices=notices,
        photos=photos,
        fixed=fixed,
        acceleration=acceleration,
        state=state,
        training_step=training_step,
        validate=Validator(photos.validation, settings.output, group, notices),
    )


def _load_teachers(settings: TrainingSettings, group: Processes) -> Teachers | None:
    if settings.distillation is None:
        return None
    return load_teachers(settings.distillation, settings.network.scales, group.device)


def _initialize(network: SRRAM, settings: TrainingSettings, start: Weights | None) -> None:
    """Scale the random weights after the recipe, or load those to start from."""
    if start is None:
        with torch.no_grad():
            for weight in squeeze_weights(network):
                weight.mul_(settings.recipe.squeeze_init)
        return
    wanted = settings.network
    if replace(start.config, scales=wanted.scales) != wanted:
        raise TrainingError(
            f"{settings.start_from} holds {start.config.name}, which does not fit "
            f"{wanted.name}: train a network of the same blocks, channels and attention."
        )
    own = network.state_dict()
    found = start.network.state_dict()
    network.load_state_dict(own | {k: v for k, v in found.items() if k in own})


def _prepare_teachers(
    teachers: Teachers,
    photos: PhotoSet,
    settings: TrainingSettings,
    acceleration: Acceleration,
    observer: Observer,
    group: Processes,
) -> PhotoSet:
    """Test the teachers on photos; then compile them, or add their outputs to the photos."""
    check_teachers(teachers, photos.validation or photos.training, group.device)
    distillation = settings.distillation
    if distillation is not None and distillation.outputs == "cached":
        training = add_outputs(
            photos.training,
            teachers,
            distillation.cache_folder,
            group,
            observer.on_teacher_output,
        )
        return replace(photos, training=training)
    if acceleration.compile:
        teachers.compile()
    return photos
