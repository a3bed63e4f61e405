"""Plans of equal tiles over an image. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ramedge.errors import UsageError
from ramedge.types import Window

_STEP = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """`source` is what the network reads, `interior` the part of its output that is kept.

    Both in low-resolution pixels of the whole image.
    """

    source: Window
    interior: Window


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles whose interiors cover `height`×`width` once, all reading equally large windows.

    As few as their largest side allows, and then no larger than they must be.

    Attributes:
        tile: largest side of an interior.
        halo: pixels read around an interior, so that what is kept saw all it depends on.
    """

    height: int
    width: int
    tile: int
    halo: int

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise UsageError(f"An image of {self.width}×{self.height} has no pixels.")
        if self.tile < 1 or self.halo < 0:
            raise UsageError("A tile needs at least one pixel.")

    @property
    def tile_height(self) -> int:
        """Rows of an interior; the last ones may have fewer."""
        return self._side(self.height)

    @property
    def tile_width(self) -> int:
        """Columns of an interior; the last ones may have fewer."""
        return self._side(self.width)

    def _side(self, length: int) -> int:
        """What covers the length with the fewest tiles, in steps.

        Then what is compiled for a shape serves images of about the same size.
        """
        needed = -(-length // -(-length // self.tile))
        return min(self.tile, -(-needed // _STEP) * _STEP)

    @property
    def source_height(self) -> int:
        """Rows that every tile reads."""
        return min(self.height, self.tile_height + 2 * self.halo)

    @property
    def source_width(self) -> int:
        """Columns that every tile reads."""
        return min(self.width, self.tile_width + 2 * self.halo)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return -(-self.height // self.tile) * -(-self.width // self.tile)

    def __iter__(self) -> Iterator[Tile]:
        for top in range(0, self.height, self.tile_height):
            for left in range(0, self.width, self.tile_width):
                yield self.at(top, left)

    def at(self, top: int, left: int) -> Tile:
        """The tile whose interior begins at a pixel of the image."""
        interior = Window(
            top,
            left,
            min(top + self.tile_height, self.height),
            min(left + self.tile_width, self.width),
        )
        # At the far borders the window moves inwards instead of being padded: padding the
        # image with zeros is not what the network's layers do with their own borders.
        start_y = max(0, min(top - self.halo, self.height - self.source_height))
        start_x = max(0, min(left - self.halo, self.width - self.source_width))
        source = Window(start_y, start_x, start_y + self.source_height, start_x + self.source_width)
        return Tile(source=source, interior=interior)
