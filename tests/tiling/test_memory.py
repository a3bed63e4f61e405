from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from ramedge.errors import UsageError
from ramedge.host_memory import available_bytes, resident_bytes
from ramedge.runtimes.openvino.runtime import OpenVinoRuntime
from ramedge.tiling.estimate import MIN_TILE, TileBudget
from ramedge.tiling.grid import TileChoice
from ramedge.tiling.halos import Halos
from ramedge.tiling.memory import MemoryLimit, network_bytes
from ramedge.tiling.planner import TileSides
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried", "std::bad_alloc", "Out of Memory"])
def test_exhausted_memory_halves_the_tile_and_repeats_the_frame(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    frame = np.tile(photo, (2, 2, 1))  # 128×144
    with Upscaler() as upscaler:
        whole = upscaler.upscale(frame)
        runtime = upscaler.model.runtime
        sides = []

        def limited(real, limit):
            def run(pixels, *rest):
                sides.append(max(pixels.shape[-3:-1]))
                if sides[-1] > limit:
                    raise RuntimeError(words)
                return real(pixels, *rest)

            return run

        for name in ("_infer_pixels", "_infer_tile", "_infer_statistic"):
            monkeypatch.setattr(runtime, name, limited(getattr(runtime, name), 110))
        tiled = upscaler.upscale(frame)
        assert sides[0] == 144
        assert any("Out of memory: the same frame again" in note for note in upscaler.notes)
        assert np.abs(tiled.astype(int) - whole).max() <= 1
        # The next frame does not try again what did not fit.
        sides.clear()
        upscaler.upscale(frame)
        assert max(sides) <= 110


def test_memory_that_never_suffices_ends(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self, pixels, *rest):
        raise MemoryError("no")

    with Upscaler() as upscaler:
        for name in ("_infer_pixels", "_infer_tile", "_infer_statistic"):
            monkeypatch.setattr(type(upscaler.model.runtime), name, fail)
        with pytest.raises(MemoryError):
            upscaler.upscale(photo)


def test_other_errors_are_not_memory(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
    def fail(self, pixels):
        raise RuntimeError("something else")

    with Upscaler() as upscaler:
        monkeypatch.setattr(type(upscaler.model.runtime), "_infer_pixels", fail)
        with pytest.raises(RuntimeError, match="something else"):
            upscaler.upscale(photo)


def test_a_memory_limit_means_tiles(photo: np.ndarray) -> None:
    frame = np.tile(photo, (6, 6, 1))
    with Upscaler(memory=int((resident_bytes() + (180 << 20)) / 0.9)) as upscaler:
        assert upscaler.upscale(frame).shape == (768, 864, 3)
        assert any("does not fit" in note for note in upscaler.notes)
        assert any("attention of the whole frame" in note for note in upscaler.notes)


def test_what_was_taken_since_stays_to_be_used() -> None:
    limit = MemoryLimit(resident_bytes() + (1 << 30))
    before = limit.free_bytes()
    block = bytearray(64 << 20)
    assert limit.free_bytes() == before
    assert MemoryLimit(1).free_bytes() == 0
    assert len(block) < MemoryLimit().free_bytes() <= available_bytes() + (64 << 20)


def test_all_frames_of_a_video_have_the_same_tiles(photo: np.ndarray) -> None:
    """The network that the first frame loaded does not make the tiles of the next one smaller."""
    frame = np.tile(photo, (3, 3, 1))
    memory = int((resident_bytes() + (85 << 20)) / 0.9)
    with Upscaler(memory=memory, tile_mode="fast") as upscaler:
        for _ in range(3):
            upscaler.upscale(frame)
        sizes = {note for note in upscaler.notes if note.startswith("Tiles of")}
        assert len(sizes) == 1


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_largest_tile_that_fits(mode, scale: int) -> None:
    budget = TileBudget(scale, "bf16", mode, Halos(34), 8)
    side = budget.best_tiles(4000, 3000, 1 << 30).side
    assert side > MIN_TILE
    assert budget.tile_bytes(budget.plan(4000, 3000, side)) <= 1 << 30
    larger = range(side + 16, 2049, 16)
    assert all(budget.tile_bytes(budget.plan(4000, 3000, s)) > 1 << 30 for s in larger)


def sides(tile: int | None = None, memory: int | None = None) -> tuple[TileSides, list[str]]:
    notes: list[str] = []
    return TileSides(tile, memory, notes.append), notes


BUDGET = TileBudget(2, "bf16", "exact", Halos(34), 8)
KEEPS = dataclasses.replace(BUDGET, feature_bytes=256)
"""Of a runtime that runs frames block by block, 64 channels in half precision."""


def test_frames_are_run_block_by_block_where_their_features_fit() -> None:
    chosen, _ = sides(memory=resident_bytes() + (2 << 30))
    found = chosen.choose(KEEPS, 2000, 1500, 0)
    assert found.by_block
    assert 48 <= found.side <= 192
    assert KEEPS.needed_bytes(2000, 1500, found) > 256 * 2000 * 1500
    assert not chosen.choose(KEEPS, 4000, 3000, 0).by_block  # 3 GB of features
    assert not chosen.choose(BUDGET, 2000, 1500, 0).by_block
    assert chosen.choose(KEEPS, 300, 400, 0) == TileChoice(0)


def test_a_side_that_was_asked_for_is_kept_block_by_block_or_not() -> None:
    chosen, _ = sides(tile=128, memory=resident_bytes() + (2 << 30))
    assert chosen.choose(KEEPS, 2000, 1500, 0) == TileChoice(128, by_block=True)
    assert chosen.choose(KEEPS, 4000, 3000, 0) == TileChoice(128)
    fast = dataclasses.replace(KEEPS, mode="fast")
    assert chosen.choose(fast, 2000, 1500, 0) == TileChoice(128)


@pytest.mark.parametrize("strips", [1, 2])
def test_images_at_once_each_keep_their_features(strips: int) -> None:
    budget = dataclasses.replace(BUDGET, feature_bytes=strips * 256)
    plan = budget.block_plan(2000, 1500, 128)
    one = KEEPS.block_bytes(plan)
    assert budget.block_bytes(plan) >= one + (strips - 1) * 256 * 2000 * 1500


def test_a_frame_too_small_for_tiles_to_help_runs_whole() -> None:
    """Tiles carry their halo and two more graphs: below some size they need more than the frame."""
    chosen, notes = sides(memory=1)
    assert chosen.choose(BUDGET, 100, 130, 0) == TileChoice(0)
    assert BUDGET.tile_bytes(BUDGET.plan(100, 130, MIN_TILE)) > BUDGET.whole_bytes(100, 130)
    assert [note for note in notes if "in small tiles too" in note]
    assert 0 < chosen.choose(BUDGET, 1000, 1300, 0).side <= 4 * MIN_TILE


def test_after_running_out_tiles_need_less_each_time_and_end_at_the_smallest() -> None:
    chosen, _ = sides()
    size = 1000, 1300
    needed = [BUDGET.needed_bytes(*size, chosen.choose(BUDGET, *size, 0))]
    assert needed == [BUDGET.whole_bytes(*size)]
    tried: list[TileChoice] = []
    with contextlib.suppress(MemoryError):
        for _ in range(20):
            tried.append(chosen.shrink(BUDGET, *size, 0))
            assert chosen.choose(BUDGET, *size, 0) == tried[-1]
            needed.append(BUDGET.needed_bytes(*size, tried[-1]))
    assert tried[-1] == TileChoice(MIN_TILE)
    assert needed[1] <= needed[0] / 2
    assert all(after < before for before, after in pairwise(needed))


def test_what_ran_out_is_remembered_for_frames_that_need_as_much() -> None:
    chosen, notes = sides()
    tiles = chosen.shrink(BUDGET, 1000, 1300, 0)
    chosen.start_file()
    assert chosen.choose(BUDGET, 1000, 1300, 0) == tiles
    assert notes == [f"Memory ran out: tiles of {tiles.side} pixels at most."]
    assert chosen.choose(BUDGET, 200, 300, 0) == TileChoice(0)


def test_a_tile_beyond_the_limit_is_said() -> None:
    chosen, notes = sides(tile=256, memory=1)
    assert chosen.choose(BUDGET, 1000, 1300, 0) == TileChoice(256)
    assert "--tile auto keeps to it" in notes[0]
    chosen, notes = sides(tile=256)
    assert chosen.choose(BUDGET, 1000, 1300, 0) == TileChoice(256)
    assert not notes


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"tile": 15}, "at least 16"),
        ({"memory": -1}, "leaves nothing"),
        ({"tile": "auto"}, "not a whole number"),
        ({"memory": "1GiB"}, "not a whole number"),
        ({"tile_mode": "foo"}, "exact, follow, fast"),
    ],
)
def test_options_that_cannot_be_are_refused(option: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Upscaler(**option)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((40, 40, 3), np.float32), "float32"),
        (np.zeros((40, 40, 4), np.uint8), r"\[40, 40, 4\]"),
        (np.zeros((0, 40, 3), np.uint8), r"\[0, 40, 3\]"),
    ],
)
def test_pixels_of_another_kind_are_refused_before_they_are_cut(
    pixels: np.ndarray, words: str
) -> None:
    with Upscaler(tile=16) as upscaler:
        with pytest.raises(UsageError, match=words):
            upscaler.upscale(pixels)
        with pytest.raises(UsageError, match=words):
            next(upscaler.bands(pixels, TileChoice(16)))


