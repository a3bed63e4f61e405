"""An estimate of the time and memory that a frame takes in tiles; it runs the network."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ramedge.media.pixels import Pixels
from ramedge.network.channel_statistics import Values
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import BLOCK_HALO, BlockRunner
from ramedge.tiling.attention.fixed_point import expected_iterations, guess_pixels
from ramedge.tiling.choice import Blockwise, FixedPoint, Temporal, Tiles
from ramedge.tiling.frame_memory import FrameMemory
from ramedge.tiling.grid import TilePlan
from ramedge.types import Window

_PROBE_SIDE = 176
_ENOUGH_TILES = 8
"""Of this many tiles one is run as it is, of fewer a smaller part of the frame."""


def describe_tiles(memory: FrameMemory, runtime: Runtime, tiles: Tiles, pixels: Pixels) -> str:
    """One line: tiles, halo, how they are run, and an estimate of time and memory.

    The time is that of one tile, block by block of four, or of a smaller part of the frame, times
    the pixels to run. What is timed is compiled before.

    Args:
        memory: of frames of this kind of pixels.
        runtime: runs the network.
        tiles: as the frame will run.
        pixels: the frame, `[H, W, 3]` uint8 or uint16.
    """
    height, width = pixels.shape[:2]
    plan = memory.plans.rendering(height, width, tiles)
    exact = tiles.recompute if isinstance(tiles, Temporal) else tiles
    later = ""
    if isinstance(exact, Blockwise):
        how = "one block after another"
        seconds = _blockwise_seconds(runtime, memory.plans.rendering(height, width, exact), pixels)
        if isinstance(tiles, Temporal):
            later = _later(_rendering_seconds(runtime, plan, pixels))
    elif isinstance(exact, FixedPoint):
        rendering = _rendering_seconds(runtime, plan, pixels)
        iterations = expected_iterations(memory.plans.bits, runtime.precision)
        statistics = memory.plans.statistics(plan)
        how = f"about {iterations} fixed-point iterations of the channel statistics"
        seconds = rendering + _iterating_seconds(runtime, statistics, iterations, pixels)
        if isinstance(tiles, Temporal):
            later = _later(rendering)
    else:
        how = "each with its own channel statistics"
        seconds = _independent_seconds(runtime, plan, pixels)
    needed = memory.needed(height, width, tiles).total / 2**20
    return (
        f"{plan.count} tiles of {plan.tile_width}×{plan.tile_height} pixels with a halo of "
        f"{plan.halo}, {how}: about {_duration(seconds)} a frame{later}, {needed:.0f} MiB for "
        "the network."
    )


def _later(seconds: float) -> str:
    return f", {_duration(seconds)} with the attention of the previous frame"


def _independent_seconds(runtime: Runtime, plan: TilePlan, pixels: Pixels) -> float:
    return _source_pixels(plan) * _seconds_per_pixel(
        _probe(plan, pixels), lambda part, _window: runtime.infer(part[None])
    )


def _rendering_seconds(runtime: Runtime, plan: TilePlan, pixels: Pixels) -> float:
    logits = _no_attention(runtime)
    return _source_pixels(plan) * _seconds_per_pixel(
        _probe(plan, pixels), lambda part, window: runtime.infer_tile(part, logits, window)
    )


def _iterating_seconds(runtime: Runtime, plan: TilePlan, iterations: int, pixels: Pixels) -> float:
    logits = _no_attention(runtime)
    each = _seconds_per_pixel(
        _probe(plan, pixels), lambda part, window: runtime.infer_statistic(part, logits, window)
    )
    return (iterations * _source_pixels(plan) + guess_pixels(plan)) * each


def _no_attention(runtime: Runtime) -> Values:
    assert runtime.excitation is not None
    return np.zeros(runtime.excitation.shape)


def _seconds_per_pixel(part: Pixels, run: Callable[[Pixels, Window], object]) -> float:
    window = Window(0, 0, part.shape[0], part.shape[1])
    run(part, window)  # compiles the graph
    started = time.perf_counter()
    run(part, window)
    return (time.perf_counter() - started) / (window.height * window.width)


def _probe(plan: TilePlan, pixels: Pixels) -> Pixels:
    """A tile of the plan, for which the graph is compiled anyway, or a part of a larger one.

    No larger than a tile: where memory is scarce, more would not fit.
    """
    most = max(plan.height, plan.width) if plan.count >= _ENOUGH_TILES else _PROBE_SIDE
    height, width = min(most, plan.source_height), min(most, plan.source_width)
    probe: Pixels = np.ascontiguousarray(pixels[:height, :width])  # type: ignore[assignment]
    return probe


def _source_pixels(plan: TilePlan) -> int:
    return plan.count * plan.source_height * plan.source_width


def _blockwise_seconds(runtime: Runtime, plan: TilePlan, pixels: Pixels) -> float:
    """By two rows of two tiles: the features of one would stay in the processor's cache."""
    assert runtime.excitation is not None
    part = _probe(plan, pixels)
    small = TilePlan(part.shape[0], part.shape[1], max(part.shape[:2]), BLOCK_HALO)
    blocks = BlockRunner(runtime, runtime.excitation)
    _run_blocks(blocks, part, small)  # compiles the graphs
    if plan.count >= 2 * _ENOUGH_TILES:
        # Twice what covers a frame is covered by tiles of the same shape: nothing is compiled.
        part = pixels[: 2 * plan.tile_height, : 2 * plan.tile_width]
        small = TilePlan(part.shape[0], part.shape[1], plan.tile, plan.halo)
    return _source_pixels(plan) * _run_blocks(blocks, part, small) / _source_pixels(small)


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
