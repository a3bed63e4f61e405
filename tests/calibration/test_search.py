from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from ramedge.calibration import search as search_module
from ramedge.calibration.pictures import CalibrationFrame
from ramedge.calibration.quantize import dense_convolutions, multiply_adds
from ramedge.calibration.ranges import METHODS
from ramedge.calibration.search import NOTHING, WIDE, Trials, search
from ramedge.export.onnx import export_onnx
from ramedge.network.collapse import collapse
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.quality.int8_budget import Budget, CheckImage, Loss
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


def pictures(frames: list[CalibrationFrame]) -> list[CheckImage]:
    return [CheckImage.of(frame.name, frame.pixels, 2) for frame in frames]


def test_all_are_quantized_within_a_wide_budget(
    plain: Path, frames: list[CalibrationFrame]
) -> None:
    calls: list[tuple[int, int]] = []
    result = search(
        plain, frames, pictures(frames), 2, Budget(50, 50), on_step=lambda *step: calls.append(step)
    )
    names = dense_convolutions(onnx.load(plain))
    assert [found.name for found in result.alone] == names
    assert [found.quantized for found in result.alone] == [
        False,
        *[True] * (len(names) - 2),
        False,
    ]
    assert result.plan.ranges[0] is result.plan.ranges[-1] is None
    for found, ranges in zip(result.alone[1:-1], result.plan.ranges[1:-1], strict=True):
        assert ranges is not None
        assert (found.headroom == WIDE) == (found.loss.mean <= NOTHING * 50)
    assert calls[-1][0] <= calls[-1][1]
    assert sum(found.share for found in result.alone) == pytest.approx(1.0)
    for found in result.alone:
        # Whichever method was chosen for it, none was tried that lost less.
        assert found.method in METHODS


def test_multiply_adds_are_those_of_the_networks_layers(scale4: tuple[SRRAM, Path]) -> None:
    """Against a count in PyTorch: weights of a layer times the pixels it computes."""
    trained, path = scale4
    network = collapse(trained)
    pixels: dict[torch.nn.Module, int] = {}
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups == 1 and module.kernel_size[0] > 1
        if ".tail." not in name  # the rim's strips
        and not name.endswith(".picture")  # the picture's own way, never int8
    ]

    def remember(module: torch.nn.Module, _given: object, made: torch.Tensor) -> None:
        # The first time; the rim's strips go through the collapsed tail again.
        pixels.setdefault(module, made.shape[2] * made.shape[3])

    handles = [layer.register_forward_hook(remember) for layer in layers]
    with torch.no_grad():
        network(torch.rand(1, 3, 8, 8))
    for handle in handles:
        handle.remove()
    expected = [layer.weight.numel() * pixels[layer] // 64 for layer in pixels]
    model = onnx.load(path)
    assert list(multiply_adds(model, dense_convolutions(model)).values()) == expected


@pytest.fixture(scope="module")
def scale4(tmp_path_factory: pytest.TempPathFactory) -> tuple[SRRAM, Path]:
    torch.manual_seed(4)
    config = NetworkConfig(blocks=1, channels=16, reduction=4, scales=(4,))
    network = SRRAM(config).eval()
    path = tmp_path_factory.mktemp("scale4") / "plain.onnx"
    export_onnx(network, path)
    return network, path


@pytest.mark.parametrize("budget", [-1.0, 0.5, 3.0, 6.9, 7.0, 9.0, 15.9, 16.0])
def test_the_least_sensitive_go_together_as_many_as_the_budget_bears(
    plain: Path, frames: list[CalibrationFrame], monkeypatch: pytest.MonkeyPatch, budget: float
) -> None:
    """With losses that add up, 0 to 7 dB in mixed order, the answer is known."""
    names = dense_convolutions(onnx.load(plain))
    costs = dict(zip(names, [0.5, 0.0, 7.0, 1.0, 6.0, 2.0, 0.5], strict=True))

    def loss(self: Trials, headroom: dict[str, float]) -> Loss:
        total = sum(costs[name] + (1e-3 if headroom[name] == 1.6 else 0.0) for name in headroom)
        return Loss(total, total)

    monkeypatch.setattr(
        Trials, "headroom", lambda _self, _name, method: 1.5 if method == "mse" else 1.6
    )
    monkeypatch.setattr(Trials, "loss", loss)
    monkeypatch.setattr(Trials, "milliseconds", lambda _self: 1.0)
    monkeypatch.setattr(search_module, "multiply_adds", lambda _model, of: dict.fromkeys(of, 1))
    result = search(plain, frames, pictures(frames), 2, Budget(budget, 50))
    order = sorted(names[1:-1], key=costs.__getitem__)
    sums = np.cumsum([costs[name] for name in order])
    expected = {name for name, total in zip(order, sums, strict=True) if total <= budget}
    assert {found.method for found in result.alone} == {"mse"}
    assert {found.name for found in result.alone if found.quantized} == expected
    assert result.loss.mean == sum(costs[name] for name in expected)
    high = [ranges is None for ranges in result.plan.ranges]
    assert high == [name not in expected for name in names]


@pytest.mark.parametrize(
    ("cost", "work", "of_the_others", "expected"),
    [
        pytest.param(2.0, 100, (1.0, 1), "only", id="one loses most but saves nearly everything"),
        pytest.param(1.0, 1, (0.0, 1000), "never", id="the budget would bear it, it saves nothing"),
    ],
)
def test_loss_is_weighed_against_the_work_saved(
    plain: Path,
    frames: list[CalibrationFrame],
    monkeypatch: pytest.MonkeyPatch,
    cost: float,
    work: int,
    of_the_others: tuple[float, int],
    expected: str,
) -> None:
    """One layer differs from all others; the first and the last are never int8."""
    names = dense_convolutions(onnx.load(plain))
    costs = dict.fromkeys(names, of_the_others[0]) | {names[3]: cost}
    amounts = dict.fromkeys(names, of_the_others[1]) | {names[3]: work}
    monkeypatch.setattr(
        Trials, "loss", lambda _self, headroom: Loss(sum(costs[n] for n in headroom), 0.0)
    )
    monkeypatch.setattr(Trials, "milliseconds", lambda _self: 1.0)
    monkeypatch.setattr(search_module, "multiply_adds", lambda _model, _of: amounts)
    result = search(plain, frames, pictures(frames), 2, Budget(2.5, 50))
    quantized = {found.name for found in result.alone if found.quantized}
    assert quantized == ({names[3]} if expected == "only" else set(names[1:-1]) - {names[3]})