def test_what_was_not_measured_counts_as_fp32() -> None:
    assert network_bytes("tile", 3, "fp16", 1000) == network_bytes("tile", 3, "fp32", 1000)
    assert network_bytes("tile", 3, "bf16", 1000) < network_bytes("tile", 3, "fp32", 1000)


@pytest.mark.parametrize(("around", "counted"), [(np.float16, "int8"), (np.float32, "fp32")])
def test_int8_counts_as_what_runs_around_it(
    monkeypatch: pytest.MonkeyPatch, around: type, counted: str
) -> None:
    monkeypatch.setattr(OpenVinoRuntime, "feature_type", lambda _self, _kind: np.dtype(around))
    with Upscaler(RuntimeSettings(precision="int8")) as upscaler:
        budget = upscaler._budget(np.zeros((8, 8, 3), np.uint8))
    assert budget.whole_bytes(100, 100) == network_bytes("frame", 2, counted, 10_000)


def test_tiles_that_cannot_fit_are_not_the_tiniest_for_next_to_nothing() -> None:
    tiles = BUDGET.best_tiles(400, 600, budget=1000)
    least = BUDGET.needed_bytes(400, 600, TileChoice(MIN_TILE))
    assert tiles.side >= 3 * MIN_TILE
    assert BUDGET.needed_bytes(400, 600, tiles) <= 1.2 * least


