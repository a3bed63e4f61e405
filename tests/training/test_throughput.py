from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ramedge.network.config import NetworkConfig
from ramedge.training.recipe import FAST, PAPER
from ramedge.training.throughput import Throughput, measure_roofline, step_flops


def test_operations_are_those_of_the_convolutions() -> None:
    """By hand: forward once, backward twice but for the image, whose gradient nobody needs."""
    config = NetworkConfig(blocks=1, channels=16, reduction=4, attention="none")
    pixels = 2 * 12 * 12
    head = 9 * 3 * 16 * pixels
    body = 3 * 9 * 16 * 16 * pixels  # two of the block and one after it
    tail = 9 * 16 * 64 * pixels + 9 * 16 * 3 * 4 * pixels
    expected = 2 * (2 * head + 3 * (body + tail))
    assert step_flops(config, replace(PAPER, patch=12, batch=2)) == expected


def test_several_scales_count_as_their_mean() -> None:
    recipe = replace(PAPER, patch=8, batch=1)

    def flops(*scales: int) -> float:
        return step_flops(NetworkConfig(blocks=1, scales=scales), recipe)

    assert flops(2, 4) == pytest.approx((flops(2) + flops(4)) / 2)
    unequal = replace(recipe, shares=(1.0, 3.0))
    mostly_4 = step_flops(NetworkConfig(blocks=1, scales=(2, 4)), unequal)
    assert mostly_4 == pytest.approx((flops(2) + 3 * flops(4)) / 4)


def test_a_rim_that_seldom_counts_costs_less() -> None:
    """By hand: what is left out is the tail's own layers on strips, and all they would train."""
    config = NetworkConfig(blocks=1, channels=16, reduction=4)
    whole, seldom = (
        step_flops(config, replace(FAST, patch=16, batch=1, rim_every=every)) for every in (1, 4)
    )
    never = whole - (whole - seldom) * 4 / 3
    assert never < seldom < whole
    inner = 2 * 3 * 25 * 16 * 3 * 4 * (16 * 16 - 12 * 12)  # the one convolution, on the rim
    assert whole - never > inner


def test_share_is_of_the_roofline() -> None:
    roofline = measure_roofline(torch.device("cpu"), bf16=False)
    assert roofline > 1e8
    line = str(Throughput(steps_per_second=2.0, flops=roofline / 4, roofline=roofline))
    assert "2.00 steps/s" in line
    assert "25%" in line
