"""The ways to run a frame, as types: whole, or in tiles of one side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Whole:
    """The frame in one piece."""


@dataclass(frozen=True, slots=True)
class Blockwise:
    """All tiles through one block of the network, then all through the next; exact.

    See `ramedge.tiling.attention.blockwise`. `side` is that of a tile in low-resolution pixels.
    """

    side: int


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Fixed-point iterations over all tiles find the frame's channel statistics; exact.

    See `ramedge.tiling.attention.fixed_point`.
    """

    side: int


Exact: TypeAlias = Blockwise | FixedPoint


@dataclass(frozen=True, slots=True)
class Temporal:
    """The attention of a video's previous frame, corrected by the tiles of this one.

    See `ramedge.tiling.attention.temporal`.

    Attributes:
        recompute: how frames run that the previous one does not lead to.
    """

    recompute: Exact

    @property
    def side(self) -> int:
        """Side of a tile in low-resolution pixels."""
        return self.recompute.side


@dataclass(frozen=True, slots=True)
class Independent:
    """Each tile as if it were a frame: its own statistics, so another result than the frame's."""

    side: int


Tiles: TypeAlias = Blockwise | FixedPoint | Temporal | Independent
TileChoice: TypeAlias = Whole | Tiles
