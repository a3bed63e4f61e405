"""The upscaler: pixels in, pixels out, whole or in tiles."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ramedge.ensemble import upscale_turned
from ramedge.errors import UsageError
from ramedge.media.frames import Pixels
from ramedge.memory import available_bytes, resident_bytes
from ramedge.runtimes.select import OpenedModel, RuntimeSettings, open_model
from ramedge.tiles import FrameTiler, OnTile, TileMode
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

    Whole frames by default. In tiles the result is the same: the network's channel attention
    looks at the whole frame, so the tiles are first passed over for the frame's statistic, see
    `ramedge.passes`; the halo is the network's receptive field.

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
        tile_mode: TileMode = "exact",
        memory: int | None = None,
    ) -> None:
        """Open the model.

        Args:
            settings: which network and how to run it; the shipped ×2 network by default.
            tile: side in low-resolution pixels; 0 never tiles; `None` tiles only where the
                whole frame does not fit in the free memory.
            ensemble: the mean over the 8 flips and quarter turns of each frame, or of each tile:
                somewhat better, 8 times as slow. See `ramedge.ensemble`.
            tile_mode: where the attention of tiles comes from, see `ramedge.tiles`.
            memory: bytes that this process may take; `None` is what is free.

        Raises:
            RamedgeError: the model cannot be opened, see `open_model`.
        """
        if tile is not None and tile != 0 and tile < MIN_TILE:
            raise UsageError(f"--tile takes auto, 0 (whole frame) or at least {MIN_TILE} pixels.")
        self.model: OpenedModel = open_model(settings or RuntimeSettings())
        self.tile = tile
        self.ensemble = ensemble
        self.memory = memory
        self.tile_mode = self._possible_mode(tile_mode)
        self.timing = Timing()
        self.notes: list[str] = list(self.model.runtime.notes)
        self.on_tile: OnTile = lambda _done, _total: None
        self._tiler: FrameTiler | None = None
        self._largest_tile = 0
        self._fast_because = "Each uses its own statistic, as asked for."
        if self.tile_mode != tile_mode:
            without = "The mean over flips and turns" if ensemble else "This model"
            self._fast_because = f"{without} has no tiles that share the frame's statistic."

    def _possible_mode(self, wanted: TileMode) -> TileMode:
        can = self.model.runtime.excitation is not None and not self.ensemble
        return wanted if can else "fast"

    def start_file(self) -> None:
        """The next frame has nothing to do with the one before; its notes begin anew."""
        self.notes = list(self.model.runtime.notes)
        self.cut()

    def cut(self) -> None:
        """The next frame has nothing to do with the one before."""
        if self._tiler is not None:
            self._tiler.reset()

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
        result = self._upscale_in_memory(pixels)
        self.timing.seconds += time.perf_counter() - started
        self.timing.frames += 1
        return result

    def _upscale_in_memory(self, pixels: Pixels) -> Pixels:
        """Upscale; where memory runs out, halve the tile and do the same frame again."""
        height, width = pixels.shape[:2]
        side = self._side(height, width)
        while True:
            try:
                return self._infer(pixels) if side == 0 else self._upscale_tiles(pixels, side)
            except MemoryError:
                side = (side if side else max(height, width)) // 2 // 16 * 16
                if side < MIN_TILE:
                    raise
                self._largest_tile = side
                self._say(f"Out of memory: the same frame again in tiles of {side} pixels.")

    def upscale_plane(self, plane: Pixels) -> Pixels:
        """`[H, W]` grey or alpha → `[s·H, s·W]`, through the network as three equal channels."""
        three: Pixels = np.repeat(plane[:, :, None], 3, axis=2)  # type: ignore[assignment]
        upscaled = self.upscale(three)
        # The three outputs differ by rounding and a trace of tint: their mean has neither.
        mean = upscaled.mean(axis=2, dtype=np.float32)
        result: Pixels = np.rint(mean).astype(plane.dtype)
        return result

    def _side(self, height: int, width: int) -> int:
        """Side of the tiles of a frame, 0 for the whole frame."""
        side = self._automatic_tile(height, width) if self.tile is None else self.tile
        if self._largest_tile:
            side = min(side, self._largest_tile) if side else self._largest_tile
        if side == 0:
            return 0
        plan = TilePlan(height, width, side, self.model.receptive_field)
        if (plan.source_height, plan.source_width) == (height, width):
            return 0  # every tile would read the whole frame
        return side

    def _automatic_tile(self, height: int, width: int) -> int:
        if self.memory is None:
            budget = available_bytes() * _MEMORY_SHARE
        else:
            budget = self.memory - resident_bytes()
        # The frame itself stands in memory beside the network: source, result, encoder's copy.
        budget = max(0.0, budget - 3 * height * width * (1 + 2 * self.scale**2))
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

    def _upscale_tiles(self, pixels: Pixels, side: int) -> Pixels:
        if self.tile_mode == "fast":
            return self._upscale_alone(pixels, side)
        halo = self.model.receptive_field
        if self._tiler is None:
            self._tiler = FrameTiler(self.model.runtime, halo, self.tile_mode)
        whose = "the whole frame" if self.tile_mode == "exact" else "the frame before"
        self._say(
            f"Tiles of {side} pixels with a halo of {halo}, all with the attention of {whose}."
        )
        return self._tiler.upscale(pixels, side, self.on_tile)

    def _upscale_alone(self, pixels: Pixels, side: int) -> Pixels:
        s = self.scale
        height, width, channels = pixels.shape
        plan = TilePlan(height, width, side, self.model.receptive_field)
        self._say(
            f"Tiles of {side} pixels with a halo of {plan.halo}. {self._fast_because} "
            "The result differs slightly from the whole frame's."
        )
        result: Pixels = np.empty((height * s, width * s, channels), pixels.dtype)
        for index, tile in enumerate(plan):
            upscaled = self._infer(pixels[tile.source.slices])
            kept = tile.interior.within(tile.source).scaled(s)
            result[tile.interior.scaled(s).slices] = upscaled[kept.slices]
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
