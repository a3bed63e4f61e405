"""The upscaler: pixels in, pixels out, whole or in tiles."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType, TracebackType
from typing import get_args

import numpy as np

from ramedge.errors import UsageError
from ramedge.media.frames import Pixels, plane_of, three_of
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import BLOCK_HALO, feature_bytes
from ramedge.tiling.attention.fixed_point import TileMode
from ramedge.tiling.estimate import TileBudget, describe_plan
from ramedge.tiling.execution import FrameTiler, LoneTiler, OnTile, Tiler
from ramedge.tiling.grid import TileChoice
from ramedge.tiling.planner import TileOption, TileSides, check_request
from ramedge.upscaling.open_model import OpenedModel, RuntimeSettings, open_model
from ramedge.upscaling.self_ensemble import upscale_turned

STREAMED_PIXELS = 16_000_000
"""Results of so many pixels, in tiles, are written as they are made where the format allows."""

_ATTENTION: Mapping[TileMode, str] = MappingProxyType(
    {
        "exact": ", all with the attention of the whole frame.",
        "follow": ", all with the attention of the frame before, the first with its own.",
        "fast": ". {why} The result differs slightly from the whole frame's.",
    }
)


@dataclass(slots=True)
class Timing:
    """Time spent in the network alone, to be compared with the time of everything."""

    seconds: float = 0.0
    frames: int = 0


class Upscaler:
    """Upscales RGB pixels with one network.

    Whole frames by default. In tiles the result is the same: the network's channel attention
    looks at the whole frame, so tiles run block by block (`ramedge.tiling.attention.blockwise`), or
    are first passed over for the frame's statistic (`ramedge.tiling.attention.fixed_point`); how
    far a tile reads beyond its border is in `ramedge.tiling.halos`. For one thread at a time: give
    each thread an upscaler of its own.

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
                somewhat better, 8 times as slow. See `ramedge.upscaling.self_ensemble`.
            tile_mode: where the attention of tiles comes from, see `ramedge.tiling.execution`.
            memory: bytes that this process may take; `None` is what is free.

        Raises:
            RamedgeError: the model cannot be opened, see `open_model`.
            UsageError: a side, mode or limit that cannot be.
        """
        if tile_mode not in get_args(TileMode):
            raise UsageError(f"No tile mode {tile_mode!r}: {', '.join(get_args(TileMode))}.")
        check_request(tile, memory)
        self.model: OpenedModel = open_model(settings or RuntimeSettings())
        self.tile = tile
        self.ensemble = ensemble
        self._sides = TileSides(tile, memory, self._say)
        self.tile_mode = self._possible_mode(tile_mode)
        self.timing = Timing()
        self.notes: list[str] = list(self.model.runtime.notes)
        self.on_tile: OnTile = lambda _done, _total: None
        self.on_plan: Callable[[str], None] | None = None
        self._described: set[tuple[TileBudget, int, int, TileChoice]] = set()
        self._tiler = self._make_tiler()
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
        self._sides.start_file()
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
        _check(pixels)
        started = time.perf_counter()
        result = self._upscale_in_memory(pixels)
        self.timing.seconds += time.perf_counter() - started
        self.timing.frames += 1
        return result

    def strip_tiles(self, pixels: Pixels, at_once: int = 1) -> TileChoice:
        """Tiles in which `bands` should upscale an image, of side 0 where `upscale` should.

        Large results are made in strips, `at_once` images at the same time. Not where the network
        takes the frame whole: then the result is small beside the network.
        """
        height, width = pixels.shape[:2]
        large = height * width * self.scale**2 >= STREAMED_PIXELS
        return self._choice(pixels, at_once) if large else TileChoice(0)

    def bands(self, pixels: Pixels, tiles: TileChoice) -> Iterator[Pixels]:
        """As `upscale`, in tiles, but the finished rows, `[rows, s·W, 3]`, from top to bottom.

        The result never stands in memory whole. Where memory runs out, call `shrink_tile` and begin
        anew.

        Raises:
            UsageError: pixels of another shape or dtype, or tiles of side 0.
            MemoryError: the device's memory does not suffice.
        """
        _check(pixels)
        if tiles.side == 0:
            raise UsageError("A whole frame has no bands: use upscale.")
        self._say_tiles(pixels, tiles)
        bands = self._tiler.bands(pixels, tiles, self.on_tile)
        while True:
            started = time.perf_counter()
            band = next(bands, None)
            self.timing.seconds += time.perf_counter() - started
            if band is None:
                break
            yield band
        self.timing.frames += 1

    def shrink_tile(self, pixels: Pixels, strips: int = 0) -> None:
        """Take smaller tiles from now on, for this frame and those that need as much.

        `strips` is the number of images in `bands` at once, 0 for `upscale`.

        Raises:
            MemoryError: they are as small as can be.
        """
        tiles = self._sides.shrink(self._budget(pixels, strips), *self._extent(pixels, strips))
        self._say(f"Out of memory: the same frame again in tiles of {tiles.side} pixels.")

    def upscale_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`upscale` for the frames of a video, in order; several in flight where that is faster.

        Where memory runs out, the frames in flight and all after them are done in tiles.
        """
        waiting: deque[Pixels] = deque()
        coming = iter(frames)
        for first in coming:
            if self.ensemble or first.ndim != 3 or self._choice(first).side != 0:
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
        """Upscale; where memory runs out, shrink the tile and do the same frame again."""
        while True:
            tiles = self._choice(pixels)
            try:
                if tiles.side == 0:
                    return self._infer(pixels)
                self._say_tiles(pixels, tiles)
                return self._tiler.upscale(pixels, tiles, self.on_tile)
            except MemoryError:
                self.shrink_tile(pixels)

    def upscale_plane(self, plane: Pixels) -> Pixels:
        """`[H, W]` grey or alpha → `[s·H, s·W]`, through the network as three equal channels."""
        return plane_of(self.upscale(three_of(plane)))

    def _budget(self, pixels: Pixels, strips: int = 0) -> TileBudget:
        wide = pixels.dtype == np.uint16
        runtime = self.model.runtime
        return TileBudget(
            scale=self.scale,
            precision="fp32" if wide else runtime.precision,
            mode=self.tile_mode,
            halos=self.model.halos,
            bits=16 if wide else 8,
            feature_bytes=max(1, strips) * feature_bytes(runtime, pixels.dtype),
            counted="fp32" if _is_int8_in_fp32(runtime) else None,
        )

    def _choice(self, pixels: Pixels, strips: int = 0) -> TileChoice:
        """Tiles of a frame, of side 0 for the whole frame."""
        return self._sides.choose(self._budget(pixels, strips), *self._extent(pixels, strips))

    def _extent(self, pixels: Pixels, strips: int) -> tuple[int, int, int]:
        """Height, width, and the bytes that stand beside the network."""
        height, width = pixels.shape[:2]
        # Source, and unless it is written in strips the result and the encoder's copy.
        results = 0 if strips else 2 * self.scale**2
        return height, width, 3 * pixels.itemsize * height * width * (1 + results)

    def _infer(self, pixels: Pixels) -> Pixels:
        runtime = self.model.runtime
        if self.ensemble:
            fp32 = pixels.dtype == np.uint16  # as `Runtime.infer` has it
            return upscale_turned(lambda images: runtime.infer_float(images, fp32), pixels)
        frame: Pixels = runtime.infer(pixels[None])[0]
        return frame

    def _say_tiles(self, pixels: Pixels, tiles: TileChoice) -> None:
        budget = self._budget(pixels)
        height, width = pixels.shape[:2]
        halo = budget.plan(height, width, tiles.side).halo
        whose = _ATTENTION[self.tile_mode].format(why=self._fast_because)
        if tiles.by_block and self.tile_mode == "exact":
            halo, whose = BLOCK_HALO, f", block by block{whose}"
        self._say(f"Tiles of {tiles.side} pixels with a halo of {halo}{whose}")
        key = budget, height, width, tiles
        if self.on_plan is not None and key not in self._described and not self.ensemble:
            self._described.add(key)
            self.on_plan(describe_plan(*key, self.model.runtime, pixels))

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


def _is_int8_in_fp32(runtime: Runtime) -> bool:
    """INT8 with other layers not known to be in half precision: its memory was not measured."""
    return runtime.precision == "int8" and runtime.feature_type(np.dtype(np.uint8)) != np.float16


def _check(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise UsageError(f"Expected pixels [H, W, 3], got {list(pixels.shape)}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"Expected uint8 or uint16 pixels, got {pixels.dtype}.")
