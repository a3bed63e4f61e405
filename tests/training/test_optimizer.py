from __future__ import annotations

import dataclasses

import pytest
import torch

from ramedge.errors import UsageError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.training.optimizer import GradientLimit, Muon, Optimizer, orthogonalize
from ramedge.training.recipe import FAST, PAPER, Recipe, paper_patch


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalize(matrix))
    # Newton-Schulz with these coefficients ends in about 0.7–1.2, as its authors say.
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_orthogonalize_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(8, 20)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonalize(matrix) @ vh.T
    torch.testing.assert_close(core, torch.diag(core.diagonal()), atol=1e-3, rtol=0)


def test_muon_moves_a_weight_by_its_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(16, 16, 3, 3))
    optimizer = Muon([weight], lr=0.01, rms=0.3)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    rms = weight.detach().square().mean().sqrt().item()
    assert rms == pytest.approx(0.01 * 0.3, rel=0.3)


def test_fast_gives_wide_convolutions_to_muon_and_the_rest_to_adam() -> None:
    network = SRRAM(NetworkConfig(blocks=2))
    parts = Optimizer(network, FAST).state_dict()
    assert len(parts) == 3
    assert list(parts[2]) == ["average"]
    # Two convolutions a block, body, upsampler.
    assert len(parts[1]["param_groups"][0]["params"]) == 6
    assert len(Optimizer(network, PAPER).state_dict()) == 1


def test_paper_recipe_is_section_4_2() -> None:
    assert (PAPER.patch, PAPER.batch, PAPER.learning_rate) == (48, 16, 1e-4)
    assert PAPER.learning_rate_at(199_999, 1_000_000) == 1e-4
    assert PAPER.learning_rate_at(200_000, 1_000_000) == 5e-5
    assert PAPER.learning_rate_at(999_999, 1_000_000) == pytest.approx(1e-4 / 16)
    assert (paper_patch((2,)), paper_patch((2, 3, 4))) == (48, 64)
    state = Optimizer(SRRAM(NetworkConfig(blocks=1)), PAPER).state_dict()
    group = state[0]["param_groups"][0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)


def test_trapezoid_warms_up_stays_and_falls_to_zero() -> None:
    rates = [FAST.learning_rate_at(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[99:500] == [1e-3] * 401
    assert rates[750] == pytest.approx(5e-4)
    assert rates[999] == pytest.approx(2e-6)


def test_the_rim_counts_where_a_recipe_says_so() -> None:
    assert [FAST.rim_at(step) for step in range(5)] == [True, False, False, False, True]
    assert all(PAPER.rim_at(step) for step in range(5))
    nothing_inside = dataclasses.replace(FAST, patch=4)
    assert all(nothing_inside.rim_at(step) for step in range(5))


def test_ema_forgets_its_start() -> None:
    assert FAST.ema_decay_at(0) == pytest.approx(0.1)
    assert FAST.ema_decay_at(10**6) == FAST.ema


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 0},
        {"batch": 0},
        {"learning_rate": float("nan")},
        {"ema": 1.0},
        {"rim_every": 0},
        {"decay_fraction": 1.1},
    ],
)
def test_impossible_recipes_are_refused(change: dict) -> None:
    settings = {
        "name": "x",
        "patch": 8,
        "batch": 1,
        "learning_rate": 1e-3,
        "optimizer": "adam",
        "schedule": "halving",
    }
    with pytest.raises(UsageError):
        Recipe(**(settings | change))


def test_a_gradient_far_longer_than_its_average_is_shortened_to_the_limit() -> None:
    """By a plain loop over the definition, with a parameter that has no gradient now and then."""
    parameters = [torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(5))]
    limit = GradientLimit(parameters, 2.0)
    generator = torch.Generator().manual_seed(0)
    averages = [0.0, 0.0]
    for step in range(40):
        expected = []
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator)
            gradient *= 1000.0 if step == 20 else 1.0
            parameter.grad = None if index == 1 and step % 3 else gradient.clone()
            norm = float(gradient.norm())
            average = averages[index] or norm
            shortened = gradient * min(1.0, 2.0 * average / norm)
            expected.append(shortened)
            if parameter.grad is not None:
                averages[index] = 0.99 * average + 0.01 * float(shortened.norm())
        limit.apply()
        for parameter, wanted in zip(parameters, expected, strict=True):
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad, wanted)
    assert limit.average.tolist() == pytest.approx(averages)
    assert max(averages) < 5
