"""The tiles of a frame for each way to run it: how far they read beyond their borders."""

from __future__ import annotations

from dataclasses import dataclass

from ramedge.tiling.attention.blockwise import BLOCK_HALO
from ramedge.tiling.choice import Blockwise, FixedPoint, Independent, Temporal, TileChoice, Tiles
from ramedge.tiling.grid import TilePlan
from ramedge.tiling.halos import Halos


@dataclass(frozen=True, slots=True)
class TilePlans:
    """Makes the plans for frames of one network and one kind of pixels.

    Attributes:
        halos: what the network needs around a tile.
        bits: of a sample, 8 or 16.
    """

    halos: Halos
    bits: int

    def rendering(self, height: int, width: int, tiles: Tiles) -> TilePlan:
        """The tiles that make the result. For `Temporal` those that use the previous frame."""
        return TilePlan(height, width, tiles.side, self._halo(tiles))

    def statistics(self, plan: TilePlan) -> TilePlan:
        """The same tiles in the fixed-point iterations."""
        return TilePlan(plan.height, plan.width, plan.tile, self.halos.statistic(self.bits))

    def reads_whole(self, height: int, width: int, choice: TileChoice) -> bool:
        """Whether every tile would read the whole frame, which then may run whole."""
        if isinstance(choice, Temporal) and isinstance(choice.recompute, Blockwise):
            choice = choice.recompute
        if not isinstance(choice, Tiles):
            return True
        plan = self.rendering(height, width, choice)
        return (plan.source_height, plan.source_width) == (height, width)

    def _halo(self, tiles: Tiles) -> int:
        if isinstance(tiles, Blockwise):
            return BLOCK_HALO
        if isinstance(tiles, FixedPoint):
            return self.halos.rendering("exact", self.bits)
        if isinstance(tiles, Independent):
            return self.halos.rendering("fast", self.bits)
        return self.halos.rendering("temporal", self.bits)
