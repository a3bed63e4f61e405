"""A test of the teachers on real photos before a training starts.

A weights file tells the scale of its network, but neither its value range nor its channel order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ramedge.errors import UsageError
from ramedge.training.batches import to_image
from ramedge.training.photos import Photo, Pixels
from ramedge.training.teachers.group import Teachers
from ramedge.training.teachers.model import Teacher

PHOTOS = 5
"""Photos that a teacher is tested on."""
CROP = 96
"""Largest side of the low-resolution crop of each, in pixels."""
SWAPPED_GAIN = 0.25
"""Gain by swapped channels, in dB, above which a teacher is refused. Networks for RGB were measured
to lose 0.03 to 0.07 dB, and one to gain 0.09: a smaller gain may be chance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """PSNR in dB against the truth, over all channels and all crops.

    Attributes:
        teacher: of the teacher.
        swapped: of the teacher with BGR input, its output read as BGR.
        bicubic: of Pillow's bicubic.
    """

    teacher: float
    swapped: float
    bicubic: float


def check_teachers(teachers: Teachers, photos: Sequence[Photo], device: torch.device) -> None:
    """Refuse teachers that do not beat bicubic, or that do clearly better with BGR.

    Raises:
        UsageError: which one and why.
    """
    for scale, teacher in teachers.by_scale.items():
        check_trial(teacher, scale, try_teacher(teacher, photos, scale, device))


def check_trial(teacher: Teacher, scale: int, trial: Trial) -> None:
    """Refuse a teacher by what was measured of it.

    Raises:
        UsageError: it does not beat bicubic, or does clearly better with BGR.
    """
    if trial.teacher <= trial.bicubic:
        raise UsageError(
            f"The teacher {teacher.path} does not beat bicubic at ×{scale}: {trial.teacher:.2f} "
            f"against {trial.bicubic:.2f} dB on these photos. It must take and give RGB in [0, 1] "
            "and be trained for bicubic downscaling."
        )
    if trial.swapped > trial.teacher + SWAPPED_GAIN:
        raise UsageError(
            f"The teacher {teacher.path} expects BGR: {trial.swapped:.2f} dB against "
            f"{trial.teacher:.2f} with RGB at ×{scale}. Use one that is trained for RGB."
        )


def try_teacher(
    teacher: Teacher, photos: Sequence[Photo], scale: int, device: torch.device
) -> Trial:
    """Upscale the centres of up to `PHOTOS` photos and measure them."""

    def upscale(low: Pixels) -> Tensor:
        image = to_image(torch.from_numpy(np.array(low[None])), channels_last=False)
        return teacher(image.to(device), scale)[0].permute(1, 2, 0).cpu()

    def bicubic(low: Pixels) -> Tensor:
        height, width = low.shape[:2]
        size = (width * scale, height * scale)
        enlarged = Image.fromarray(low).resize(size, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(enlarged, np.float32) / 255.0)

    pairs = [centre_crop(photo, scale) for photo in photos[:PHOTOS]]
    return Trial(
        teacher=_psnr(upscale, pairs),
        swapped=_psnr(lambda low: upscale(low[..., ::-1]).flip(-1), pairs),
        bicubic=_psnr(bicubic, pairs),
    )


def centre_crop(photo: Photo, scale: int) -> tuple[Pixels, Pixels]:
    """(LR, HR) of the centre, at most `CROP` low-resolution pixels a side."""
    low, high = photo.low[scale], photo.high(scale)
    y, x = (max(0, (side - CROP) // 2) for side in low.shape[:2])
    rows, columns = slice(y * scale, (y + CROP) * scale), slice(x * scale, (x + CROP) * scale)
    return low[y : y + CROP, x : x + CROP], high[rows, columns]


def _psnr(upscale: Callable[[Pixels], Tensor], pairs: Sequence[tuple[Pixels, Pixels]]) -> float:
    errors: list[NDArray[np.float32]] = []
    for low, high in pairs:
        difference = upscale(low).numpy() - high.astype(np.float32) / 255.0
        errors.append(np.square(difference).ravel())
    mean = float(np.concatenate(errors).mean())
    return math.inf if mean == 0.0 else -10.0 * math.log10(mean)
