"""The network on a tile of a frame: attention from outside, the tile's own statistic to outside.

The channel attention pools the variance of the whole frame (paper, Eq. 6), so a tile by itself is
another network. Here the attention's logits are an input, and what the tile contributes to the
frame's variance is an output, to be merged over the tiles of a frame
(`ramedge.network.channel_statistics`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ramedge.errors import UsageError
from ramedge.network.attention import FusedAttention
from ramedge.network.channel_statistics import ChannelExcitation, Values
from ramedge.network.srram import SRRAM, ResidualAttentionBlock


class TiledNetwork(nn.Module):
    """The graph kinds `tile` and `statistics` of a network of one scale.

    Shares the weights of the network it is made from.

    Raises:
        UsageError: the network's attention is not the paper's, or it has several scales.
    """

    def __init__(self, network: SRRAM, upscales: bool = True) -> None:
        """Wrap `network`; without `upscales` it is the graph kind `statistics`."""
        super().__init__()
        if network.config.attention != "ram":
            raise UsageError(
                f"Tiles with the frame's attention are for networks with the attention ram, not "
                f"{network.config.attention}."
            )
        if len(network.config.scales) != 1:
            raise UsageError("Tiles need the network of one scale: use take(scale).")
        self.network = network
        self.upscales = upscales

    def forward(self, image: Tensor, logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Run a tile.

        Args:
            image: `[N, 3, H, W]` in [0, 1].
            logits: the frame's channel attention before the sigmoid, `[N, R, C]` float32.
            mask: `[N, 1, H, W]` float32, 1 on the interior that counts for the statistic, 0
                elsewhere; at least one 1.

        Returns:
            `[N, 3, s·H, s·W]` in [0, 1], not clipped (`tile` only), and the mean and the sum of
            squared differences from it (M2) over the interior, `[N, R, C]` float32 each.
        """
        network = self.network
        first = network.enter(image)
        features = first
        share = mask / mask.sum(dim=(2, 3), keepdim=True)
        means, squares = [], []
        for index, block in enumerate(network.blocks):
            assert isinstance(block, ResidualAttentionBlock)
            attention = block.attention
            assert isinstance(attention, FusedAttention)
            transformed = block.transform(features)
            mean, m2 = _interior_statistic(transformed, share, mask)
            means.append(mean)
            squares.append(m2)
            channel = logits[:, index, :, None, None]
            features = features + attention.recalibrate(transformed, channel)
        statistic = torch.stack(means, dim=1), torch.stack(squares, dim=1)
        if not self.upscales:
            return statistic
        return network.finish(image, first, features, network.config.scales[0]), *statistic

    def begin(self, image: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """A tile up to the first block's attention.

        Returns:
            F_0 and X_1, `[N, C, H, W]`, and the mean and M2 of X_1 over the interior, `[N, C]`.
        """
        return self._transformed(0, self.network.enter(image), mask)

    def advance(
        self, index: int, features: tuple[Tensor, Tensor], logits: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        """From F_{r-1} and X_r to what `begin` returns of F_r and X_{r+1}, r = `index`."""
        return self._transformed(index, self._fused(index, features, logits), mask)

    def finish(self, features: tuple[Tensor, Tensor], logits: Tensor, image: Tensor) -> Tensor:
        """From F_{R-1} and X_R to the upscaled tile, `[N, 3, s·H, s·W]` in [0, 1]."""
        network = self.network
        transformed = self._fused(network.config.blocks, features, logits)
        scale = network.config.scales[0]
        return network.finish(image, network.enter(image), transformed, scale)

    def _transformed(self, index: int, residual: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        block = self.network.blocks[index]
        assert isinstance(block, ResidualAttentionBlock)
        transformed = block.transform(residual)
        share = mask / mask.sum(dim=(2, 3), keepdim=True)
        return residual, transformed, *_interior_statistic(transformed, share, mask)

    def _fused(self, index: int, features: tuple[Tensor, Tensor], logits: Tensor) -> Tensor:
        block = self.network.blocks[index - 1]
        assert isinstance(block, ResidualAttentionBlock)
        assert isinstance(block.attention, FusedAttention)
        residual, transformed = features
        channel = logits[:, index - 1, :, None, None]
        fused: Tensor = residual + block.attention.recalibrate(transformed, channel)
        return fused


def excitation_of(network: SRRAM) -> ChannelExcitation:
    """The channel attention's two layers of every block, for use without torch."""
    parts: list[list[Values]] = [[], [], [], []]
    for block in network.blocks:
        assert isinstance(block, ResidualAttentionBlock)
        attention = block.attention
        assert isinstance(attention, FusedAttention)
        excitation = attention.excitation
        for layer, (weights, biases) in zip(
            (excitation.fc1, excitation.fc2), (parts[:2], parts[2:]), strict=True
        ):
            assert layer.bias is not None
            weights.append(layer.weight.detach()[:, :, 0, 0].cpu().double().numpy())
            biases.append(layer.bias.detach().cpu().double().numpy())
    return ChannelExcitation(*(np.stack(part) for part in parts))


def _interior_statistic(x: Tensor, share: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and M2 of `[N, C, H, W]` over the mask, `[N, C]` each, in FP32."""
    x = x.float()
    mean = (x * share).sum(dim=(2, 3), keepdim=True)
    # A power, not a product of two tensors: runtimes fuse it with the difference and the mask.
    return mean[:, :, 0, 0], ((x - mean).pow(2) * mask).sum(dim=(2, 3))
