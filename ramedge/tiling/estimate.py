"""Which tiles fit the memory, and what upscaling in them will take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ramedge.media.frames import Pixels
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import BLOCK_HALO, BlockRunner, waiting_rows
from ramedge.tiling.attention.fixed_point import TileMode, expected_passes, guess_pixels
from ramedge.tiling.grid import TileChoice, TilePlan
from ramedge.tiling.halos import Halos
from ramedge.tiling.memory import MeasuredKind, network_bytes
from ramedge.types import Window

MIN_TILE = 16
"""Smallest tile: around it up to 34 pixels are read on each side."""

_STEP = 16
_LARGEST_TILE = 2048
_BLOCK_TILES = 192, 48
"""Largest and smallest tile of a frame that is run block by block: of larger ones every block's
graph takes more memory for little less rim, of smaller ones the rim is over a quarter of the
work."""
_LITTLE_MORE = 1.125
"""Where no tiles fit, those may need so many times what the least of them do."""
_PROBE_SIDE = 176
_MANY_TILES = 8
"""Of so many tiles one is run for the estimate as it is, of fewer a smaller part of the frame."""


@dataclass(frozen=True, slots=True)
class TileBudget:
    """What decides over the size of tiles.

    Attributes:
        precision: what the pixels at hand are computed in.
        bits: of a sample, 8 or 16.
        feature_bytes: kept for each pixel of a frame that is run block by block, see
            `ramedge.tiling.attention.blockwise`; 0 where the runtime cannot.
        counted: the precision whose measured memory counts, where it is not `precision`.
    """

    scale: int
    precision: str
    mode: TileMode
    halos: Halos
    bits: int
    feature_bytes: int = 0
    counted: str | None = None

    def whole_bytes(self, height: int, width: int) -> int:
        """Memory of the network for a whole frame."""
        return self._network_bytes("frame", height * width)

    def _network_bytes(self, kind: MeasuredKind, pixels: int) -> int:
        return network_bytes(kind, self.scale, self.counted or self.precision, pixels)

    def tile_bytes(self, plan: TilePlan) -> int:
        """Memory of the network for the tiles of a plan."""
        pixels = plan.source_height * plan.source_width
        if self.mode == "fast":
            return self._network_bytes("frame", pixels)
        statistic = self.statistic_plan(plan)
        return self._network_bytes("tile", pixels) + self._network_bytes(
            "statistics", statistic.source_height * statistic.source_width
        )

    def block_bytes(self, plan: TilePlan) -> int:
        """Memory of the network and of the features for a frame that is run block by block."""
        pixels = plan.source_height * plan.source_width
        kept = (plan.height + waiting_rows(plan)) * plan.width
        network = self._network_bytes("blocks", pixels)
        return network + self.feature_bytes * kept

    def is_whole(self, height: int, width: int, choice: TileChoice) -> bool:
        """Whether each tile (of side 0: none) would read the whole frame."""
        if choice.side == 0:
            return True
        plan = self._plan_of(height, width, choice)
        return (plan.source_height, plan.source_width) == (height, width)

    def needed_bytes(self, height: int, width: int, choice: TileChoice) -> int:
        """Memory of the network for a frame in tiles, or whole."""
        if self.is_whole(height, width, choice):
            return self.whole_bytes(height, width)
        if not choice.by_block:
            return self.tile_bytes(self.plan(height, width, choice.side))
        needed = self.block_bytes(self.block_plan(height, width, choice.side))
        if self.mode == "follow":  # only some frames are run block by block
            needed += self.tile_bytes(self.plan(height, width, choice.side))
        return needed

    def _plan_of(self, height: int, width: int, choice: TileChoice) -> TilePlan:
        make = self.block_plan if choice.by_block else self.plan
        return make(height, width, choice.side)

    def block_plan(self, height: int, width: int, side: int) -> TilePlan:
        """Tiles of a side, of a frame that is run block by block."""
        return TilePlan(height, width, side, BLOCK_HALO)

    def plan(self, height: int, width: int, side: int) -> TilePlan:
        """Tiles of a side, with the halo that the mode needs."""
        return TilePlan(height, width, side, self.halos.rendering(self.mode, self.bits))

    def statistic_plan(self, plan: TilePlan) -> TilePlan:
        """The same tiles in the passes of statistics."""
        return TilePlan(plan.height, plan.width, plan.tile, self.halos.statistic(self.bits))

    def with_features(self, height: int, width: int, side: int, budget: float) -> TileChoice:
        """Tiles of a side, run block by block where that fits into `budget` bytes."""
        choice = TileChoice(side, by_block=self._can_keep_features)
        if side and self.needed_bytes(height, width, choice) > budget:
            choice = TileChoice(side)
        return choice

    @property
    def _can_keep_features(self) -> bool:
        return self.feature_bytes > 0 and self.mode != "fast"

    def best_tiles(self, height: int, width: int, budget: float) -> TileChoice:
        """What is fastest among what fits into `budget` bytes.

        Where nothing does, the largest tiles that need little more than the smallest: these would
        save next to nothing and take many times as long.
        """
        choices: list[TileChoice] = []
        if self._can_keep_features and self.mode == "exact":
            largest, smallest = _BLOCK_TILES
            choices += [TileChoice(s, by_block=True) for s in range(largest, smallest - 1, -_STEP)]
        largest = min(_LARGEST_TILE, -(-max(height, width) // _STEP) * _STEP)
        choices += [TileChoice(side) for side in range(largest, MIN_TILE, -_STEP)]
        choices.append(TileChoice(MIN_TILE))
        needed = [self.needed_bytes(height, width, choice) for choice in choices]
        most = budget if min(needed) <= budget else _LITTLE_MORE * min(needed)
        found = next(c for c, bytes_ in zip(choices, needed, strict=True) if bytes_ <= most)
        return found if found.by_block else self.with_features(height, width, found.side, budget)


def describe_plan(
    budget: TileBudget, height: int, width: int, tiles: TileChoice, runtime: Runtime, pixels: Pixels
) -> str:
    """One line: tiles, halo, passes, and an estimate of time and memory.

    The time is that of one tile, block by block of four, or of a smaller part of the frame, times
    the pixels to run. What is timed is compiled before.
    """
    memory = budget.needed_bytes(height, width, tiles) / 2**20
    plan = budget.plan(height, width, tiles.side)
    what, seconds, follows = "no passes of statistics", 0.0, ""
    if budget.mode != "exact" or not tiles.by_block:
        each = _seconds_per_pixel(budget, runtime, _probe(plan, pixels), "tile")
        seconds = _source_pixels(plan) * each
    if budget.mode == "follow":
        follows = f", {_duration(seconds)} where it follows another"
    if tiles.by_block:
        blocks = budget.block_plan(height, width, tiles.side)
        plan = blocks if budget.mode == "exact" else plan
        what = "one block after another"
        each = _block_seconds_per_pixel(runtime, blocks, pixels)
        seconds = _source_pixels(blocks) * each
    elif budget.mode != "fast":
        before = budget.statistic_plan(plan)
        each = _seconds_per_pixel(budget, runtime, _probe(before, pixels), "statistics")
        passes = expected_passes(budget.bits, budget.precision)
        seconds += (passes * _source_pixels(before) + guess_pixels(before)) * each
        what = f"about {passes} {'pass' if passes == 1 else 'passes'} of statistics"
    return (
        f"{plan.count} tiles of {plan.tile_width}×{plan.tile_height} pixels with a halo of "
        f"{plan.halo}, {what}: about {_duration(seconds)} a frame{follows}, {memory:.0f} MiB for "
        "the network."
    )


def _probe(plan: TilePlan, pixels: Pixels) -> Pixels:
    """A tile of the plan, for which the graph is compiled anyway, or a part of a larger one.

    No larger than a tile: where memory is scarce, more would not fit.
    """
    most = max(plan.height, plan.width) if plan.count >= _MANY_TILES else _PROBE_SIDE
    height, width = min(most, plan.source_height), min(most, plan.source_width)
    probe: Pixels = np.ascontiguousarray(pixels[:height, :width])  # type: ignore[assignment]
    return probe


def _source_pixels(plan: TilePlan) -> int:
    return plan.count * plan.source_height * plan.source_width


def _seconds_per_pixel(budget: TileBudget, runtime: Runtime, part: Pixels, kind: str) -> float:
    window = Window(0, 0, part.shape[0], part.shape[1])
    seconds = 0.0
    for _ in range(2):  # the first one compiles the graph
        started = time.perf_counter()
        if budget.mode == "fast" or runtime.excitation is None:
            runtime.infer(part[None])
        elif kind == "tile":
            runtime.infer_tile(part, np.zeros(runtime.excitation.shape), window)
        else:
            runtime.infer_statistic(part, np.zeros(runtime.excitation.shape), window)
        seconds = time.perf_counter() - started
    return seconds / (window.height * window.width)


def _block_seconds_per_pixel(runtime: Runtime, plan: TilePlan, pixels: Pixels) -> float:
    """Of two rows of two tiles: the features of one would stay in the processor's cache."""
    assert runtime.excitation is not None
    part = _probe(plan, pixels)
    small = TilePlan(part.shape[0], part.shape[1], max(part.shape[:2]), BLOCK_HALO)
    blocks = BlockRunner(runtime, runtime.excitation)
    _run_blocks(blocks, part, small)  # compiles the graphs
    if plan.count >= 2 * _MANY_TILES:
        # Twice what covers a frame is covered by tiles of the same shape: nothing is compiled.
        part = pixels[: 2 * plan.tile_height, : 2 * plan.tile_width]
        small = TilePlan(part.shape[0], part.shape[1], plan.tile, plan.halo)
    return _run_blocks(blocks, part, small) / _source_pixels(small)


def _run_blocks(blocks: BlockRunner, part: Pixels, plan: TilePlan) -> float:
    """Seconds that the tiles of a plan take."""
    started = time.perf_counter()
    for _ in blocks.tiles(part, plan, lambda: None):
        pass
    return time.perf_counter() - started


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
