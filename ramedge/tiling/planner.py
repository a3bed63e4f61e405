"""The tiles of frames: as asked for, as fits in memory, smaller once memory ran out."""

from __future__ import annotations

import math
from collections.abc import Callable

from ramedge.tiling.choice import Blockwise, Temporal, TileChoice, Tiles, Whole
from ramedge.tiling.frame_memory import FrameMemory
from ramedge.tiling.memory import Footprint, MemoryBudget, Room
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import MIN_TILE, TilingOptions
from ramedge.tiling.search import fastest_tiles, iterated_tiles, tiles_of_side

_MIB = 2**20
_STEP = 16


class TilePlanner:
    """Chooses tiles; all frames of one size in one file get the same ones."""

    def __init__(
        self,
        options: TilingOptions,
        notes: Notes,
        device_free: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Take what was asked for.

        Args:
            options: of a mode that the runtime can do.
            notes: told what a user should know of a choice.
            device_free: free bytes of the GPU that computes; `None` where the host does.
        """
        self._options = options
        self._notes = notes
        self._budget = MemoryBudget(options.memory, device_free)
        self._chosen: dict[tuple[FrameMemory, int, int, int], TileChoice] = {}
        self._failed_bytes = math.inf
        self._largest: Tiles | None = None

    def start_file(self) -> None:
        """Choose again: what is free may have changed. What failed is remembered."""
        self._chosen.clear()

    def choose(self, memory: FrameMemory, height: int, width: int, beside: int = 0) -> TileChoice:
        """How to run a frame of `height`×`width` low-resolution pixels.

        `beside` is what stands in the host's memory beside the network: source, result, copies, in
        bytes.
        """
        key = memory, height, width, beside
        if key not in self._chosen:
            choice = self._choose(memory, height, width, self._budget.room(beside))
            whole = memory.plans.reads_whole(height, width, choice)
            self._chosen[key] = Whole() if whole else choice
        return self._chosen[key]

    def shrink(self, memory: FrameMemory, height: int, width: int, beside: int = 0) -> Tiles:
        """The tiles after this frame's ran out of memory: what needs half of it at most.

        Frames that need as much take them too from now on.

        Raises:
            MemoryError: they are as small as can be.
        """
        choice = self.choose(memory, height, width, beside)
        mode = self._options.mode
        needed = memory.needed(height, width, choice)
        half = Room(needed.host / 2, needed.device / 2)
        smaller = fastest_tiles(memory, mode, height, width, half)
        whole = memory.plans.reads_whole(height, width, smaller)
        if whole or not half.holds(memory.needed(height, width, smaller)):
            # By what is known of the memory no tiles need half of it: try the half side.
            side = _half(max(height, width) if isinstance(choice, Whole) else choice.side)
            while side >= MIN_TILE:
                smaller = iterated_tiles(mode, side)
                if not memory.plans.reads_whole(height, width, smaller):
                    break
                side = _half(side)
            if side < MIN_TILE:
                raise MemoryError
        if smaller == choice:
            raise MemoryError
        self._failed_bytes = min(self._failed_bytes, needed.total)
        self._largest = smaller
        self._chosen.clear()
        chosen = self.choose(memory, height, width, beside)
        if isinstance(chosen, Whole) or chosen == choice:
            raise MemoryError
        return chosen

    def _choose(self, memory: FrameMemory, height: int, width: int, room: Room) -> TileChoice:
        if self._options.tile == "auto":
            choice = self._fitting(memory, height, width, room)
        else:
            choice = self._requested(memory, height, width, room)
        needed = memory.needed(height, width, choice)
        if self._largest is not None and needed.total >= self._failed_bytes:
            choice = self._no_larger(choice, self._largest)
            self._notes.add(f"Memory ran out: tiles of {choice.side} pixels at most.")
        return choice

    def _requested(self, memory: FrameMemory, height: int, width: int, room: Room) -> TileChoice:
        side, mode = self._options.tile, self._options.mode
        choice: TileChoice = Whole()
        if isinstance(side, int):
            choice = tiles_of_side(memory, mode, height, width, side, room)
        needed = memory.needed(height, width, choice)
        if self._options.memory is not None and not room.holds(needed):
            short = room.shortage(needed)
            self._notes.add(
                f"This --tile needs about {short.needed / _MIB:.0f} MiB of {short.name}, more than "
                f"the {short.free / _MIB:.0f} MiB that --memory leaves beside what the process "
                f"holds: leave --tile out, or give {self._enough(needed, room)}."
            )
        return choice

    def _fitting(self, memory: FrameMemory, height: int, width: int, room: Room) -> TileChoice:
        whole = memory.needed(height, width, Whole())
        if room.holds(whole):
            return Whole()
        choice: TileChoice = fastest_tiles(memory, self._options.mode, height, width, room)
        needed = memory.needed(height, width, choice)
        if not room.holds(needed) and whole.total <= needed.total:
            # The frame is so small that tiles of it need more.
            choice, needed = Whole(), whole
        if not isinstance(choice, Whole):
            short = room.shortage(whole)
            self._notes.add(
                f"{width}×{height} does not fit in {short.free / _MIB:.0f} MiB of {short.name} "
                "whole."
            )
        if not room.holds(needed):
            short = room.shortage(needed)
            left, advice = "that is free", ""
            if self._options.memory is not None:
                left = "that --memory leaves beside what the process holds"
                advice = f": give {self._enough(needed, room)}"
            self._notes.add(
                f"This needs about {short.needed / _MIB:.0f} MiB of {short.name} in small tiles "
                f"too, more than the {short.free / _MIB:.0f} MiB {left}{advice}."
            )
        return choice

    def _enough(self, needed: Footprint, room: Room) -> str:
        return f"--memory {math.ceil(room.least_limit(needed) / _MIB)}MiB"

    def _no_larger(self, choice: TileChoice, largest: Tiles) -> Tiles:
        if isinstance(choice, Whole):
            return iterated_tiles(self._options.mode, largest.side)
        if choice.side <= largest.side and _keeps_features(choice) <= _keeps_features(largest):
            return choice
        if _keeps_features(choice) and _keeps_features(largest):
            return largest
        return iterated_tiles(self._options.mode, min(choice.side, largest.side))


def _keeps_features(tiles: Tiles) -> bool:
    exact = tiles.recompute if isinstance(tiles, Temporal) else tiles
    return isinstance(exact, Blockwise)


def _half(side: int) -> int:
    return side // 2 // _STEP * _STEP
