"""Which tiles fit the memory, and what upscaling in them will take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ramedge.halos import Halos
from ramedge.media.frames import Pixels
from ramedge.memory import network_bytes
from ramedge.passes import TileMode, expected_passes
from ramedge.runtimes.base import Runtime
from ramedge.tiling import TilePlan, Window

MIN_TILE = 16
"""Smallest tile: around it up to 34 pixels are read on each side."""

_STEP = 16
_LARGEST_TILE = 2048
_PROBE_SIDE = 176


@dataclass(frozen=True, slots=True)
class TileBudget:
    """What decides over the size of tiles.

    Attributes:
        precision: what the pixels at hand are computed in.
        bits: of a sample, 8 or 16.
    """

    scale: int
    precision: str
    mode: TileMode
    halos: Halos
    bits: int

    def whole_bytes(self, height: int, width: int) -> int:
        """Memory of the network for a whole frame."""
        return network_bytes("frame", self.scale, self.precision, height * width)

    def tile_bytes(self, plan: TilePlan) -> int:
        """Memory of the network for the tiles of a plan."""
        pixels = plan.source_height * plan.source_width
        if self.mode == "fast":
            return network_bytes("frame", self.scale, self.precision, pixels)
        statistic = self.statistic_plan(plan)
        return network_bytes("tile", self.scale, self.precision, pixels) + network_bytes(
            "statistics",
            self.scale,
            self.precision,
            statistic.source_height * statistic.source_width,
        )

    def is_whole(self, height: int, width: int, side: int) -> bool:
        """Whether each tile of this side (0: none) would read the whole frame."""
        if side == 0:
            return True
        plan = self.plan(height, width, side)
        return (plan.source_height, plan.source_width) == (height, width)

    def needed_bytes(self, height: int, width: int, side: int) -> int:
        """Memory of the network for a frame in tiles of a side, or whole."""
        if self.is_whole(height, width, side):
            return self.whole_bytes(height, width)
        return self.tile_bytes(self.plan(height, width, side))

    def plan(self, height: int, width: int, side: int) -> TilePlan:
        """Tiles of a side, with the halo that the mode needs."""
        return TilePlan(height, width, side, self.halos.rendering(self.mode, self.bits))

    def statistic_plan(self, plan: TilePlan) -> TilePlan:
        """The same tiles in the passes of statistics."""
        return TilePlan(plan.height, plan.width, plan.tile, self.halos.statistic(self.bits))

    def largest_tile(self, height: int, width: int, budget: float) -> int:
        """Largest side whose tiles fit into `budget` bytes, `MIN_TILE` where none does."""
        largest = min(_LARGEST_TILE, -(-max(height, width) // _STEP) * _STEP)
        sides = range(largest, MIN_TILE, -_STEP)
        fitting = (s for s in sides if self.needed_bytes(height, width, s) <= budget)
        return next(fitting, MIN_TILE)


def describe_plan(budget: TileBudget, plan: TilePlan, runtime: Runtime, pixels: Pixels) -> str:
    """One line: tiles, halo, passes, and an estimate of time and memory.

    The time is that of a small part of the frame, run twice, times the pixels to run.
    """
    each = _seconds_per_pixel(budget, runtime, _probe(plan, pixels), "tile")
    rendering = _source_pixels(plan) * each
    what, time_needed = "no passes of statistics", f"{_duration(rendering)} a frame"
    if budget.mode != "fast":
        before = budget.statistic_plan(plan)
        each = _seconds_per_pixel(budget, runtime, _probe(before, pixels), "statistics")
        passes = expected_passes(budget.bits, budget.precision)
        statistic = passes * _source_pixels(before) * each
        what = f"about {passes} {'pass' if passes == 1 else 'passes'} of statistics"
        time_needed = f"{_duration(rendering + statistic)} a frame"
        if budget.mode == "follow":
            time_needed += f", {_duration(rendering)} where it follows another"
    memory = budget.tile_bytes(plan) / 2**20
    return (
        f"{plan.count} tiles of {plan.tile} pixels with a halo of {plan.halo}, {what}: "
        f"about {time_needed}, {memory:.0f} MiB for the network."
    )


def _probe(plan: TilePlan, pixels: Pixels) -> Pixels:
    """A tile of the plan, for which the graph is compiled anyway, or a part of a larger one.

    No larger than a tile: where memory is scarce, more would not fit.
    """
    height, width = min(_PROBE_SIDE, plan.source_height), min(_PROBE_SIDE, plan.source_width)
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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
