"""The side of a frame's tiles: as asked for, what fits the memory, smaller once it ran out."""

from __future__ import annotations

import math
from collections.abc import Callable

from ramedge.errors import UsageError
from ramedge.estimate import MIN_TILE, TileBudget
from ramedge.memory import MemoryLimit

TileOption = int | None
"""Side of a tile in low-resolution pixels, 0 for the whole frame, `None` for automatic."""

_MIB = 2**20
_STEP = 16


def check_request(wanted: TileOption, memory: int | None) -> None:
    """Refuse what no frame can have.

    Raises:
        UsageError: a side or a limit that cannot be.
    """
    if wanted is not None and wanted != 0 and wanted < MIN_TILE:
        raise UsageError(f"--tile takes auto, 0 (whole frame) or at least {MIN_TILE} pixels.")
    if memory is not None and memory <= 0:
        raise UsageError(f"A memory limit of {memory} bytes leaves nothing.")


class TileSides:
    """Chooses; all frames of one size in one file get the same tiles."""

    def __init__(self, wanted: TileOption, memory: int | None, say: Callable[[str], None]) -> None:
        """Take what was asked for.

        Args:
            wanted: a side, 0 or `None`.
            memory: bytes that this process may take; `None` is what is free.
            say: told what a user should know of a choice, one line each.
        """
        self._wanted = wanted
        self._limited = memory is not None
        self._memory = MemoryLimit(memory)
        self._say = say
        self._chosen: dict[tuple[TileBudget, int, int, int], int] = {}
        self._failed = math.inf
        self._largest = 0

    def start_file(self) -> None:
        """Choose anew: what is free may have changed. What failed is remembered."""
        self._chosen.clear()

    def side(self, budget: TileBudget, height: int, width: int, beside: int) -> int:
        """Side of the tiles of a frame, 0 for the whole frame.

        `beside` is what stands in memory beside the network: source, result, copies, in bytes.
        """
        key = budget, height, width, beside
        if key not in self._chosen:
            side = self._choose(budget, height, width, beside)
            # A tile that would read the whole frame is the whole frame.
            self._chosen[key] = 0 if budget.is_whole(height, width, side) else side
        return self._chosen[key]

    def shrink(self, budget: TileBudget, height: int, width: int, beside: int) -> int:
        """The side after this frame's ran out of memory: what needs half of it at most.

        Frames that need as much take it too from now on.

        Raises:
            MemoryError: it is as small as can be.
        """
        side = self.side(budget, height, width, beside)
        needed = budget.needed_bytes(height, width, side)
        smaller = budget.largest_tile(height, width, needed / 2)
        whole = budget.is_whole(height, width, smaller)
        if whole or budget.needed_bytes(height, width, smaller) > needed / 2:
            # What was measured, on another device perhaps, says that no tile does: try.
            smaller = _half(side or max(height, width))
            while smaller and budget.is_whole(height, width, smaller):
                smaller = _half(smaller)
        if smaller < MIN_TILE or smaller == side:
            raise MemoryError
        self._failed = min(self._failed, needed)
        self._largest = smaller
        self._chosen.clear()
        return smaller

    def _choose(self, budget: TileBudget, height: int, width: int, beside: int) -> int:
        free = max(0.0, self._memory.free_bytes() - beside)
        side = self._wanted
        if side is None:
            side = self._fitting(budget, height, width, free)
        elif self._limited and (needed := budget.needed_bytes(height, width, side)) > free:
            self._say(
                f"This --tile needs about {needed / _MIB:.0f} MiB, more than the "
                f"{free / _MIB:.0f} MiB that --memory leaves: --tile auto keeps to it."
            )
        if budget.needed_bytes(height, width, side) >= self._failed:
            side = min(side, self._largest) if side else self._largest
            self._say(f"Memory ran out: tiles of {side} pixels at most.")
        return side

    def _fitting(self, budget: TileBudget, height: int, width: int, free: float) -> int:
        whole = budget.whole_bytes(height, width)
        if whole <= free:
            return 0
        side = budget.largest_tile(height, width, free)
        needed = budget.needed_bytes(height, width, side)
        if needed > free and whole <= needed:
            side, needed = 0, whole  # the frame is so small that tiles of it need more
        if side:
            self._say(f"{width}×{height} does not fit in {free / _MIB:.0f} MiB of memory whole.")
        if needed > free:
            self._say(
                f"This needs about {needed / _MIB:.0f} MiB of memory whatever the tiles, more than "
                f"the {free / _MIB:.0f} MiB left."
            )
        return side


def _half(side: int) -> int:
    return side // 2 // _STEP * _STEP
