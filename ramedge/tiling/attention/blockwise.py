"""Frames block by block: every tile through one block, then all through the next.

The attention of block r needs the variance of X_r over the whole frame (paper, Eq. 6), and X_r
needs the attention of the blocks before. So one block after another, with the features of the
whole frame kept between them, is the whole frame's computation itself: nothing is iterated, nothing
is computed twice but a rim of four pixels, and the network's memory is that of tiles. What it takes
is memory for the features, 2·C values a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ramedge.media.pixels import Pixels
from ramedge.network.channel_statistics import ChannelExcitation, Statistic, Values, merge, stack
from ramedge.runtimes.runtime import Features, Runtime
from ramedge.tiling.grid import Tile, TilePlan
from ramedge.types import Window

BLOCK_HALO = 4
"""Pixels that a tile reads around it. To X of the next block there are two 3×3 convolutions and
the depthwise one of the gate. To the output it is the gate's, the body's, and two pixels of the
upsampler and reconstruction together, whatever the scale."""


class BlockRunner:
    """Runs frames block by block; keeps the memory of one for the next."""

    def __init__(self, runtime: Runtime, excitation: ChannelExcitation) -> None:
        """Take a runtime whose `feature_type` is not `None`."""
        self._runtime = runtime
        self._excitation = excitation
        self._frame: FeatureFrame | None = None
        self.statistics: list[Statistic] = []
        """Of the last frame's tiles, in their order, for all blocks."""

    def tiles(
        self, pixels: Pixels, plan: TilePlan, on_tile: Callable[[], None]
    ) -> Iterator[tuple[Tile, Pixels]]:
        """Each tile and its upscaled `source`, once all blocks have run over the frame.

        Args:
            pixels: `[H, W, 3]` uint8 or uint16.
            plan: with a halo of `BLOCK_HALO` or more.
            on_tile: called for each tile and block.
        """
        frame = self._take_features(pixels)
        logits: Values = np.zeros(self._excitation.shape)
        found: list[list[Statistic]] = []
        for block in range(len(logits)):
            found.append(self._run(block, pixels, plan, frame, logits, on_tile))
            layers = self._excitation.block(block)
            logits[block] = layers.logits(merge(found[-1]).variance)[0]
        for tile in plan:
            part = frame.window(tile.source)
            yield tile, self._runtime.finish(part, logits, pixels[tile.source.slices])
            on_tile()
        self._frame = frame
        self.statistics = [stack(of_tile) for of_tile in zip(*found, strict=True)]

    def _run(
        self,
        block: int,
        pixels: Pixels,
        plan: TilePlan,
        frame: FeatureFrame,
        logits: Values,
        on_tile: Callable[[], None],
    ) -> list[Statistic]:
        """All tiles up to X of the block after `block`; the statistic of that, `[1, C]` each."""
        statistics = []
        for tile in plan:
            frame.settle(above=tile.source.top)
            interior = tile.interior.within(tile.source)
            if block == 0:
                found = self._runtime.begin(pixels[tile.source.slices], interior)
            else:
                part = frame.window(tile.source)
                found = self._runtime.advance(block, part, logits, interior)
            features, statistic = found
            frame.put(tile, features)
            statistics.append(statistic)
            on_tile()
        frame.settle(above=plan.height)
        return statistics

    def _take_features(self, pixels: Pixels) -> FeatureFrame:
        """Those kept, if they are of this size; two frames may run at the same time."""
        kind = self._runtime.feature_type(pixels.dtype)
        assert kind is not None
        shape = self._excitation.shape[1], *pixels.shape[:2]
        kept, self._frame = self._frame, None
        if kept is not None and kept.fits(shape, kind):
            return kept
        del kept  # freed before the next ones are made
        return FeatureFrame(shape, kind)

    def forget(self) -> None:
        """Free the features."""
        self._frame = None


class FeatureFrame:
    """F and X of a whole frame, replaced in place by those of the next block.

    A tile reads its neighbours' pixels around it, so new features wait until no tile needs the old.
    """

    def __init__(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        """Take `(C, H, W)` and the runtime's type.

        Raises:
            MemoryError: the host has not enough.
        """
        self._whole = Features(np.empty(shape, kind), np.empty(shape, kind))
        self._waiting: list[tuple[Window, Features]] = []

    def fits(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
        """Whether it is of that shape and type."""
        held = self._whole.residual
        return held.shape == shape and held.dtype == kind

    def window(self, window: Window) -> Features:
        """The features of a window as they are now, as views."""
        rows, columns = window.slices
        residual, transformed = (values[:, rows, columns] for values in self._whole)
        return Features(residual, transformed)

    def put(self, tile: Tile, features: Features) -> None:
        """Take the interior of a tile's `source`; a copy of it waits for `settle`."""
        rows, columns = tile.interior.within(tile.source).slices
        residual, transformed = (values[:, rows, columns].copy() for values in features)
        self._waiting.append((tile.interior, Features(residual, transformed)))

    def settle(self, above: int) -> None:
        """Write what waits for rows above `above`: no tile reads them any more."""
        while self._waiting and self._waiting[0][0].bottom <= above:
            window, features = self._waiting.pop(0)
            for old, new in zip(self.window(window), features, strict=True):
                old[...] = new


def waiting_rows(plan: TilePlan) -> int:
    """Rows of a frame whose new features stand beside the old ones, at most."""
    return min(plan.height, 2 * (plan.tile_height + plan.halo))


def feature_bytes(runtime: Runtime, pixel_type: np.dtype[Any]) -> int:
    """Bytes for each pixel of a frame, 0 where the runtime cannot run block by block."""
    kind = runtime.feature_type(pixel_type)
    if kind is None or runtime.excitation is None:
        return 0
    return 2 * runtime.excitation.shape[1] * kind.itemsize
