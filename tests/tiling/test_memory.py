from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ramedge.artifacts.graphs import FRAME, STATISTICS, TILE
from ramedge.errors import UsageError
from ramedge.host_memory import available_bytes, resident_bytes
from ramedge.network.channel_statistics import ChannelExcitation
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.openvino.session import OpenVinoSession
from ramedge.tiling.choice import FixedPoint, Whole
from ramedge.tiling.halos import Halos
from ramedge.tiling.memory import Footprint, MemoryBudget, Room, Shortage
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.frame_planner import FramePlanner
from ramedge.upscaling.open_model import OpenedModel, RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried", "std::bad_alloc", "Out of Memory"])
def test_exhausted_memory_halves_the_tile_and_repeats_the_frame(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    frame = np.tile(photo, (2, 2, 1))  # 128×144
    with Upscaler() as upscaler:
        whole = upscaler.upscale(frame)
        session = upscaler.model.runtime.session
        real, sides = session.run, []

        def limited(graph, values):
            if graph.name in {FRAME, TILE, STATISTICS}:
                sides.append(max(values[0].shape[1:3]))
                if sides[-1] > 110:
                    raise RuntimeError(words)
            return real(graph, values)

        monkeypatch.setattr(session, "run", limited)
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
    def fail(graph, values):
        raise MemoryError("no")

    with Upscaler() as upscaler:
        monkeypatch.setattr(upscaler.model.runtime.session, "run", fail)
        with pytest.raises(MemoryError):
            upscaler.upscale(photo)


def test_other_errors_are_not_memory(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
    def fail(graph, values):
        raise RuntimeError("something else")

    with Upscaler() as upscaler:
        monkeypatch.setattr(upscaler.model.runtime.session, "run", fail)
        with pytest.raises(RuntimeError, match="something else"):
            upscaler.upscale(photo)


def test_a_memory_limit_means_tiles(photo: np.ndarray) -> None:
    frame = np.tile(photo, (6, 6, 1))
    limit = int((resident_bytes() + (180 << 20)) / 0.9)
    with Upscaler(tiling=TilingOptions(memory=limit)) as upscaler:
        assert upscaler.upscale(frame).shape == (768, 864, 3)
        assert any("does not fit" in note for note in upscaler.notes)
        assert any("attention of the whole frame" in note for note in upscaler.notes)


def test_what_was_taken_since_stays_to_be_used() -> None:
    budget = MemoryBudget(resident_bytes() + (1 << 30))
    before = budget.room()
    block = bytearray(64 << 20)
    assert budget.room() == before
    assert budget.room(beside=100).host == before.host - 100
    assert MemoryBudget(1).room() == Room(0, 0)
    assert len(block) < MemoryBudget().room().host <= available_bytes() + (64 << 20)


def test_a_gpu_has_room_of_its_own() -> None:
    """What the process took there itself counts as free: other graphs take its place."""
    free = iter([8 << 30, 8 << 30, 1 << 30, 10 << 30])
    budget = MemoryBudget(None, lambda: next(free))
    assert [budget.room().device for _ in range(3)] == [0.7 * (n << 30) for n in (8, 8, 10)]
    limited = MemoryBudget(1 << 30, lambda: 8 << 30)
    assert limited.room().device == 0.9 * (1 << 30)
    assert MemoryBudget().room().device == 0


def test_the_memory_that_is_short_has_a_name() -> None:
    needed = Footprint(2, 3)
    assert (Footprint(1, 1) + Footprint(1, 2), needed.total) == (needed, 5)
    assert Room(2, 3).holds(needed)
    for room, short in (
        (Room(2, 2), Shortage("GPU memory", 3, 2)),
        (Room(1, 3), Shortage("memory", 2, 1)),
    ):
        assert not room.holds(needed)
        assert room.shortage(needed) == short


def test_all_frames_of_a_video_have_the_same_tiles(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that the first frame loaded does not make the tiles of the next one smaller."""
    frame = np.tile(photo, (3, 3, 1))
    held = resident_bytes()
    monkeypatch.setattr("ramedge.tiling.memory.resident_bytes", lambda: held)  # others' tests free
    memory = int((held + (85 << 20)) / 0.9)
    with Upscaler(tiling=TilingOptions(mode="fast", memory=memory)) as upscaler:
        monkeypatch.undo()
        for _ in range(3):
            upscaler.upscale(frame)
        sizes = {note for note in upscaler.notes if note.startswith("Tiles of")}
        assert len(sizes) == 1


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
    with Upscaler(tiling=TilingOptions(16)) as upscaler:
        with pytest.raises(UsageError, match=words):
            upscaler.upscale(pixels)
        with pytest.raises(UsageError, match=words):
            upscaler.stream([pixels], lambda bands: next(bands[0]))


def test_an_estimate_block_by_block_compiles_nothing_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sides that are no multiple of the plan's step: a part of another shape would be compiled."""
    built: list[object] = []
    build = OpenVinoSession._build
    monkeypatch.setattr(
        OpenVinoSession, "_build", lambda *given: built.append(given[-1]) or build(*given)
    )
    said: list[str] = []
    with Upscaler(RuntimeSettings(precision="fp32"), TilingOptions(21)) as upscaler:
        upscaler.observe(on_estimate=said.append)
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
from ramedge import TilingOptions, Upscaler
from ramedge.host_memory import peak_resident_bytes, resident_bytes
from ramedge.upscaling.open_model import RuntimeSettings
fp32 = RuntimeSettings(precision="fp32")
rng = np.random.default_rng(0)
opened = Upscaler(fp32)
limit = int((resident_bytes() + (185 << 20)) / 0.9)
with Upscaler(fp32, TilingOptions(memory=limit)) as upscaler:
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
        session = upscaler.model.runtime.session
        session._core = FullCore(session._core, words)  # type: ignore[attr-defined]
        assert upscaler.upscale(frame).shape == (384, 432, 3)
        assert any("Out of memory" in note for note in upscaler.notes)


def test_streamed_bands_are_the_picture(photo: np.ndarray) -> None:
    """Whole as one band, in tiles as several; the time of the consumer is not the network's."""
    for tile in ("whole", 24):
        options = TilingOptions(tile)  # type: ignore[arg-type]
        with Upscaler(RuntimeSettings(precision="fp32"), options) as upscaler:
            parts = upscaler.stream([photo, photo], lambda bands: [list(each) for each in bands])
            expected = upscaler.upscale(photo)
        assert len(parts) == 2
        for part in parts:
            assert len(part) == (1 if tile == "whole" else 3)
            np.testing.assert_array_equal(np.concatenate(part), expected)
        assert upscaler.timing.frames == 3


@pytest.mark.parametrize("name", ["torch", "tensorrt"])
@pytest.mark.parametrize(("precision", "computed"), [("fp32", "float32"), ("fp16", "float16")])
def test_a_gpu_with_little_memory_gets_tiles_whatever_the_host_has(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str, computed: str
) -> None:
    """4K on a GPU with 2 GiB free, in a host with 64 GiB, in which the frame would run whole.

    The network counts against the GPU, source and result against the host. Features that do not
    stay on the GPU make it fixed-point iterations.
    """
    monkeypatch.setattr("ramedge.tiling.memory.available_bytes", lambda: 64 << 30)
    pixels = np.zeros((2160, 3840, 3), np.uint8)
    found = {}
    for where, limits in (("gpu", Limits(2 << 30, False)), ("host", Limits())):
        runtime = fake_runtime(name, precision, computed, limits)
        notes = Notes()
        opened = OpenedModel(runtime, "srram_r10c64", "0" * 64, Halos(34), "a test")
        planned = FramePlanner(opened, TilingOptions(), notes)
        found[where] = planned.choose(pixels)
        memory = planned.memory(pixels.dtype).needed(2160, 3840, found[where])
        if where == "gpu":
            assert memory.host == 0
            assert 0.5 * (1 << 30) < memory.device <= 0.7 * (2 << 30)
            assert list(notes) == ["3840×2160 does not fit in 1434 MiB of GPU memory whole."]
        else:
            assert memory.device == 0
            assert not notes
    assert isinstance(found["gpu"], FixedPoint)
    assert found["host"] == Whole()


def fake_runtime(name: str, precision: str, compute_dtype: str, limits: Limits) -> SimpleNamespace:
    """Says of itself what a runtime of a backend would, and computes nothing."""
    return SimpleNamespace(
        name=name,
        scale=2,
        precision=precision,
        compute_dtype=compute_dtype,
        limits=limits,
        excitation=ChannelExcitation(
            np.zeros((10, 4, 64)), np.zeros((10, 4)), np.zeros((10, 64, 4)), np.zeros((10, 64))
        ),
        feature_type=lambda _pixels: np.dtype(np.float16),
    )
