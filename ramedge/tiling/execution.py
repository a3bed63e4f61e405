"""Runs frames in tiles: with the attention of their frame, of the previous one, or their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ramedge.errors import UsageError
from ramedge.media.pixels import Pixels
from ramedge.network.channel_statistics import Statistic, Values, attention_change, merge
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import BlockRunner
from ramedge.tiling.attention.fixed_point import AttentionSolver, Solved, expected_iterations
from ramedge.tiling.attention.temporal import TemporalAttention
from ramedge.tiling.choice import Blockwise, Exact, Independent, Temporal, Tiles
from ramedge.tiling.grid import Tile, TilePlan
from ramedge.tiling.halos import Halos
from ramedge.tiling.plans import TilePlans
from ramedge.tiling.stitching import OnTile, TileCounter, assembled, stitched


class Tiler(ABC):
    """Upscales frames tile by tile.

    The frames of one video come one after another; `reset` says that the next frame is of another.
    """

    from_previous = False
    """Whether the last frame took its attention from the one before it."""

    def __init__(self, scale: int, halos: Halos) -> None:
        self._scale = scale
        self._halos = halos

    def upscale(self, pixels: Pixels, tiles: Tiles, on_tile: OnTile) -> Pixels:
        """`[H, W, 3]` uint8 or uint16 → `[s·H, s·W, 3]` of the same dtype, in tiles."""
        return assembled(self.bands(pixels, tiles, on_tile), pixels, self._scale)

    @abstractmethod
    def bands(self, pixels: Pixels, tiles: Tiles, on_tile: OnTile) -> Iterator[Pixels]:
        """As `upscale`, but the rows that are done, `[rows, s·W, 3]` each, from top to bottom."""

    def reset(self) -> None:  # noqa: B027  # not every way of tiling remembers a frame
        """Forget the previous frame."""

    def _rendering(self, pixels: Pixels, tiles: Tiles) -> TilePlan:
        height, width = pixels.shape[:2]
        return self._plans(pixels).rendering(height, width, tiles)

    def _plans(self, pixels: Pixels) -> TilePlans:
        return TilePlans(self._halos, 8 * pixels.dtype.itemsize)


class IndependentTiler(Tiler):
    """Each tile is upscaled as if it were a frame: `Independent`."""

    def __init__(self, infer: Callable[[Pixels], Pixels], scale: int, halos: Halos) -> None:
        """Take what upscales a whole frame."""
        super().__init__(scale, halos)
        self._infer = infer

    def bands(  # noqa: D102
        self, pixels: Pixels, tiles: Tiles, on_tile: OnTile
    ) -> Iterator[Pixels]:
        if not isinstance(tiles, Independent):
            raise UsageError(f"{tiles} needs tiles that share one attention.")
        plan = self._rendering(pixels, tiles)
        counter = TileCounter(plan, 1, on_tile)

        def upscaled() -> Iterator[tuple[Tile, Pixels]]:
            for tile in plan:
                yield tile, self._infer(pixels[tile.source.slices])
                counter.count()

        return stitched(plan, self._scale, upscaled())


class SharedAttentionTiler(Tiler):
    """All tiles of a frame share one attention: `Blockwise`, `FixedPoint` and `Temporal`."""

    def __init__(self, runtime: Runtime, halos: Halos) -> None:
        """Take a runtime that has the tile graph.

        Raises:
            UsageError: it has none.
        """
        if runtime.excitation is None:
            raise UsageError("This model has no graph for tiles: export it again.")
        super().__init__(runtime.scale, halos)
        self._runtime = runtime
        self._excitation = runtime.excitation
        self._solver = AttentionSolver(runtime, runtime.excitation)
        self._blocks = BlockRunner(runtime, runtime.excitation)
        self._previous: _Seen | None = None

    def reset(self) -> None:  # noqa: D102
        self._previous = None
        self._blocks.forget()

    def upscale(  # noqa: D102
        self, pixels: Pixels, tiles: Tiles, on_tile: OnTile
    ) -> Pixels:
        self.from_previous = False
        if isinstance(tiles, Temporal):
            plan = self._rendering(pixels, tiles)
            if self._previous is not None and self._previous.plan == plan:
                result = self._with_previous(pixels, self._previous, on_tile)
                if result is not None:
                    self.from_previous = True
                    return result
        return super().upscale(pixels, tiles, on_tile)

    def _with_previous(self, pixels: Pixels, previous: _Seen, on_tile: OnTile) -> Pixels | None:
        """The frame with the previous one's attention; `None` where they differ too much."""
        plan = previous.plan
        temporal = TemporalAttention(previous.statistics, self._excitation)
        counter = TileCounter(plan, 1, on_tile)

        def upscaled() -> Iterator[tuple[Tile, Pixels]]:
            for tile in plan:
                result, statistic = self._run(pixels, tile, temporal.logits)
                temporal.take(statistic)
                counter.count()
                if temporal.has_lost_track:
                    raise _LostTrack
                yield tile, result

        try:
            return assembled(stitched(plan, self._scale, upscaled()), pixels, self._scale)
        except _LostTrack:
            return None
        finally:
            self._previous = _Seen(plan, temporal.statistics)

    def bands(  # noqa: D102
        self, pixels: Pixels, tiles: Tiles, on_tile: OnTile
    ) -> Iterator[Pixels]:
        if isinstance(tiles, Independent):
            raise UsageError(f"{tiles} are tiles that share no attention.")
        plan = self._rendering(pixels, tiles)
        exact = tiles.recompute if isinstance(tiles, Temporal) else tiles
        if isinstance(exact, Blockwise):
            return self._by_block(pixels, exact, plan, on_tile)
        return self._by_fixed_point(pixels, plan, on_tile)

    def _by_block(
        self, pixels: Pixels, tiles: Exact, remembered: TilePlan, on_tile: OnTile
    ) -> Iterator[Pixels]:
        """Bands of the frame, computed block by block; its tiles are remembered as of a plan."""
        plan = self._rendering(pixels, tiles)
        counter = TileCounter(plan, self._excitation.shape[0] + 1, on_tile)
        yield from stitched(plan, self._scale, self._blocks.tiles(pixels, plan, counter.count))
        self._previous = _Seen(remembered, self._blocks.statistics)

    def _by_fixed_point(self, pixels: Pixels, plan: TilePlan, on_tile: OnTile) -> Iterator[Pixels]:
        """Bands of the frame, once iterations have found its attention."""
        plans = self._plans(pixels)
        iterations = expected_iterations(plans.bits, self._runtime.precision)
        counter = TileCounter(plan, iterations + 1, on_tile)
        start = None if self._previous is None else self._logits(self._previous)
        solved = self._solver.solve(pixels, plans.statistics(plan), start, counter.count)
        seen: list[Statistic] = []
        yield from stitched(plan, self._scale, self._render(pixels, plan, solved, seen, counter))
        self._previous = _Seen(plan, seen)
        if solved.iterations == 1:  # the rendering saw what a second iteration would have seen
            change = attention_change(solved.logits, self._logits(self._previous))
            self._solver.learn(solved.first_change, change)

    def _render(
        self,
        pixels: Pixels,
        plan: TilePlan,
        solved: Solved,
        seen: list[Statistic],
        counter: TileCounter,
    ) -> Iterator[tuple[Tile, Pixels]]:
        """Each tile with the same attention; `seen` takes the tiles' statistics."""
        for tile in plan:
            result, statistic = self._run(pixels, tile, solved.logits)
            seen.append(statistic)
            counter.count()
            yield tile, result

    def _run(self, pixels: Pixels, tile: Tile, logits: Values) -> tuple[Pixels, Statistic]:
        interior = tile.interior.within(tile.source)
        return self._runtime.infer_tile(pixels[tile.source.slices], logits, interior)

    def _logits(self, seen: _Seen) -> Values:
        return self._excitation.logits(merge(seen.statistics).variance)


class _LostTrack(Exception):  # noqa: N818  # nothing failed
    """The previous frame does not lead to this one."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of a frame: the statistic of each of its tiles."""

    plan: TilePlan
    statistics: list[Statistic]
