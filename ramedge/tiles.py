"""Frames in tiles that share the whole frame's attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from ramedge.errors import UsageError
from ramedge.media.frames import Pixels
from ramedge.passes import STATISTIC_HALO, AttentionSolver
from ramedge.runtimes.base import Runtime
from ramedge.statistics import Values, attention_change, merge
from ramedge.tiling import TilePlan

TileMode = Literal["exact", "follow", "fast"]
"""Where a tile's attention comes from: the frame's own (`exact`), the frame before (`follow`), or
the tile alone (`fast`, another network for every tile)."""

CUT = 0.01
"""Change of the attention (0 to 1) from one frame to the next that counts as a cut."""

OnTile = Callable[[int, int], None]


class FrameTiler:
    """Upscales frames tile by tile in the modes `exact` and `follow`.

    Frames of one video follow one another; `reset` tells that the next frame is of another.
    """

    def __init__(self, runtime: Runtime, receptive_field: int, mode: TileMode) -> None:
        """Take a runtime that has the tile graph.

        Raises:
            UsageError: it has none.
        """
        if runtime.excitation is None:
            raise UsageError("This model has no graph for tiles: export it again.")
        self._runtime = runtime
        self._excitation = runtime.excitation
        self._halo = receptive_field
        self._mode = mode
        self._solver = AttentionSolver(runtime, runtime.excitation)
        self._before: Values | None = None
        self.passes = 0.0
        """Passes of statistics that the last frame needed."""

    def reset(self) -> None:
        """Forget the frame before."""
        self._before = None

    def upscale(self, pixels: Pixels, side: int, on_tile: OnTile) -> Pixels:
        """`[H, W, 3]` uint8 or uint16 → `[s·H, s·W, 3]`, in tiles of `side` pixels.

        `on_tile` is told how many tiles were run, and how many there may be.
        """
        height, width = pixels.shape[:2]
        plan = TilePlan(height, width, side, self._halo)
        count = _Count(plan.count, on_tile)
        start = self._before
        if self._mode == "follow" and start is not None:
            self.passes = 0.0
            result, found = self._render(pixels, plan, start, count)
            if attention_change(start, found) <= CUT:
                self._before = found
                return result
            start = found  # a cut: this frame anew, from what was just seen of it
        statistic_plan = TilePlan(height, width, side, min(STATISTIC_HALO, self._halo))
        solved = self._solver.solve(pixels, statistic_plan, start, count.one)
        self.passes = solved.passes
        result, self._before = self._render(pixels, plan, solved.logits, count)
        return result

    def _render(
        self, pixels: Pixels, plan: TilePlan, logits: Values, count: _Count
    ) -> tuple[Pixels, Values]:
        """The upscaled frame, and the logits that follow from the statistic of its tiles."""
        s = self._runtime.scale
        height, width, channels = pixels.shape
        result: Pixels = np.empty((height * s, width * s, channels), pixels.dtype)
        statistics = []
        for tile in plan:
            interior = tile.interior.within(tile.source)
            part = pixels[tile.source.slices]
            upscaled, statistic = self._runtime.infer_tile(part, logits, interior)
            result[tile.interior.scaled(s).slices] = upscaled[interior.scaled(s).slices]
            statistics.append(statistic)
            count.one()
        return result, self._excitation.logits(merge(statistics).variance)


class _Count:
    """Tiles run, for a progress bar: at least two passes and the rendering are expected."""

    def __init__(self, tiles: int, on_tile: OnTile) -> None:
        self._expected = 3 * tiles
        self._tiles = tiles
        self._done = 0
        self._on_tile = on_tile

    def one(self) -> None:
        self._done += 1
        while self._done > self._expected:
            self._expected += self._tiles
        self._on_tile(self._done, self._expected)
