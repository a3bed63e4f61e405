"""The upscaler: pixels in, pixels out, whole or in tiles."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType, TracebackType

import numpy as np

from ramedge.ensemble import upscale_turned
from ramedge.errors import UsageError
from ramedge.estimate import MIN_TILE, TileBudget, describe_plan
from ramedge.media.frames import Pixels, plane_of, three_of
from ramedge.memory import MemoryLimit
from ramedge.passes import TileMode
from ramedge.runtimes.select import OpenedModel, RuntimeSettings, open_model
from ramedge.tiles import FrameTiler, LoneTiler, OnTile, Tiler
from ramedge.tiling import TilePlan

STREAMED_PIXELS = 16_000_000
"""Results of so many pixels, in tiles, are written as they are made where the format allows."""

_ATTENTION: Mapping[TileMode, str] = MappingProxyType(
    {
        "exact": ", all with the attention of the whole frame.",
        "follow": ", all with the attention of the frame before, the first with its own.",
        "fast": ". {why} The result differs slightly from the whole frame's.",
    }
)

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
    `ramedge.passes`; how far a tile reads beyond its border is in `ramedge.halos`.

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
        self._memory = MemoryLimit(memory)
        self.tile_mode = self._possible_mode(tile_mode)
        self.timing = Timing()
        self.notes: list[str] = list(self.model.runtime.notes)
        self.on_tile: OnTile = lambda _done, _total: None
        self.on_plan: Callable[[str], None] | None = None
        self._described: set[TilePlan] = set()
        self._tiler = self._make_tiler()
        self._automatic: dict[tuple[int, int, str, bool], int] = {}
        self._largest_tile = 0
        self._fast_because = "Each uses its own statistic, as asked for."
        if self.tile_mode != tile_mode:
            without = "The mean over flips and turns" if ensemble else "This model"
            self._fast_because = f"{without} has no tiles that share the frame's statistic."

    def _possible_mode(self, wanted: TileMode) -> TileMode:
        can = self.model.runtime.excitation is not None and not self.ensemble
        return wanted if can else "fast"

    def _make_tiler(self) -> Tiler:
        runtime, halos = self.model.runtime, self.model.halos
        if self.tile_mode == "fast":
            return LoneTiler(self._infer, runtime.scale, halos)
        return FrameTiler(runtime, halos, self.tile_mode)

    def start_file(self) -> None:
        """The next frame has nothing to do with the one before; its notes begin anew."""
        self.notes = list(self.model.runtime.notes)
        self._automatic.clear()
        self.cut()

    def cut(self) -> None:
        """The next frame has nothing to do with the one before."""
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

    def strip_tile(self, pixels: Pixels) -> int:
        """Side of the tiles in which `bands` should upscale an image, 0 where `upscale` should.

        Large results are made in strips. Not where the network takes the frame whole: then the
        result is small beside the network.
        """
        height, width = pixels.shape[:2]
        large = height * width * self.scale**2 >= STREAMED_PIXELS
        return self._side(pixels, in_strips=True) if large else 0

    def bands(self, pixels: Pixels, side: int) -> Iterator[Pixels]:
        """As `upscale`, in tiles, but the finished rows, `[rows, s·W, 3]`, from top to bottom.

        The result never stands in memory whole. Where memory runs out, call `halve_tile` and begin
        anew.

        Raises:
            MemoryError: the device's memory does not suffice.
        """
        self._say_tiles(pixels, side)
        bands = self._tiler.bands(pixels, side, self.on_tile)
        while True:
            started = time.perf_counter()
            band = next(bands, None)
            self.timing.seconds += time.perf_counter() - started
            if band is None:
                break
            yield band
        self.timing.frames += 1

    def halve_tile(self, pixels: Pixels) -> None:
        """Take tiles half as large from now on.

        Raises:
            MemoryError: they are as small as can be.
        """
        # A frame that a tile and its halo cover is run whole, although tiles were halved before.
        side = self._side(pixels) or self._largest_tile or max(pixels.shape[:2])
        side = side // 2 // 16 * 16
        if side < MIN_TILE:
            raise MemoryError
        self._largest_tile = side
        self._say(f"Out of memory: the same frame again in tiles of {side} pixels.")

    def upscale_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`upscale` for the frames of a video, in order; several in flight where that is faster.

        Where memory runs out, the frames in flight and all after them are done in tiles.
        """
        waiting: deque[Pixels] = deque()
        coming = iter(frames)
        for first in coming:
            if self.ensemble or first.ndim != 3 or self._side(first) != 0:
                yield self.upscale(first)
                continue
            taken = self._taken(chain([first], coming), waiting)
            try:
                yield from self._timed(self.model.runtime.infer_many(taken), waiting)
            except MemoryError:
                yield from map(self.upscale, tuple(waiting))
                waiting.clear()

    def _taken(self, frames: Iterable[Pixels], waiting: deque[Pixels]) -> Iterator[Pixels]:
        """The frames as the runtime takes them; waiting for them is not the network's time."""
        started = time.perf_counter()
        for frame in frames:
            waiting.append(frame)
            self.timing.seconds -= time.perf_counter() - started
            yield frame[None]
            started = time.perf_counter()
        self.timing.seconds -= time.perf_counter() - started

    def _timed(self, results: Iterator[Pixels], waiting: deque[Pixels]) -> Iterator[Pixels]:
        while True:
            started = time.perf_counter()
            result = next(results, None)
            self.timing.seconds += time.perf_counter() - started
            if result is None:
                return
            self.timing.frames += 1
            waiting.popleft()
            frame: Pixels = result[0]
            yield frame

    def _upscale_in_memory(self, pixels: Pixels) -> Pixels:
        """Upscale; where memory runs out, halve the tile and do the same frame again."""
        while True:
            side = self._side(pixels)
            try:
                if side == 0:
                    return self._infer(pixels)
                self._say_tiles(pixels, side)
                return self._tiler.upscale(pixels, side, self.on_tile)
            except MemoryError:
                self.halve_tile(pixels)

    def upscale_plane(self, plane: Pixels) -> Pixels:
        """`[H, W]` grey or alpha → `[s·H, s·W]`, through the network as three equal channels."""
        return plane_of(self.upscale(three_of(plane)))

    def _budget(self, pixels: Pixels) -> TileBudget:
        wide = pixels.dtype == np.uint16
        runtime = self.model.runtime
        return TileBudget(
            scale=self.scale,
            precision="fp32" if wide else runtime.precision,
            mode=self.tile_mode,
            halos=self.model.halos,
            bits=16 if wide else 8,
        )

    def _side(self, pixels: Pixels, in_strips: bool = False) -> int:
        """Side of the tiles of a frame, 0 for the whole frame."""
        height, width = pixels.shape[:2]
        side = self._automatic_tile(pixels, in_strips) if self.tile is None else self.tile
        if self._largest_tile:
            side = min(side, self._largest_tile) if side else self._largest_tile
        if side == 0:
            return 0
        plan = self._budget(pixels).plan(height, width, side)
        if (plan.source_height, plan.source_width) == (height, width):
            return 0  # every tile would read the whole frame
        return side

    def _automatic_tile(self, pixels: Pixels, in_strips: bool) -> int:
        height, width = pixels.shape[:2]
        key = height, width, pixels.dtype.name, in_strips
        if key not in self._automatic:  # all frames of a video alike
            self._automatic[key] = self._fitting_tile(pixels, in_strips)
        return self._automatic[key]

    def _fitting_tile(self, pixels: Pixels, in_strips: bool) -> int:
        height, width = pixels.shape[:2]
        # The frame itself stands in memory beside the network: source, result, encoder's copy.
        results = 0 if in_strips else 2 * self.scale**2
        frame = 3 * pixels.itemsize * height * width * (1 + results)
        free = max(0.0, self._memory.free_bytes() - frame)
        budget = self._budget(pixels)
        if budget.whole_bytes(height, width) <= free:
            return 0
        self._say(f"{width}×{height} does not fit in {free / 2**20:.0f} MiB of memory whole.")
        side = budget.largest_tile(height, width, free)
        needed = budget.tile_bytes(budget.plan(height, width, side))
        if needed > free:
            self._say(
                f"Even the smallest tiles need about {needed / 2**20:.0f} MiB, more than there is."
            )
        return side

    def _infer(self, pixels: Pixels) -> Pixels:
        runtime = self.model.runtime
        if self.ensemble:
            fp32 = pixels.dtype == np.uint16  # as `Runtime.infer` has it
            return upscale_turned(lambda images: runtime.infer_float(images, fp32), pixels)
        frame: Pixels = runtime.infer(pixels[None])[0]
        return frame

    def _say_tiles(self, pixels: Pixels, side: int) -> None:
        budget = self._budget(pixels)
        height, width = pixels.shape[:2]
        plan = budget.plan(height, width, side)
        whose = _ATTENTION[self.tile_mode].format(why=self._fast_because)
        self._say(f"Tiles of {side} pixels with a halo of {plan.halo}{whose}")
        if self.on_plan is not None and plan not in self._described and not self.ensemble:
            self._described.add(plan)
            self.on_plan(describe_plan(budget, plan, self.model.runtime, pixels))

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