def test_what_fits_is_taken_though_the_smallest_tiles_do_not() -> None:
    """Of a small frame a tile that reads all of it needs less than small ones with their halo."""
    whole = BUDGET.whole_bytes(150, 150)
    assert whole < BUDGET.needed_bytes(150, 150, TileChoice(MIN_TILE))
    tiles = BUDGET.best_tiles(150, 150, whole)
    assert BUDGET.needed_bytes(150, 150, tiles) <= whole


def test_an_estimate_block_by_block_compiles_nothing_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sides that are no multiple of the plan's step: a part of another shape would be compiled."""
    built: list[object] = []
    build = OpenVinoRuntime._build
    monkeypatch.setattr(
        OpenVinoRuntime, "_build", lambda *given: built.append(given[-1]) or build(*given)
    )
    said: list[str] = []
    with Upscaler(RuntimeSettings(precision="fp32"), tile=21) as upscaler:
        upscaler.on_plan = said.append
        upscaler.upscale(np.random.default_rng(0).integers(0, 256, (85, 120, 3), np.uint8))
    assert "30 tiles of 21×21" in said[0]
    assert len(built) == 11  # one for each block, and the tail


@pytest.mark.parametrize("text", ["much", "0", "300", "-2GiB", "2XB", "0.5", "9" * 400])
def test_a_wrong_memory_limit_is_refused(ramedge, tmp_path, text: str) -> None:
    (tmp_path / "a.png").touch()
    assert "--memory" in ramedge("upscale", tmp_path / "a.png", f"--memory={text}").error


def test_limits_are_read_as_written() -> None:
    from ramedge.cli.upscale import _parse_memory

    assert _parse_memory("2GiB") == 2 << 30
    assert _parse_memory("1.5g") == 3 << 29
    assert _parse_memory("800 MiB") == 800 << 20
    assert _parse_memory("1073741824") == 1 << 30
    with pytest.raises(UsageError):
        _parse_memory("GiB")


WHOLE_THEN_TILES = """
import numpy as np
from ramedge import Upscaler
from ramedge.host_memory import peak_resident_bytes, resident_bytes
from ramedge.upscaling.open_model import RuntimeSettings
fp32 = RuntimeSettings(precision="fp32")
rng = np.random.default_rng(0)
opened = Upscaler(fp32)
limit = int((resident_bytes() + (185 << 20)) / 0.9)
with Upscaler(fp32, memory=limit) as upscaler:
    for height, width in ((211, 301), (260, 420)):
        upscaler.start_file()
        upscaler.upscale(rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        print(len(upscaler.notes))
print(limit, peak_resident_bytes())
"""


def test_whole_frames_and_tiles_keep_to_a_limit_together() -> None:
    """A picture that fits whole, then one that does not, in a process of its own."""
    command = [sys.executable, "-c", WHOLE_THEN_TILES]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    whole, tiled, limit, peak = map(int, ended.stdout.split())
    assert whole == 0
    assert tiled > 0
    assert peak <= limit


class FullCore:
    """OpenVINO's core where memory for graphs of large inputs runs out."""

    def __init__(self, core, words: str) -> None:
        self.core, self.words = core, words

    def compile_model(self, model, *rest):
        if max(model.input(0).get_partial_shape().to_shape()[1:3]) > 100:
            raise RuntimeError(f"Exception from plugin.cpp: {self.words}")
        return self.core.compile_model(model, *rest)

    def read_model(self, *what):
        return self.core.read_model(*what)


@pytest.mark.parametrize("words", ["std::bad_alloc", "can't alloc", "Failed to allocate 8 bytes"])
def test_memory_that_runs_out_while_compiling_means_tiles(photo: np.ndarray, words: str) -> None:
    frame = np.tile(photo, (3, 3, 1))
    with Upscaler() as upscaler:
        runtime = upscaler.model.runtime
        runtime._core = FullCore(runtime._core, words)  # type: ignore[attr-defined]
        assert upscaler.upscale(frame).shape == (384, 432, 3)
        assert any("Out of memory" in note for note in upscaler.notes)
