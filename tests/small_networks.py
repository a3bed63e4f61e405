"""Small networks for tests, also for those that need several."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

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


def sharpening_network(scale: int, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> SRRAM:
    """A network that beats bicubic without training: the best linear 5×5 filter for some images.

    Fitted to their flips and turns as well, so it treats those alike. Its blocks do nothing.

    Args:
        scale: 2 or 3.
        pairs: `[1, 3, H, W]` in [0, 1] and its high resolution, `[1, 3, s·H, s·W]`.
    """
    network = SRRAM(NetworkConfig(blocks=1, channels=32, reduction=4, scales=(scale,))).eval()
    rows, targets = [], []
    for low, high in pairs:
        for turn in range(8):
            x, y = (network.shift(_turned(image, turn))[0][:, None] for image in (low, high))
            windows = F.unfold(F.pad(x, (2, 2, 2, 2)), 5)  # [3, 25, H·W]
            rows.append(windows.transpose(1, 2).reshape(-1, 25))
            phases = F.pixel_unshuffle(y, scale).flatten(2)  # [3, s², H·W]
            targets.append(phases.transpose(1, 2).reshape(-1, scale**2))
    matrix, wanted = torch.cat(rows).double(), torch.cat(targets).double()
    filters = torch.linalg.solve(matrix.T @ matrix, matrix.T @ wanted).float()  # [25, s²]
    tail = network.tails[f"x{scale}"]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for color in range(3):
            tail.reconstruction.weight[color, color, 1, 1] = 1.0
            outputs = slice(color * scale**2, (color + 1) * scale**2)
            # The head makes a copy of the color moved each way; the upsampler reaches one further.
            for y, x in itertools.product(range(-2, 3), repeat=2):
                far = [max(-1, min(1, each)) for each in (y, x)]
                near = [y - far[0] + 1, x - far[1] + 1]
                copy = color * 9 + near[0] * 3 + near[1]
                network.head.weight[copy, color, near[0], near[1]] = 1.0
                tap = filters[(y + 2) * 5 + x + 2]
                tail.upsampler[0].weight[outputs, copy, far[0] + 1, far[1] + 1] = tap
    return network


def _turned(image: torch.Tensor, turn: int) -> torch.Tensor:
    turned = torch.rot90(image, turn % 4, (2, 3))
    return turned.flip(3) if turn >= 4 else turned
