"""How fast a training runs, and how near that is to what the device can do."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ramedge.network.collapse import CollapsedNetwork
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.training.recipe import Recipe

_CEILING_SIDE = {"cuda": 8192, "cpu": 1536}
_CEILING_RUNS = 5


@dataclass(frozen=True, slots=True)
class Throughput:
    """Speed of a run.

    Attributes:
        steps_per_second: over the last steps, validation and checkpoints left out.
        flops: floating-point operations a second of the forward and backward pass.
        ceiling: operations a second of a large matrix product in the same precision, measured
            on this device at the start of the run.
    """

    steps_per_second: float
    flops: float
    ceiling: float

    @property
    def share(self) -> float:
        """Share of the ceiling, 0 to 1."""
        return self.flops / self.ceiling

    def __str__(self) -> str:
        return (
            f"{self.steps_per_second:.2f} steps/s, {self.flops / 1e9:.0f} GFLOP/s, "
            f"{self.share:.0%} of a matrix product's {self.ceiling / 1e9:.0f}"
        )


def step_flops(config: NetworkConfig, recipe: Recipe) -> float:
    """Operations of a step's forward and backward pass, the mean over the scales by their shares.

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
        found = {rim: _count(network, image, scale, rim) for rim in set(rims)}
        counts.append(float(np.mean([found[rim] for rim in rims])))
    return float(np.average(counts, weights=recipe.shares or None))


def _count(network: nn.Module, image: Tensor, scale: int, rim: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        output = network(image, scale) if rim else network(image, scale, False)
        output.sum().backward()
    return int(counter.get_total_flops())


def measure_ceiling(device: torch.device, bf16: bool) -> float:
    """Operations a second of a large square matrix product, the best of a few."""
    side = _CEILING_SIDE["cuda" if device.type == "cuda" else "cpu"]
    dtype = torch.bfloat16 if bf16 else torch.float32
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    best = math.inf
    for _ in range(_CEILING_RUNS):
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
