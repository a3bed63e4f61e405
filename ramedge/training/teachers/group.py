"""The teachers of a run: one for each of its scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ramedge.errors import UsageError
from ramedge.training.batches import Patches
from ramedge.training.teachers.model import Teacher, load_teacher
from ramedge.training.teachers.settings import Distillation


class Teachers:
    """One teacher for each scale."""

    def __init__(self, by_scale: dict[int, Teacher]) -> None:
        self.by_scale = by_scale

    def __call__(self, low: Tensor, scale: int) -> Tensor:
        """Upscale with the teacher of `scale`; the contract is that of `Teacher`."""
        return self.by_scale[scale](low, scale)

    def target(self, batch: Patches) -> Tensor:
        """The output to learn from, as `batch.high`: cached, or computed now.

        It is the truth where the patches hold a synthetic pattern: a teacher that was trained on
        photos is no guide there.
        """
        output = batch.teacher_output
        if output is None:
            output = self(batch.low, batch.scale)
        for index in batch.patterned:
            output[index] = batch.high[index]
        return output

    def _each(self) -> list[Teacher]:
        return list({id(teacher): teacher for teacher in self.by_scale.values()}.values())

    def compile(self) -> None:
        """Compile the networks that are known to compile, for patches of one size."""
        for teacher in self._each():
            teacher.compile()

    def as_list(self) -> list[dict[str, Any]]:
        """The card of each, see `TeacherCard`, in the order of the scales."""
        return [teacher.card.as_dict() for teacher in self._each()]


def load_teachers(
    distillation: Distillation, scales: Sequence[int], device: torch.device
) -> Teachers:
    """Load the teachers and give each scale its own.

    Raises:
        WeightsError: a file cannot be read, or holds no known network.
        UsageError: a scale has no teacher or two, or a teacher is for another scale.
        MissingExtraError: spandrel is needed and not installed.
    """
    by_scale: dict[int, Teacher] = {}
    for path in distillation.teachers:
        teacher = load_teacher(path, device, distillation.license)
        used = [scale for scale in scales if scale in teacher.card.scales]
        if not used:
            raise UsageError(
                f"The teacher {path} is for {_listed(teacher.card.scales)}, not for "
                f"{_listed(scales)}."
            )
        for scale in used:
            if scale in by_scale:
                raise UsageError(
                    f"Both {by_scale[scale].path} and {path} are teachers for ×{scale}: give one."
                )
            by_scale[scale] = teacher
    missing = [scale for scale in scales if scale not in by_scale]
    if missing:
        raise UsageError(
            f"There is no teacher for {_listed(missing)}: give --teacher once for each scale."
        )
    return Teachers({scale: by_scale[scale] for scale in scales})


def _listed(scales: Sequence[int]) -> str:
    return ", ".join(f"×{scale}" for scale in scales)
