"""Small networks for tests, also for those that need several."""

from __future__ import annotations

import torch

from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM


def make_network(config: NetworkConfig, seed: int = 0) -> SRRAM:
    """A network whose attention and colours matter although it is untrained."""
    torch.manual_seed(seed)
    network = SRRAM(config)
    with torch.no_grad():
        for block in network.blocks.children():
            for name, parameter in block.named_parameters():
                if name.startswith("conv") and name.endswith("weight"):
                    parameter.mul_(30.0)
        for tail in network.tails.children():
            for parameter in tail.parameters():
                parameter.mul_(0.5)
    return network.eval()
