"""Which way to run a frame in tiles is fastest among those that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

from ramedge.tiling.choice import Blockwise, Exact, FixedPoint, Independent, Temporal, Tiles
from ramedge.tiling.frame_memory import FrameMemory
from ramedge.tiling.memory import Room
from ramedge.tiling.options import MIN_TILE, TileMode

_STEP = 16
_LARGEST_TILE = 2048
_BLOCK_TILES = 192, 48
"""Largest and smallest tile of a frame that is run block by block: of larger ones every block's
graph takes more memory for little less rim, of smaller ones the rim is over a quarter of the
work."""
_SPARE = 1.125
"""Where no tiles fit, those may need this multiple of the least that any of them do."""


def fastest_tiles(
    memory: FrameMemory, mode: TileMode, height: int, width: int, room: Room
) -> Tiles:
    """The fastest tiles that fit.

    Where none do, the largest that need little more than the smallest: these would save next to
    nothing and take many times as long.
    """
    choices = list(_candidates(memory, mode, height, width))
    needed = [memory.needed(height, width, choice) for choice in choices]
    fitting = [choice for choice, each in zip(choices, needed, strict=True) if room.holds(each)]
    if fitting:
        found = fitting[0]
    else:
        most = _SPARE * min(each.total for each in needed)
        found = next(c for c, each in zip(choices, needed, strict=True) if each.total <= most)
    if isinstance(found, Blockwise):
        return found
    return tiles_of_side(memory, mode, height, width, found.side, room)


def tiles_of_side(
    memory: FrameMemory, mode: TileMode, height: int, width: int, side: int, room: Room
) -> Tiles:
    """The fastest tiles of a side that fit, otherwise those of fixed-point iterations."""
    iterated = iterated_tiles(mode, side)
    if mode == "fast" or memory.feature_bytes == 0:
        return iterated
    kept = _of_mode(mode, Blockwise(side))
    # Where the features leave the device, iterations are faster than the transfers.
    order = (kept,) if memory.features_on_device else (iterated, kept)
    return next((c for c in order if room.holds(memory.needed(height, width, c))), iterated)


def iterated_tiles(mode: TileMode, side: int) -> Tiles:
    """The tiles of a mode that keep no features between the blocks."""
    return Independent(side) if mode == "fast" else _of_mode(mode, FixedPoint(side))


def _of_mode(mode: TileMode, exact: Exact) -> Tiles:
    return Temporal(exact) if mode == "temporal" else exact


def _candidates(memory: FrameMemory, mode: TileMode, height: int, width: int) -> Iterator[Tiles]:
    """From the fastest to the smallest."""
    largest, smallest = _BLOCK_TILES
    keeps_features = memory.feature_bytes > 0 and mode == "exact"
    blockwise = [Blockwise(s) for s in range(largest, smallest - 1, -_STEP)]
    if keeps_features and memory.features_on_device:
        yield from blockwise
    largest = min(_LARGEST_TILE, -(-max(height, width) // _STEP) * _STEP)
    for side in range(largest, MIN_TILE, -_STEP):
        yield iterated_tiles(mode, side)
    yield iterated_tiles(mode, MIN_TILE)
    if keeps_features and not memory.features_on_device:
        yield from blockwise
