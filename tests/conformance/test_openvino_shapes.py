from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramedge.export.onnx import export_onnx
from ramedge.network.srram import SRRAM
from ramedge.runtimes.openvino.session import CHANCES, REPEATS, OpenVinoSession, open_onnx
from ramedge.runtimes.torch.session import open_torch


@pytest.fixture(scope="module")
def model(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "model.onnx"
    export_onnx(small_network, path)
    return path


def test_a_shape_that_comes_again_and_again_changes_no_result(
    model: Path, small_network: SRRAM
) -> None:
    generator = np.random.default_rng(0)
    sides = [(12, 20)] * (REPEATS + 3) + [(9, 7)] * 2 + [(12, 20)] * (REPEATS + 2)
    reference = open_torch(small_network, "fp32", "cpu")
    with open_onnx(model, 2, "fp32") as runtime:
        for height, width in sides:
            pixels = generator.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
            found, expected = runtime.infer(pixels), reference.infer(pixels)
            assert int(np.abs(found.astype(int) - expected.astype(int)).max()) <= 1


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_shapes_with_no_inside_are_right_when_compiled_for(
    model: Path, small_network: SRRAM, precision: str
) -> None:
    """The exported tail makes the rim of the picture apart; of one or two pixels it makes all."""
    generator = np.random.default_rng(1)
    reference = open_torch(small_network, "fp32", "cpu")
    with open_onnx(model, 2, precision) as runtime:
        for height, width in [(1, 1), (2, 3), (1, 7), (5, 1), (3, 3)]:
            for _ in range(REPEATS + 3):
                pixels = generator.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
                found, expected = runtime.infer(pixels), reference.infer(pixels)
                assert int(np.abs(found.astype(int) - expected.astype(int)).max()) <= 2


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The shapes that a runtime compiled for, in order."""
    found: list[object] = []
    original = OpenVinoSession._compile

    def count(self, kind, dtype, precision, shapes=None):
        found.append(shapes)
        return original(self, kind, dtype, precision, shapes)

    monkeypatch.setattr(OpenVinoSession, "_compile", count)
    return found


def square(side: int) -> np.ndarray:
    return np.zeros((1, side, side, 3), np.uint8)


def test_a_video_is_compiled_for_its_shape_once(model: Path, compiled: list[object]) -> None:
    with open_onnx(model, 2, "fp32") as runtime:
        for _ in range(3 * REPEATS):
            runtime.infer(square(8))
        assert compiled == [((1, 8, 8, 3),)]
        for _ in range(3 * REPEATS):
            runtime.infer(square(6))
        assert compiled[1:] == [((1, 6, 6, 3),)]


def test_small_pictures_of_many_shapes_share_a_graph(model: Path, compiled: list[object]) -> None:
    with open_onnx(model, 2, "fp32") as runtime:
        for side in range(1, 20):
            runtime.infer(square(side))
        assert compiled == [((1, side, side, 3),) for side in range(1, CHANCES + 1)] + [None]
        # Shapes that take turns are not worth it; one that stays is.
        for _ in range(2 * REPEATS):
            runtime.infer(square(8))
            runtime.infer(square(6))
        assert len(compiled) == CHANCES + 1
        for _ in range(REPEATS + 1):
            runtime.infer(square(8))
        assert compiled[CHANCES + 1 :] == [((1, 8, 8, 3),)]
