"""Synthetic patterns in training patches: checkers, stripes, dithering, which photos lack.

A network that was never trained on them answers a one-pixel checkerboard with values far outside
the range, and through the pooled variance this changes the whole frame. So in a few patches of a
batch a rectangle of the low-resolution patch becomes a pattern, and the same rectangle of the
high-resolution patch its bicubic interpolation: the target holds no detail there, only values in
range.
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
"""A random stream of its own, so that patterns do not change which patches are drawn."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Adds patterns to batches; they depend on (seed, step) alone.

    Attributes:
        share: share of the patches that get one, 0 to 1.
        batch: patches of all processes; this process has every `world`-th, starting at `rank`.
    """

    share: float
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    def apply(self, step: int, low: Tensor, high: Tensor) -> list[int]:
        """Change some patches of a batch in place; returns their indices.

        Args:
            step: step of the batch.
            low: `[B, 3, P, P]` float32 in [0, 1].
            high: `[B, 3, s·P, s·P]`, the same patches in high resolution.
        """
        rng = np.random.default_rng((self.seed, step, _STREAM))
        changed: list[int] = []
        for index in np.flatnonzero(rng.random(self.batch) < self.share):
            own, local = index % self.world == self.rank, index // self.world
            patch_rng = np.random.default_rng((self.seed, step, _STREAM, int(index)))
            if own:
                _add_pattern(patch_rng, low[local], high[local])
                changed.append(int(local))
        return changed


def _add_pattern(rng: np.random.Generator, low: Tensor, high: Tensor) -> None:
    side, scale = low.shape[-1], high.shape[-1] // low.shape[-1]
    rows, columns = _span(rng, side), _span(rng, side)
    photo = low.cpu().numpy()
    pattern = _KINDS[int(rng.integers(len(_KINDS)))](rng, photo)
    low[:, rows, columns] = torch.from_numpy(pattern).to(low.device)[:, rows, columns]
    smooth = F.interpolate(low[None], scale_factor=scale, mode="bicubic", align_corners=False)
    part = (slice(None), _scaled(rows, scale), _scaled(columns, scale))
    high[part] = smooth[0].clamp(0.0, 1.0)[part]


def _span(rng: np.random.Generator, side: int) -> slice:
    """With probability ½ the whole side, otherwise a part of it."""
    if rng.random() < 0.5:
        return slice(0, side)
    first, last = sorted(int(n) for n in rng.integers(0, side, size=2))
    return slice(first, last + 1)


def _scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _periodic(rng: np.random.Generator, photo: Floats) -> Floats:
    """Two colours in a repeated cell: with probability ½ checkers, stripes or plain."""
    if rng.random() < 0.5:
        cell = np.array(_HARDEST[int(rng.integers(len(_HARDEST)))])
    else:
        cell = rng.integers(0, 2, size=rng.integers(1, _LARGEST_PERIOD + 1, size=2))
    side = photo.shape[-1]
    chosen = np.tile(cell, (side, side))[:side, :side]
    return np.ascontiguousarray(_colors(rng)[chosen].transpose(2, 0, 1).astype(np.float32))


def _colors(rng: np.random.Generator) -> NDArray[np.float64]:
    """`[2, 3]`: with probability ½ random, otherwise black and white or two saturated colours."""
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
"""One-pixel checkers and stripes, which random cells rarely give, and one plain colour."""

_BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) + 0.5) / 16
_KINDS: tuple[Callable[[np.random.Generator, Floats], Floats], ...] = (_periodic, _dithered)
