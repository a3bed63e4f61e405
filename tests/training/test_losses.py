from __future__ import annotations

import numpy as np
import pytest
import torch

from ramedge.training.losses import CHARBONNIER_EPSILON, FREQUENCY_WEIGHT, LOSSES


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator)


def test_l1_l2_and_charbonnier_by_hand(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    difference = (pair[0] - pair[1]).numpy().astype(np.float64)
    assert LOSSES["l1"](*pair).item() == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert LOSSES["l2"](*pair).item() == pytest.approx((difference**2).mean(), rel=1e-5)
    expected = np.sqrt(difference**2 + CHARBONNIER_EPSILON**2).mean()
    assert LOSSES["charbonnier"](*pair).item() == pytest.approx(expected, rel=1e-5)


def test_psnr_is_the_mean_of_the_patches_decibels(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair[0].clone(), pair[1]
    output[1] = target[1] + 0.1 * (output[1] - target[1])
    squares = ((output - target).numpy().astype(np.float64) ** 2).mean(axis=(1, 2, 3))
    decibels = -10 * np.log10(squares + 1 / 255**2)
    expected = (20 * np.log10(255) - decibels.mean()) * np.log(10) / 10
    assert LOSSES["psnr"](output, target).item() == pytest.approx(expected, rel=1e-5)


def test_frequency_by_numpys_transform(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    difference = (pair[0] - pair[1]).numpy().astype(np.float64)
    spectrum = np.fft.rfft2(difference, norm="ortho")
    parts = (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2
    expected = np.abs(difference).mean() + FREQUENCY_WEIGHT * parts
    assert LOSSES["frequency"](*pair).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_least_at_the_truth(
    name: str, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    loss = LOSSES[name]  # type: ignore[index]
    assert loss(pair[0], pair[0]) < 2 * CHARBONNIER_EPSILON
    assert loss(*pair) > 0.1
