"""PSNR-Y on held-out photos, and the pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ramedge.network.srram import SRRAM
from ramedge.quality.metrics import psnr_y
from ramedge.training.batches import to_image
from ramedge.training.photos import Photo, Pixels, validation_pairs
from ramedge.training.pictures import ROWS


@dataclass(frozen=True, slots=True)
class Validation:
    """Result for one scale.

    Attributes:
        psnr: mean PSNR-Y in dB.
        shown: (LR, output, truth) of the first photos, `[H, W, 3]` uint8.
    """

    psnr: float
    shown: list[tuple[Pixels, Pixels, Pixels]]


@torch.no_grad()
def validate(
    network: SRRAM, photos: Sequence[Photo], scale: int, device: torch.device
) -> Validation:
    """Upscale the centre of each photo in FP32 and compare it with the truth."""
    values = []
    shown: list[tuple[Pixels, Pixels, Pixels]] = []
    for low, high in validation_pairs(photos, scale):
        image = to_image(torch.from_numpy(np.array(low[None])), channels_last=False)
        output = network(image.to(device), scale)[0]
        pixels = output.clamp(0, 1).mul(255).round().permute(1, 2, 0).byte().cpu().numpy()
        values.append(psnr_y(pixels, high, scale))
        if len(shown) < ROWS:
            shown.append((low, pixels, high))
    return Validation(psnr=sum(values) / len(values), shown=shown)
