"""The upscaler: pixels in, pixels out, whole or in tiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ramedge.ensemble import upscale_turned
from ramedge.errors import UsageError
from ramedge.media.frames import Pixels
from ramedge.memory import available_bytes
from ramedge.runtimes.select import OpenedModel, RuntimeSettings, open_model
from ramedge.tiling import TilePlan

_MEMORY_SHARE = 0.7
"""Share of the free memory that the network may take; the rest is for frames and codecs."""
MIN_TILE = 16
"""Smallest tile: around it 34 pixels are read on each side."""

TileOption = int | None
"""Side of a tile in low-resolution pixels, 0 for the whole frame, `None` for automatic."""


@dataclass(slots=True)
class Timing:
    """Time spent in the network alone, to be compared with the time of everything."""

    seconds: float = 0.0
    frames: int = 0


class Upscaler:
    """Upscales RGB pixels with one network.

    Whole frames by default: the network's channel attention looks at the whole frame, so a
    tile alone is, strictly, another network. With tiles each sees its own statistic; the halo
    is the network's receptive field.

    >>> import numpy as np
    >>> from ramedge import Upscaler
    >>> with Upscaler() as upscaler:
    ...     upscaler.upscale(np.zeros((4, 6, 3), np.uint8)).shape
    (8, 12, 3)
    """

    def __init__(
        self,
        settings: RuntimeSettings | None = None,
        tile: TileOption = None,
        ensemble: bool = False,
    ) -> None:
        """Open the model.

        Args:
            settings: which network and how to run it; the shipped ×2 network by default.
            tile: side in low-resolution pixels; 0 never tiles; `None` tiles only where the
                whole frame does not fit in the free memory.
            ensemble: the mean over the 8 flips and quarter turns of each frame, or of each tile:
                somewhat better, 8 times as slow. See `ramedge.ensemble`.

        Raises:
            RamedgeError: the model cannot be opened, see `open_model`.
        """
        if tile is not None and tile != 0 and tile < MIN_TILE:
            raise UsageError(f"--tile takes auto, 0 (whole frame) or at least {MIN_TILE} pixels.")
        self.model: OpenedModel = open_model(settings or RuntimeSettings())
        self.tile = tile
        self.ensemble = ensemble
        self.timing = Timing()
        self.notes: list[str] = list(self.model.runtime.notes)
        self.on_tile: Callable[[int, int], None] | None = None

    @property
    def scale(self) -> int:
        """Enlargement, 2, 3 or 4."""
        return self.model.runtime.scale

    @property
    def reason(self) -> str:
        """One line: what runs, where, and why."""
        turns = ", mean over 8 flips and turns" if self.ensemble else ""
        return f"{self.model.reason}{turns}"

    def upscale(self, pixels: Pixels) -> Pixels:
        """`[H, W, 3]` RGB uint8 or uint16 → `[s·H, s·W, 3]` of the same dtype.

        Raises:
            UsageError: another shape or dtype.
        """
        if pixels.ndim != 3:
            raise UsageError(f"Expected pixels [H, W, 3], got {list(pixels.shape)}.")
        started = time.perf_counter()
        plan = self._plan(pixels.shape[0], pixels.shape[1])
        result = self._infer(pixels) if plan is None else self._upscale_tiles(pixels, plan)
        self.timing.seconds += time.perf_counter() - started
        self.timing.frames += 1
        return result

    def upscale_plane(self, plane: Pixels) -> Pixels:
        """`[H, W]` grey or alpha → `[s·H, s·W]`, through the network as three equal channels."""
        three: Pixels = np.repeat(plane[:, :, None], 3, axis=2)  # type: ignore[assignment]
        upscaled = self.upscale(three)
        # The three outputs differ by rounding and a trace of tint: their mean has neither.
        mean = upscaled.mean(axis=2, dtype=np.float32)
        result: Pixels = np.rint(mean).astype(plane.dtype)
        return result

    def _plan(self, height: int, width: int) -> TilePlan | None:
        """The tiles of a frame, `None` for the whole frame."""
        tile = self._automatic_tile(height, width) if self.tile is None else self.tile
        if tile == 0:
            return None
        plan = TilePlan(height, width, tile, self.model.receptive_field)
        if (plan.source_height, plan.source_width) == (height, width):
            return None  # every tile would read the whole frame
        self._say(
            f"Tiles of {tile} pixels with a halo of {self.model.receptive_field}: each uses its "
            "own attention statistic, so the result differs slightly from the whole frame's."
        )
        return plan

    def _automatic_tile(self, height: int, width: int) -> int:
        budget = available_bytes() * _MEMORY_SHARE
        pixels = int(budget / bytes_per_pixel(self.scale))
        if height * width <= pixels:
            return 0
        side = int(pixels**0.5) - 2 * self.model.receptive_field
        tile = max(MIN_TILE, side // 16 * 16)
        self._say(f"{width}×{height} does not fit in {budget / 2**30:.1f} GiB of memory whole.")
        return tile

    def _infer(self, pixels: Pixels) -> Pixels:
        runtime = self.model.runtime
        if self.ensemble:
            fp32 = pixels.dtype == np.uint16  # as `Runtime.infer` has it
            return upscale_turned(lambda images: runtime.infer_float(images, fp32), pixels)
        frame: Pixels = runtime.infer(pixels[None])[0]
        return frame

    def _upscale_tiles(self, pixels: Pixels, plan: TilePlan) -> Pixels:
        s = self.scale
        height, width, channels = pixels.shape
        result = np.empty((height * s, width * s, channels), pixels.dtype)
        for index, tile in enumerate(plan):
            upscaled = self._infer(pixels[tile.source.slices])
            kept = tile.interior.within(tile.source).scaled(s)
            result[tile.interior.scaled(s).slices] = upscaled[kept.slices]
            if self.on_tile is not None:
                self.on_tile(index + 1, plan.count)
        return result

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def close(self) -> None:
        """Free the network."""
        self.model.runtime.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def bytes_per_pixel(scale: int) -> int:
    """Peak memory of R10C64 in FP32 per low-resolution pixel, whole frame, OpenVINO on a CPU.

    Measured for ×2 from 256×256 to 1024×1024: 3,114 to 3,151 bytes (`benchmarks/memory.py`). The
    64 upscaled features stand in memory twice, before and after the shuffle; the rest is trunk.
    """
    features = 64 * 4 * scale * scale
    return 1_150 + 2 * features
