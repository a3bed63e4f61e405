from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from ramedge.calibration.frames import CalibrationFrame
from ramedge.calibration.quantize import dense_convolutions
from ramedge.calibration.search import Budget, Loss, _Trials, search
from ramedge.errors import InputError
from ramedge.export.onnx import export_onnx
from ramedge.network.srram import SRRAM
from ramedge.samples import PHOTOS, sample_photo


@pytest.fixture(scope="module")
def plain(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "plain.onnx"
    export_onnx(small_network, path)
    return path


@pytest.fixture(scope="module")
def frames() -> list[CalibrationFrame]:
    found = []
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            pixels = np.asarray(opened.convert("RGB"))[80:176, 60:156]
        found.append(CalibrationFrame(name, pixels, name))
    return found


def test_all_are_quantized_within_a_wide_budget(
    plain: Path, frames: list[CalibrationFrame]
) -> None:
    calls: list[tuple[int, int]] = []
    result = search(plain, frames, 2, Budget(50, 50), on_step=lambda *step: calls.append(step))
    names = dense_convolutions(onnx.load(plain))
    assert list(result.quantized) == names
    assert result.high == ()
    assert set(result.alone) == set(names)
    assert result.methods[result.method].mean == min(loss.mean for loss in result.methods.values())
    assert calls[-1][0] <= calls[-1][1]
    assert len(result.ranges) == len(set(result.ranges))


@pytest.mark.parametrize("budget", [-1.0, 0.5, 3.0, 6.9, 7.0, 15.0, 27.9, 28.0])
def test_the_least_sensitive_go_together_as_many_as_the_budget_bears(
    plain: Path, frames: list[CalibrationFrame], monkeypatch: pytest.MonkeyPatch, budget: float
) -> None:
    """With losses that add up, 0 to 7 dB in mixed order, the answer is known."""
    names = dense_convolutions(onnx.load(plain))
    costs = dict(zip(names, [3.0, 0.0, 7.0, 1.0, 6.0, 2.0, 5.0, 4.0], strict=True))

    def loss(self: _Trials, chosen: list[str], method: str) -> Loss:
        total = sum(costs[name] for name in chosen) + (0.0 if method == "mse" else 1e-3)
        return Loss(total, total)

    monkeypatch.setattr(_Trials, "loss", loss)
    result = search(plain, frames, 2, Budget(budget, 50))
    order = sorted(names, key=costs.__getitem__)
    sums = np.cumsum([costs[name] for name in order])
    expected = {name for name, total in zip(order, sums, strict=True) if total <= budget}
    assert result.method == "mse"
    assert set(result.quantized) == expected
    assert set(result.high) == set(names) - expected
    assert result.loss.mean == sum(costs[name] for name in expected)


def test_pictures_too_small_are_refused(plain: Path) -> None:
    tiny = CalibrationFrame("tiny.png", np.zeros((20, 20, 3), np.uint8) + 9, "x")
    with pytest.raises(InputError, match=r"tiny\.png is too small"):
        search(plain, [tiny], 2, Budget())
