from __future__ import annotations

import numpy as np
import pytest

from ramedge.errors import UsageError
from ramedge.memory import available_bytes, resident_bytes
from ramedge.upscale import Upscaler


def test_what_the_system_tells_is_plausible() -> None:
    block = bytearray(64 << 20)
    assert len(block) < resident_bytes() < 1 << 40
    assert available_bytes() > 1 << 20


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
    frame = np.tile(photo, (2, 2, 1))
    with Upscaler(memory=resident_bytes() + (55 << 20)) as upscaler:
        assert upscaler.upscale(frame).shape == (256, 288, 3)
        assert any("does not fit" in note for note in upscaler.notes)
        assert any("attention of the whole frame" in note for note in upscaler.notes)


@pytest.mark.parametrize("text", ["much", "0", "-2GiB", "2XB"])
def test_a_wrong_memory_limit_is_refused(ramedge, tmp_path, text: str) -> None:
    (tmp_path / "a.png").touch()
    assert "--memory" in ramedge("upscale", tmp_path / "a.png", f"--memory={text}").error


def test_limits_are_read_as_written() -> None:
    from ramedge.cli.upscale import _parse_memory

    assert _parse_memory("2GiB") == 2 << 30
    assert _parse_memory("1.5g") == 3 << 29
    assert _parse_memory("800 MiB") == 800 << 20
    assert _parse_memory("4096") == 4096
    with pytest.raises(UsageError):
        _parse_memory("GiB")
