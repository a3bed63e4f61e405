"""The pixels that travel through ramedge."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB or grey pixels: `[H, W, 3]` (or `[H, W]` where said), uint8 0–255 or uint16 0–65535."""
