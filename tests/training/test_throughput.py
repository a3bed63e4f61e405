from __future__ import annotations

import pytest
import torch

from ramedge.network.config import NetworkConfig
from ramedge.training.throughput import Throughput, measure_ceiling, step_flops


def test_operations_are_those_of_the_convolutions() -> None:
    """By hand: forward once, backward twice but for the image, whose gradient nobody needs."""
    config = NetworkConfig(blocks=1, channels=16, reduction=4, attention="none")
    pixels = 2 * 12 * 12
    head = 9 * 3 * 16 * pixels
    body = 3 * 9 * 16 * 16 * pixels  # two of the block and one after it
    tail = 9 * 16 * 64 * pixels + 9 * 16 * 3 * 4 * pixels
    expected = 2 * (2 * head + 3 * (body + tail))
    assert step_flops(config, patch=12, batch=2) == expected


def test_several_scales_count_as_their_mean() -> None:
    def flops(*scales: int) -> float:
        return step_flops(NetworkConfig(blocks=1, scales=scales), patch=8, batch=1)

    assert flops(2, 4) == pytest.approx((flops(2) + flops(4)) / 2)
    mostly_4 = step_flops(NetworkConfig(blocks=1, scales=(2, 4)), 8, 1, shares=(1.0, 3.0))
    assert mostly_4 == pytest.approx((flops(2) + 3 * flops(4)) / 4)


def test_share_is_of_the_ceiling() -> None:
    ceiling = measure_ceiling(torch.device("cpu"), bf16=False)
    assert ceiling > 1e8
    line = str(Throughput(steps_per_second=2.0, flops=ceiling / 4, ceiling=ceiling))
    assert "2.00 steps/s" in line
    assert "25%" in line
