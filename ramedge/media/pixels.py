"""The pixels that travel through ramedge."""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB or grey pixels: `[H, W, 3]` (or `[H, W]` where said), uint8 0–255 or uint16 0–65535."""


def three_of(plane: Pixels) -> Pixels:
    """`[H, W]` as three equal channels, `[H, W, 3]`. A view."""
    return cast("Pixels", np.broadcast_to(plane[:, :, None], (*plane.shape, 3)))


def plane_of(upscaled: Pixels) -> Pixels:
    """The plane `[H, W]` that was upscaled as three equal channels."""
    # The three outputs differ by rounding and a trace of tint: their mean has neither.
    mean = upscaled.mean(axis=2, dtype=np.float32)
    result: Pixels = np.rint(mean).astype(upscaled.dtype)
    return result
