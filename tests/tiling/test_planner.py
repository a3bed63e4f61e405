from __future__ import annotations

import contextlib
import dataclasses
from itertools import pairwise

import pytest

from ramedge.host_memory import resident_bytes
from ramedge.runtimes.openvino.memory import MEASURED
from ramedge.tiling.choice import Blockwise, FixedPoint, Independent, Temporal, TileChoice, Whole
from ramedge.tiling.frame_memory import FrameMemory
from ramedge.tiling.halos import Halos
from ramedge.tiling.memory import Footprint, Room
from ramedge.tiling.network_memory import NetworkMemory
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import MIN_TILE, TileMode, TileRequest, TilingOptions
from ramedge.tiling.planner import TilePlanner
from ramedge.tiling.plans import TilePlans
from ramedge.tiling.search import fastest_tiles, iterated_tiles, tiles_of_side

GIB = 1 << 30


def measured(scale: int) -> NetworkMemory:
    return NetworkMemory(
        MEASURED["frame", scale, "bfloat16"],
        MEASURED["tile", scale, "bfloat16"],
        MEASURED["statistics", scale, "bfloat16"],
        MEASURED["blocks", scale, "bfloat16"],
    )


MEMORY = FrameMemory(measured(2), TilePlans(Halos(34), 8))
KEEPS = dataclasses.replace(MEMORY, feature_bytes=256)
"""Of a runtime that runs frames block by block, 64 channels in half precision."""
ON_GPU = dataclasses.replace(KEEPS, on_gpu=True, features_on_device=False)


def planner(
    tile: TileRequest = "auto", memory: int | None = None, mode: TileMode = "exact"
) -> tuple[TilePlanner, Notes]:
    notes = Notes()
    return TilePlanner(TilingOptions(tile, mode, memory), notes), notes


def needed(memory: FrameMemory, size: tuple[int, int], choice: TileChoice) -> float:
    return memory.needed(*size, choice).total


