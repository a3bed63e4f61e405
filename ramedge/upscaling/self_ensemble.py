"""Geometric self-ensemble: the mean of a network's outputs on the 8 flips and turns of a picture.

Timofte et al., "Seven ways to improve example-based single image super resolution" (CVPR 2016);
the `+` of Lim et al., "Enhanced deep residual networks for single image super-resolution" (EDSR,
CVPR Workshops 2017, "Geometric Self-ensemble"). The mean is taken of the bare floats: clipped and
rounded once, after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramedge.media.pixels import Pixels

Images = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Turn:
    """One symmetry of the square: quarter turns anticlockwise, then perhaps a mirror.

    >>> images = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    >>> Turn(quarters=1, mirrored=True).apply(images).shape
    (1, 1, 3, 2)
    >>> all((turn.undo(turn.apply(images)) == images).all() for turn in TURNS)
    True
    """

    quarters: int
    mirrored: bool

    def apply(self, images: Images) -> Images:
        """`[N, C, H, W]` → turned, `[N, C, W, H]` for odd quarters. A view."""
        turned: Images = np.rot90(images, self.quarters, (2, 3))
        return turned[:, :, :, ::-1] if self.mirrored else turned

    def undo(self, images: Images) -> Images:
        """The inverse of `apply`. A view."""
        upright = images[:, :, :, ::-1] if self.mirrored else images
        turned: Images = np.rot90(upright, -self.quarters, (2, 3))
        return turned


TURNS = tuple(Turn(quarters, mirrored) for quarters in (0, 2, 1, 3) for mirrored in (False, True))
"""All 8, those that keep height and width first: a change of shape costs some runtimes time."""


def self_ensemble(network: Callable[[Images], Images], images: Images) -> Images:
    """The mean over `TURNS` of a network of any scale s.

    `[N, 3, H, W]` float32 → `[N, 3, s·H, s·W]` float32; `network` is called 8 times, one turn at a
    time, so it takes 8 times as long and hardly more memory.
    """
    total: Images | None = None
    for turn in TURNS:
        output = turn.undo(network(turn.apply(images)))
        # The first output is the upright one: the sum gets an array of its own.
        total = output.copy() if total is None else np.add(total, output, out=total)
    assert total is not None
    total *= np.float32(1 / len(TURNS))
    return total


def upscale_turned(network: Callable[[Images], Images], pixels: Pixels) -> Pixels:
    """`self_ensemble` of integer pixels.

    `[H, W, 3]` RGB uint8 or uint16 → `[s·H, s·W, 3]` of the same dtype, clipped to its range, then
    rounded half to even. `network` is given `[1, 3, H, W]` float32 in [0, 1].
    """
    peak = np.float32(np.iinfo(pixels.dtype).max)
    images = pixels.transpose(2, 0, 1)[None].astype(np.float32) * (np.float32(1) / peak)
    mean = self_ensemble(network, images)[0].transpose(1, 2, 0)
    levels = np.rint(np.clip(mean * peak, 0, peak))
    # astype keeps the strides of the transposed array; encoders want rows of whole pixels.
    result: Pixels = levels.astype(pixels.dtype, order="C")
    return result
