"""The side of a frame's tiles: as asked for, what fits the memory, smaller once it ran out."""

from __future__ import annotations

import math
from collections.abc import Callable

from ramedge.errors import UsageError
from ramedge.tiling.estimate import MIN_TILE, TileBudget
from ramedge.tiling.grid import TileChoice
from ramedge.tiling.memory import MemoryLimit

TileOption = int | None
"""Side of a tile in low-resolution pixels, 0 for the whole frame, `None` for automatic."""

_MIB = 2**20
_STEP = 16


def check_request(wanted: TileOption, memory: int | None) -> None:
    """Refuse what no frame can have.

    Raises:
        UsageError: a side or a limit that cannot be.
    """
    for name, value in (("tile", wanted), ("memory", memory)):
        if value is not None and not isinstance(value, int):
            raise UsageError(f"{name}={value!r} is not a whole number; None is automatic.")
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
        self._chosen: dict[tuple[TileBudget, int, int, int], TileChoice] = {}
        self._failed = math.inf
        self._largest = TileChoice(0)

    def start_file(self) -> None:
        """Choose anew: what is free may have changed. What failed is remembered."""
        self._chosen.clear()

    def choose(self, budget: TileBudget, height: int, width: int, beside: int) -> TileChoice:
        """Tiles of a frame.

        `beside` is what stands in memory beside the network: source, result, copies, in bytes.
        """
        key = budget, height, width, beside
        if key not in self._chosen:
            choice = self._choose(budget, height, width, beside)
            # A tile that would read the whole frame is the whole frame.
            whole = budget.is_whole(height, width, choice)
            self._chosen[key] = TileChoice(0) if whole else choice
        return self._chosen[key]

    def shrink(self, budget: TileBudget, height: int, width: int, beside: int) -> TileChoice:
        """The tiles after this frame's ran out of memory: what needs half of it at most.

        Frames that need as much take them too from now on.

        Raises:
            MemoryError: they are as small as can be.
        """
        choice = self.choose(budget, height, width, beside)
        needed = budget.needed_bytes(height, width, choice)
        smaller = budget.best_tiles(height, width, needed / 2)
        whole = budget.is_whole(height, width, smaller)
        if whole or budget.needed_bytes(height, width, smaller) > needed / 2:
            # What was measured, on another device perhaps, says that no tile does: try.
            smaller = TileChoice(_half(choice.side or max(height, width)))
            while smaller.side and budget.is_whole(height, width, smaller):
                smaller = TileChoice(_half(smaller.side))
        if smaller.side < MIN_TILE or smaller == choice:
            raise MemoryError
        self._failed = min(self._failed, needed)
        self._largest = smaller
        self._chosen.clear()
        return smaller

    def _choose(self, budget: TileBudget, height: int, width: int, beside: int) -> TileChoice:
        free = max(0.0, self._memory.free_bytes() - beside)
        if self._wanted is None:
            choice = self._fitting(budget, height, width, free)
        else:
            choice = budget.with_features(height, width, self._wanted, free)
            needed = budget.needed_bytes(height, width, choice)
            if self._limited and needed > free:
                self._say(
                    f"This --tile needs about {needed / _MIB:.0f} MiB, more than the "
                    f"{free / _MIB:.0f} MiB that --memory leaves: --tile auto keeps to it."
                )
        if budget.needed_bytes(height, width, choice) >= self._failed:
            side = min(choice.side, self._largest.side) if choice.side else self._largest.side
            choice = TileChoice(side, choice.by_block and self._largest.by_block)
            self._say(f"Memory ran out: tiles of {side} pixels at most.")
        return choice

    def _fitting(self, budget: TileBudget, height: int, width: int, free: float) -> TileChoice:
        whole = budget.whole_bytes(height, width)
        if whole <= free:
            return TileChoice(0)
        choice = budget.best_tiles(height, width, free)
        needed = budget.needed_bytes(height, width, choice)
        if needed > free and whole <= needed:
            # The frame is so small that tiles of it need more.
            choice, needed = TileChoice(0), whole
        if choice.side:
            self._say(f"{width}×{height} does not fit in {free / _MIB:.0f} MiB of memory whole.")
        if needed > free:
            self._say(
                f"This needs about {needed / _MIB:.0f} MiB of memory in small tiles too, more than "
                f"the {free / _MIB:.0f} MiB left."
            )
        return choice


def _half(side: int) -> int:
    return side // 2 // _STEP * _STEP
