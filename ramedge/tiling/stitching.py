"""Tiles put together again, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import numpy as np

from ramedge.media.pixels import Pixels
from ramedge.tiling.grid import Tile, TilePlan

OnTile: TypeAlias = Callable[[int, int], None]
"""Told how many tiles have run, and how many are expected."""


def stitched(
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


def assembled(bands: Iterator[Pixels], pixels: Pixels, scale: int) -> Pixels:
    """The upscaled frame `[s·H, s·W, 3]` of `pixels` from its bands."""
    height, width, channels = pixels.shape
    result: Pixels = np.empty((height * scale, width * scale, channels), pixels.dtype)
    top = 0
    for band in bands:
        result[top : top + len(band)] = band
        top += len(band)
    return result


class TileCounter:
    """Counts the tiles that have run, for a progress bar."""

    def __init__(self, plan: TilePlan, rounds: int, on_tile: OnTile) -> None:
        """Expect `rounds` over all tiles of a plan; further ones are added as they come."""
        self._expected = rounds * plan.count
        self._tiles = plan.count
        self._done = 0
        self._on_tile = on_tile

    def count(self) -> None:
        """One more tile has run."""
        self._done += 1
        while self._done > self._expected:
            self._expected += self._tiles
        self._on_tile(self._done, self._expected)
