"""Frames in tiles: with the whole frame's attention, that of the frame before, or their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from ramedge.errors import UsageError
from ramedge.media.frames import Pixels
from ramedge.network.channel_statistics import Statistic, Values, attention_change, merge
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import BLOCK_HALO, BlockRunner
from ramedge.tiling.attention.fixed_point import AttentionSolver, Solved, TileMode, expected_passes
from ramedge.tiling.attention.temporal import Following
from ramedge.tiling.grid import Tile, TileChoice, TilePlan
from ramedge.tiling.halos import Halos

OnTile = Callable[[int, int], None]


class Tiler(ABC):
    """Upscales frames tile by tile.

    Frames of one video follow one another; `reset` tells that the next frame is of another.
    """

    def __init__(self, scale: int, halos: Halos, mode: TileMode) -> None:
        self._scale = scale
        self._halos = halos
        self._mode = mode

    def upscale(self, pixels: Pixels, tiles: TileChoice, on_tile: OnTile) -> Pixels:
        """`[H, W, 3]` uint8 or uint16 → `[s·H, s·W, 3]`, in tiles.

        `on_tile` is told how many tiles were run, and how many there may be.
        """
        return _assembled(self.bands(pixels, tiles, on_tile), pixels, self._scale)

    @abstractmethod
    def bands(self, pixels: Pixels, tiles: TileChoice, on_tile: OnTile) -> Iterator[Pixels]:
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

    def bands(  # noqa: D102
        self, pixels: Pixels, tiles: TileChoice, on_tile: OnTile
    ) -> Iterator[Pixels]:
        plan = self._plan(pixels, tiles.side)
        count = _Count(plan, 1, on_tile)

        def upscaled() -> Iterator[tuple[Tile, Pixels]]:
            for tile in plan:
                yield tile, self._infer(pixels[tile.source.slices])
                count.one()

        return _stitched(plan, self._scale, upscaled())


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
        self._blocks = BlockRunner(runtime, runtime.excitation)
        self._before: _Seen | None = None
        self.followed = False
        """Whether the last frame was done with the attention of the one before."""

    def reset(self) -> None:  # noqa: D102
        self._before = None
        self._blocks.forget()

    def upscale(  # noqa: D102
        self, pixels: Pixels, tiles: TileChoice, on_tile: OnTile
    ) -> Pixels:
        plan = self._plan(pixels, tiles.side)
        self.followed = self._mode == "follow" and self._knows(plan)
        if self.followed:
            result = self._follow(pixels, plan, on_tile)
            if result is not None:
                return result
            self.followed = False  # a cut: this frame anew
        return super().upscale(pixels, tiles, on_tile)

    def _knows(self, plan: TilePlan) -> bool:
        """Whether the frame before was done in the same tiles."""
        return self._before is not None and self._before.plan == plan

    def _follow(self, pixels: Pixels, plan: TilePlan, on_tile: OnTile) -> Pixels | None:
        """The frame with what the one before tells of it; `None` where that is too little."""
        assert self._before is not None
        following = Following(self._before.statistics, self._excitation)
        count = _Count(plan, 1, on_tile)

        def upscaled() -> Iterator[tuple[Tile, Pixels]]:
            for tile in plan:
                result, statistic = self._run(pixels, tile, following.logits)
                following.take(statistic)
                count.one()
                if following.is_lost:
                    raise _Lost
                yield tile, result

        try:
            return _assembled(_stitched(plan, self._scale, upscaled()), pixels, self._scale)
        except _Lost:
            return None
        finally:
            self._before = _Seen(plan, following.statistics)

    def bands(  # noqa: D102
        self, pixels: Pixels, tiles: TileChoice, on_tile: OnTile
    ) -> Iterator[Pixels]:
        if tiles.by_block:
            yield from self._by_block(pixels, tiles.side, on_tile)
            return
        plan = self._plan(pixels, tiles.side)
        bits = 8 * pixels.dtype.itemsize
        passes = expected_passes(bits, self._runtime.precision)
        count = _Count(plan, passes + 1, on_tile)
        statistic_halo = self._halos.statistic(bits)
        statistic_plan = TilePlan(plan.height, plan.width, tiles.side, statistic_halo)
        start = None if self._before is None else self._logits(self._before)
        solved = self._solver.solve(pixels, statistic_plan, start, count.one)
        seen: list[Statistic] = []
        yield from _stitched(plan, self._scale, self._render(pixels, plan, solved, seen, count))
        self._before = _Seen(plan, seen)
        if solved.passes == 1:  # the rendering saw what a second pass would have seen
            change = attention_change(solved.logits, self._logits(self._before))
            self._solver.learn(solved.first_change, change)

    def _by_block(self, pixels: Pixels, side: int, on_tile: OnTile) -> Iterator[Pixels]:
        """Bands of the upscaled frame, one block of the network after another."""
        plan = TilePlan(pixels.shape[0], pixels.shape[1], side, BLOCK_HALO)
        count = _Count(plan, self._excitation.shape[0] + 1, on_tile)
        yield from _stitched(plan, self._scale, self._blocks.tiles(pixels, plan, count.one))
        self._before = _Seen(self._plan(pixels, side), self._blocks.statistics)

    def _render(
        self,
        pixels: Pixels,
        plan: TilePlan,
        solved: Solved,
        seen: list[Statistic],
        count: _Count,
    ) -> Iterator[tuple[Tile, Pixels]]:
        """Each tile with the same attention; `seen` takes the tiles' statistics."""
        for tile in plan:
            result, statistic = self._run(pixels, tile, solved.logits)
            seen.append(statistic)
            count.one()
            yield tile, result

    def _run(self, pixels: Pixels, tile: Tile, logits: Values) -> tuple[Pixels, Statistic]:
        interior = tile.interior.within(tile.source)
        return self._runtime.infer_tile(pixels[tile.source.slices], logits, interior)

    def _logits(self, seen: _Seen) -> Values:
        return self._excitation.logits(merge(seen.statistics).variance)


class _Lost(Exception):  # noqa: N818  # nothing failed
    """A frame cannot be followed."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of a frame: the statistic of each of its tiles."""

    plan: TilePlan
    statistics: list[Statistic]


def _stitched(
    plan: TilePlan, scale: int, upscaled: Iterator[tuple[Tile, Pixels]]
) -> Iterator[Pixels]:
    """Rows of tiles as bands `[rows, s·W, 3]`, from top to bottom.

    `upscaled` gives each tile of the plan and its whole `source`, `scale` times as large.
    """
    parts: list[Pixels] = []
    for tile, result in upscaled:
        kept = tile.interior.within(tile.source).scaled(scale)
        parts.append(result[kept.slices])
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