@pytest.mark.parametrize("mode", ["exact", "temporal", "fast"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_largest_tile_that_fits(mode: TileMode, scale: int) -> None:
    memory = dataclasses.replace(MEMORY, network=measured(scale))
    side = fastest_tiles(memory, mode, 4000, 3000, Room(GIB)).side
    assert side > MIN_TILE
    assert needed(memory, (4000, 3000), iterated_tiles(mode, side)) <= GIB
    for larger in range(side + 16, 2049, 16):
        assert needed(memory, (4000, 3000), iterated_tiles(mode, larger)) > GIB


def test_frames_are_run_block_by_block_where_their_features_fit() -> None:
    chosen, _ = planner(memory=resident_bytes() + 2 * GIB)
    found = chosen.choose(KEEPS, 2000, 1500)
    assert isinstance(found, Blockwise)
    assert 48 <= found.side <= 192
    assert needed(KEEPS, (2000, 1500), found) > 256 * 2000 * 1500
    assert isinstance(chosen.choose(KEEPS, 4000, 3000), FixedPoint)  # 3 GB of features
    assert isinstance(chosen.choose(MEMORY, 2000, 1500), FixedPoint)
    assert chosen.choose(KEEPS, 300, 400) == Whole()


def test_a_side_that_was_asked_for_is_kept_block_by_block_or_not() -> None:
    limit = resident_bytes() + 2 * GIB
    chosen, _ = planner(128, limit)
    assert chosen.choose(KEEPS, 2000, 1500) == Blockwise(128)
    assert chosen.choose(KEEPS, 4000, 3000) == FixedPoint(128)
    assert planner(128, limit, "fast")[0].choose(KEEPS, 2000, 1500) == Independent(128)


def test_a_temporal_frame_is_recomputed_as_an_exact_one_would_be() -> None:
    chosen, _ = planner(128, resident_bytes() + 2 * GIB, "temporal")
    assert chosen.choose(KEEPS, 2000, 1500) == Temporal(Blockwise(128))
    assert chosen.choose(KEEPS, 4000, 3000) == Temporal(FixedPoint(128))
    both = needed(KEEPS, (2000, 1500), Temporal(Blockwise(128)))
    one = needed(KEEPS, (2000, 1500), Temporal(FixedPoint(128)))
    assert both == one + needed(KEEPS, (2000, 1500), Blockwise(128))


@pytest.mark.parametrize("images", [1, 2])
def test_images_at_once_each_keep_their_features(images: int) -> None:
    memory = dataclasses.replace(MEMORY, feature_bytes=images * 256)
    size = 2000, 1500
    one = needed(KEEPS, size, Blockwise(128))
    assert needed(memory, size, Blockwise(128)) >= one + (images - 1) * 256 * 2000 * 1500


def test_the_features_cross_no_bus_unless_nothing_else_fits() -> None:
    """On a GPU that does not keep them, iterations are chosen though block by block would fit."""
    plenty = Room(64 * GIB, 64 * GIB)
    assert isinstance(fastest_tiles(KEEPS, "exact", 4000, 3000, plenty), Blockwise)
    found = fastest_tiles(ON_GPU, "exact", 4000, 3000, plenty)
    assert isinstance(found, FixedPoint)
    assert tiles_of_side(ON_GPU, "exact", 4000, 3000, 128, plenty) == FixedPoint(128)
    # With a wide halo every tile of the iterations reads more than the GPU holds.
    wide = dataclasses.replace(ON_GPU, plans=TilePlans(Halos(400), 16))
    tight = Room(64 * GIB, wide.needed(4000, 3000, Blockwise(48)).device)
    assert isinstance(fastest_tiles(wide, "exact", 4000, 3000, tight), Blockwise)
    assert tiles_of_side(wide, "exact", 4000, 3000, 48, tight) == Blockwise(48)


def test_on_a_gpu_features_count_against_the_host_and_graphs_against_the_device() -> None:
    size = 2000, 1500
    assert ON_GPU.needed(*size, Whole()) == Footprint(0, KEEPS.needed(*size, Whole()).host)
    there = dataclasses.replace(ON_GPU, features_on_device=True)
    split = ON_GPU.needed(*size, Blockwise(128))
    assert split.host > 256 * 2000 * 1500
    assert split.device == KEEPS.network.blocks.fixed_bytes + 9000 * 136 * 136
    assert there.needed(*size, Blockwise(128)) == Footprint(0, split.total)
    assert KEEPS.needed(*size, Blockwise(128)) == Footprint(split.total, 0)


def test_a_frame_too_small_for_tiles_to_help_runs_whole() -> None:
    """Tiles carry their halo and two more graphs: below some size they need more than the frame."""
    chosen, notes = planner(memory=1)
    assert chosen.choose(MEMORY, 100, 130) == Whole()
    size = 100, 130
    assert needed(MEMORY, size, FixedPoint(MIN_TILE)) > needed(MEMORY, size, Whole())
    assert [note for note in notes if "in small tiles too" in note]
    tiles = chosen.choose(MEMORY, 1000, 1300)
    assert isinstance(tiles, FixedPoint)
    assert tiles.side <= 4 * MIN_TILE


def test_after_running_out_tiles_need_less_each_time_and_end_at_the_smallest() -> None:
    chosen, _ = planner()
    size = 1000, 1300
    bytes_ = [needed(MEMORY, size, chosen.choose(MEMORY, *size))]
    assert bytes_ == [needed(MEMORY, size, Whole())]
    tried: list[TileChoice] = []
    with contextlib.suppress(MemoryError):
        for _ in range(20):
            tried.append(chosen.shrink(MEMORY, *size))
            assert chosen.choose(MEMORY, *size) == tried[-1]
            bytes_.append(needed(MEMORY, size, tried[-1]))
    assert tried[-1] == FixedPoint(MIN_TILE)
    assert bytes_[1] <= bytes_[0] / 2
    assert all(after < before for before, after in pairwise(bytes_))


def test_what_ran_out_is_remembered_for_frames_that_need_as_much() -> None:
    chosen, notes = planner()
    tiles = chosen.shrink(MEMORY, 1000, 1300)
    chosen.start_file()
    assert chosen.choose(MEMORY, 1000, 1300) == tiles
    assert list(notes) == [f"Memory ran out: tiles of {tiles.side} pixels at most."]
    assert chosen.choose(MEMORY, 200, 300) == Whole()


def test_block_by_block_that_ran_out_becomes_iterations_of_the_side_asked_for() -> None:
    chosen, _ = planner(192)
    assert chosen.choose(KEEPS, 1000, 1300) == Blockwise(192)
    smaller = chosen.shrink(KEEPS, 1000, 1300)
    assert chosen.choose(KEEPS, 1000, 1300) == smaller == FixedPoint(192)
    assert needed(KEEPS, (1000, 1300), smaller) < needed(KEEPS, (1000, 1300), Blockwise(192))


def test_a_tile_beyond_the_limit_is_said() -> None:
    chosen, notes = planner(256, memory=1)
    assert chosen.choose(MEMORY, 1000, 1300) == FixedPoint(256)
    assert "leave --tile out, or give --memory " in next(iter(notes))
    chosen, notes = planner(256)
    assert chosen.choose(MEMORY, 1000, 1300) == FixedPoint(256)
    assert not notes


def test_tiles_that_cannot_fit_are_not_the_tiniest_for_next_to_nothing() -> None:
    size = 400, 600
    tiles = fastest_tiles(MEMORY, "exact", *size, Room(1000))
    assert tiles.side >= 3 * MIN_TILE
    assert needed(MEMORY, size, tiles) <= 1.2 * needed(MEMORY, size, FixedPoint(MIN_TILE))


def test_what_fits_is_taken_though_the_smallest_tiles_do_not() -> None:
    """Of a small frame a tile that reads all of it needs less than small ones with their halo."""
    size = 150, 150
    whole = needed(MEMORY, size, Whole())
    assert whole < needed(MEMORY, size, FixedPoint(MIN_TILE))
    tiles = fastest_tiles(MEMORY, "exact", *size, Room(whole))
    assert needed(MEMORY, size, tiles) <= whole
