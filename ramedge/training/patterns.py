"""Patterns between the photos: checkers, stripes, dithering, which no folder of photos holds.

A network that never saw them answers a one-pixel checkerboard with values far outside the range,
and through the pooled variance spoils the whole frame. So in a few patches of a batch a rectangle
of the low resolution becomes a pattern, and of the high resolution its bicubic interpolation: what
is asked there is no detail, only to stay sane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float32]

_LARGEST_PERIOD = 4
_STREAM = 1
"""Apart from the patches' own random numbers, which stay what they were without patterns."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Puts patterns into batches; which and where depends on (seed, step) alone.

    Attributes:
        share: of the patches that get one, 0 to 1.
        batch: patches of all processes together; this one holds every `world`-th from `rank` on.
    """

    share: float
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    def apply(self, step: int, low: Tensor, high: Tensor) -> list[int]:
        """Change some patches of a step's batch in place; returns which, by their place in it.

        Args:
            step: of the batch.
            low: `[B, 3, P, P]` float32 in [0, 1].
            high: `[B, 3, s·P, s·P]`, its high resolution.
        """
        rng = np.random.default_rng((self.seed, step, _STREAM))
        changed: list[int] = []
        for index in np.flatnonzero(rng.random(self.batch) < self.share):
            own, place = index % self.world == self.rank, index // self.world
            patch = np.random.default_rng((self.seed, step, _STREAM, int(index)))
            if own:
                _put(patch, low[place], high[place])
                changed.append(int(place))
        return changed


def _put(rng: np.random.Generator, low: Tensor, high: Tensor) -> None:
    side, scale = low.shape[-1], high.shape[-1] // low.shape[-1]
    rows, columns = _span(rng, side), _span(rng, side)
    photo = low.cpu().numpy()
    pattern = _KINDS[int(rng.integers(len(_KINDS)))](rng, photo)
    low[:, rows, columns] = torch.from_numpy(pattern).to(low.device)[:, rows, columns]
    smooth = F.interpolate(low[None], scale_factor=scale, mode="bicubic", align_corners=False)
    part = (slice(None), _scaled(rows, scale), _scaled(columns, scale))
    high[part] = smooth[0].clamp(0.0, 1.0)[part]


def _span(rng: np.random.Generator, side: int) -> slice:
    """The whole side half of the time, else a part of it."""
    if rng.random() < 0.5:
        return slice(0, side)
    first, last = sorted(int(n) for n in rng.integers(0, side, size=2))
    return slice(first, last + 1)


def _scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _periodic(rng: np.random.Generator, photo: Floats) -> Floats:
    """Two colours in a repeated cell: half of the time checkers, stripes or plain, else any."""
    if rng.random() < 0.5:
        cell = np.array(_HARDEST[int(rng.integers(len(_HARDEST)))])
    else:
        cell = rng.integers(0, 2, size=rng.integers(1, _LARGEST_PERIOD + 1, size=2))
    side = photo.shape[-1]
    chosen = np.tile(cell, (side, side))[:side, :side]
    return np.ascontiguousarray(_colors(rng)[chosen].transpose(2, 0, 1).astype(np.float32))


def _colors(rng: np.random.Generator) -> NDArray[np.float64]:
    """`[2, 3]`: any two half of the time, else black and white or two that are saturated."""
    kind = int(rng.integers(4))
    if kind < 2:
        return rng.random((2, 3))
    if kind == 2:
        return np.array([[0.0] * 3, [1.0] * 3])
    return rng.integers(0, 2, size=(2, 3)).astype(np.float64)


def _dithered(rng: np.random.Generator, photo: Floats) -> Floats:
    """The photo in black and white or in eight colours, by an ordered or a random threshold."""
    side = photo.shape[-1]
    threshold = np.tile(_BAYER, (side, side))[:side, :side]
    if rng.random() < 0.5:
        threshold = rng.random((side, side))
    values = photo if rng.random() < 0.5 else np.broadcast_to(photo.mean(axis=0), photo.shape)
    return (values > threshold).astype(np.float32)


_HARDEST = ([[0, 1], [1, 0]], [[0, 1]], [[0], [1]], [[0]])
"""One-pixel checkers and stripes, which a random cell hardly ever is, and one plain colour."""

_BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) + 0.5) / 16
_KINDS: tuple[Callable[[np.random.Generator, Floats], Floats], ...] = (_periodic, _dithered)
