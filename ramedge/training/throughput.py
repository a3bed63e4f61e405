"""Throughput of a training run, and its share of the device's roofline."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ramedge.network.collapse import CollapsedNetwork
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.training.recipe import Recipe

_ROOFLINE_SIDE = {"cuda": 8192, "cpu": 1536}
_ROOFLINE_RUNS = 5
TIMER_WINDOW = 50
"""Steps that the reported throughput is the mean of."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Speed of a run.

    Attributes:
        steps_per_second: over the last steps, without validation and checkpoints.
        flops: floating-point operations per second of the forward and backward pass.
        roofline: operations per second of a large matrix product in the same precision, measured
            on this device at the start of the run.
    """

    steps_per_second: float
    flops: float
    roofline: float

    @property
    def share(self) -> float:
        """Share of the roofline, 0 to 1."""
        return self.flops / self.roofline

    def __str__(self) -> str:
        return (
            f"{self.steps_per_second:.2f} steps/s, {self.flops / 1e9:.0f} GFLOP/s, "
            f"{self.share:.0%} of a matrix product's {self.roofline / 1e9:.0f}"
        )


class StepTimer:
    """Throughput over the last `TIMER_WINDOW` steps of a run."""

    def __init__(self, flops: float, roofline: float) -> None:
        """Start without a step.

        Args:
            flops: floating-point operations of a step in this process.
            roofline: see `Throughput`.
        """
        self._flops = flops
        self._roofline = roofline
        self._seconds: deque[float] = deque(maxlen=TIMER_WINDOW)

    def add(self, seconds: float) -> None:
        """Count a step that took `seconds`."""
        self._seconds.append(seconds)

    @property
    def seconds_per_step(self) -> float:
        """Mean duration; NaN before the first step."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else math.nan

    @property
    def throughput(self) -> Throughput | None:
        """Speed of the last steps; `None` before the first."""
        if not self._seconds:
            return None
        mean = self.seconds_per_step
        return Throughput(1.0 / mean, self._flops / mean, self._roofline)


def step_flops(config: NetworkConfig, recipe: Recipe) -> float:
    """Operations of a step's forward and backward pass, averaged over the scales by their shares.

    Counted by torch on tensors without data; a multiply-add is two operations.
    """
    with torch.device("meta"):
        network: nn.Module = SRRAM(config)
        if recipe.collapse:
            network = CollapsedNetwork(SRRAM(config))
        image = torch.empty(recipe.batch, 3, recipe.patch, recipe.patch)
    rims = [recipe.rim_at(step) for step in range(recipe.rim_every)]
    counts: list[float] = []
    for scale in config.scales:
        by_rim = {rim: _count(network, image, scale, rim) for rim in set(rims)}
        counts.append(float(np.mean([by_rim[rim] for rim in rims])))
    return float(np.average(counts, weights=recipe.shares or None))


def _count(network: nn.Module, image: Tensor, scale: int, rim: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        output = network(image, scale) if rim else network(image, scale, False)
        output.sum().backward()
    return int(counter.get_total_flops())


def measure_roofline(device: torch.device, bf16: bool) -> float:
    """Operations per second of a large square matrix product, the best of a few."""
    side = _ROOFLINE_SIDE["cuda" if device.type == "cuda" else "cpu"]
    dtype = torch.bfloat16 if bf16 else torch.float32
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    best = math.inf
    for _ in range(_ROOFLINE_RUNS):
        _wait(device)
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    operations = 2.0 * side * side * side
    return operations / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
