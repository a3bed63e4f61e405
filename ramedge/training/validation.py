"""Validation: PSNR-Y on held-out photos, its history, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ramedge.network.srram import SRRAM
from ramedge.quality.metrics import psnr_y
from ramedge.training.batches import to_image
from ramedge.training.distributed import Processes
from ramedge.training.photos import Photo, Pixels, validation_pairs
from ramedge.training.pictures import ROWS, write_crops, write_curves
from ramedge.training.progress import Notices
from ramedge.training.run_files import CURVES_NAME
from ramedge.training.state import TrainingState


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


class Validator:
    """Validates the averaged weights of a run and writes pictures into its folder."""

    def __init__(
        self, photos: Sequence[Photo], folder: Path, group: Processes, notices: Notices
    ) -> None:
        self._photos = photos
        self._folder = folder
        self._group = group
        self._notices = notices
        self._draws_curves = True

    def __call__(self, state: TrainingState) -> None:
        """Add an entry to the history. The first process validates, the others wait for it."""
        if self._group.is_first and self._photos:
            results = {
                scale: validate(state.evaluated, self._photos, scale, self._group.device)
                for scale in state.network.config.scales
            }
            entry: dict[str, float] = {"step": state.step, "loss": state.losses.mean}
            for scale, result in results.items():
                entry[f"psnr_x{scale}"] = result.psnr
            state.history.append(entry)
            self._write_pictures(results, state.history)
        self._group.barrier()

    def _write_pictures(
        self, results: Mapping[int, Validation], history: Sequence[Mapping[str, float]]
    ) -> None:
        for scale, result in results.items():
            write_crops(result.shown, self._folder / f"validation_x{scale}.png")
        try:
            write_curves(history, list(results), self._folder / CURVES_NAME)
        except ModuleNotFoundError as missing:
            if self._draws_curves:
                self._notices.add(f"{missing.name} is not installed: no {CURVES_NAME}.")
            self._draws_curves = False
