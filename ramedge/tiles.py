"""Frames in tiles: with the whole frame's attention, that of the frame before, or their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from ramedge.errors import UsageError
from ramedge.halos import Halos
from ramedge.media.frames import Pixels
from ramedge.passes import AttentionSolver, TileMode, expected_passes
from ramedge.runtimes.base import Runtime
from ramedge.statistics import Values, attention_change, attention_deviation, merge
from ramedge.tiling import Tile, TilePlan

CUT = 0.0025
"""Root mean square change of the attention (0 to 1) from one frame to the next above which a frame
is done anew: cuts, and so much movement that following would fall below 70 dB. On three clips
240 pixels wide 0.0057 left 70.1 dB, 0.0040 70.9, 0.0022 72.7 and 0.0010 76.5; at 160 pixels as much
as 0.005 left 68.5 and 0.0035 69.8."""

OnTile = Callable[[int, int], None]


class Tiler(ABC):
    """Upscales frames tile by tile.

    Frames of one video follow one another; `reset` tells that the next frame is of another.
    """

    def __init__(self, scale: int, halos: Halos, mode: TileMode) -> None:
        self._scale = scale
        self._halos = halos
        self._mode = mode

    def upscale(self, pixels: Pixels, side: int, on_tile: OnTile) -> Pixels:
        """`[H, W, 3]` uint8 or uint16 → `[s·H, s·W, 3]`, in tiles of `side` pixels.

        `on_tile` is told how many tiles were run, and how many there may be.
        """
        return _assembled(self.bands(pixels, side, on_tile), pixels, self._scale)

    @abstractmethod
    def bands(self, pixels: Pixels, side: int, on_tile: OnTile) -> Iterator[Pixels]:
        """As `upscale`, but the rows that are done, `[rows, s·W, 3]` each, from top to bottom."""

    def reset(self) -> None:  # noqa: B027  # not every way of tiling remembers a frame
        """Forget the frame before."""

    def _plan(self, pixels: Pixels, side: int) -> TilePlan:
        halo = self._halos.rendering(self._mode, 8 * pixels.dtype.itemsize)
        return TilePlan(pixels.shape[0], pixels.shape[1], side, halo)


class LoneTiler(Tiler):
    """The mode `fast`: each tile is upscaled as if it were a frame."""

    def __init__(self, infer: Callable[[Pixels], Pixels], scale: int, halos: Halos) -> None:
        """Take what upscales a whole frame."""
        super().__init__(scale, halos, "fast")
        self._infer = infer

    def bands(self, pixels: Pixels, side: int, on_tile: OnTile) -> Iterator[Pixels]:  # noqa: D102
        plan = self._plan(pixels, side)
        count = _Count(plan, 1, on_tile)

        def upscale(tile: Tile) -> Pixels:
            result = self._infer(pixels[tile.source.slices])
            count.one()
            return result

        return _stitched(plan, self._scale, upscale)


class FrameTiler(Tiler):
    """The modes `exact` and `follow`: all tiles share one attention."""

    def __init__(self, runtime: Runtime, halos: Halos, mode: TileMode) -> None:
        """Take a runtime that has the tile graph.

        Raises:
            UsageError: it has none.
        """
        if runtime.excitation is None:
            raise UsageError("This model has no graph for tiles: export it again.")
        super().__init__(runtime.scale, halos, mode)
        self._runtime = runtime
        self._excitation = runtime.excitation
        self._solver = AttentionSolver(runtime, runtime.excitation)
        self._before: Values | None = None
        self.passes = 0
        """Passes of statistics that the last frame needed."""

    def reset(self) -> None:  # noqa: D102
        self._before = None

    def upscale(self, pixels: Pixels, side: int, on_tile: OnTile) -> Pixels:  # noqa: D102
        start = self._before
        if self._mode == "follow" and start is not None:
            self.passes = 0
            plan = self._plan(pixels, side)
            bands = self._render(pixels, plan, start, _Count(plan, 1, on_tile))
            result = _assembled(bands, pixels, self._scale)
            assert self._before is not None
            if attention_deviation(start, self._before) <= CUT:
                return result
            # A cut: this frame anew, from what was just seen of it.
        return super().upscale(pixels, side, on_tile)

    def bands(self, pixels: Pixels, side: int, on_tile: OnTile) -> Iterator[Pixels]:  # noqa: D102
        plan = self._plan(pixels, side)
        bits = 8 * pixels.dtype.itemsize
        passes = expected_passes(bits, self._runtime.precision)
        count = _Count(plan, passes + 1, on_tile)
        statistic_halo = self._halos.statistic(bits)
        statistic_plan = TilePlan(plan.height, plan.width, side, statistic_halo)
        solved = self._solver.solve(pixels, statistic_plan, self._before, count.one)
        self.passes = solved.passes
        yield from self._render(pixels, plan, solved.logits, count)
        assert self._before is not None
        if solved.passes == 1:  # the rendering saw what a second pass would have seen
            change = attention_change(solved.logits, self._before)
            self._solver.learn(solved.first_change, change)

    def _render(
        self, pixels: Pixels, plan: TilePlan, logits: Values, count: _Count
    ) -> Iterator[Pixels]:
        """Bands of the upscaled frame; then `_before` is what its tiles' statistic gives."""
        statistics = []

        def upscale(tile: Tile) -> Pixels:
            interior = tile.interior.within(tile.source)
            part = pixels[tile.source.slices]
            upscaled, statistic = self._runtime.infer_tile(part, logits, interior)
            statistics.append(statistic)
            count.one()
            return upscaled

        yield from _stitched(plan, self._scale, upscale)
        self._before = self._excitation.logits(merge(statistics).variance)


def _stitched(plan: TilePlan, scale: int, upscale: Callable[[Tile], Pixels]) -> Iterator[Pixels]:
    """Rows of tiles as bands `[rows, s·W, 3]`, from top to bottom.

    `upscale` is given a tile and returns its whole `source`, `scale` times as large.
    """
    parts: list[Pixels] = []
    for tile in plan:
        kept = tile.interior.within(tile.source).scaled(scale)
        parts.append(upscale(tile)[kept.slices])
        if tile.interior.right == plan.width:
            yield cast("Pixels", np.concatenate(parts, axis=1))
            parts.clear()


def _assembled(bands: Iterator[Pixels], pixels: Pixels, scale: int) -> Pixels:
    """The upscaled frame from its bands."""
    height, width, channels = pixels.shape
    result: Pixels = np.empty((height * scale, width * scale, channels), pixels.dtype)
    top = 0
    for band in bands:
        result[top : top + len(band)] = band
        top += len(band)
    return result


class _Count:
    """Tiles run, for a progress bar."""

    def __init__(self, plan: TilePlan, rounds: int, on_tile: OnTile) -> None:
        self._expected = rounds * plan.count
        self._tiles = plan.count
        self._done = 0
        self._on_tile = on_tile

    def one(self) -> None:
        self._done += 1
        while self._done > self._expected:
            self._expected += self._tiles
        self._on_tile(self._done, self._expected)
