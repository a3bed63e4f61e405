"""SRRAM, the network of "RAM: Residual Attention Module for Single Image Super-Resolution".

arXiv 1811.12043; single-scale, and in the multi-scale form of its Table 4.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramedge.errors import UsageError
from ramedge.network.attention import ATTENTIONS
from ramedge.network.config import NetworkConfig

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of DIV2K's training images in [0, 1], as in the authors' code."""

PEAK = 255.0
"""The network's inner range. Variance pooling is not scale-invariant: at [0, 1] the
attention would be almost constant, so the authors' 0–255 is kept inside."""

_BLOCK_INIT_FACTOR = 1e-4


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResidualAttentionBlock(nn.Module):
    """F_r = F_{r-1} + attention(conv(relu(conv(F_{r-1})))) (paper, Eq. 5)."""

    def __init__(self, channels: int, reduction: int, attention: str) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels)
        self.conv2 = _conv(channels, channels)
        self.attention = ATTENTIONS[attention](channels, reduction)

    def transform(self, features: Tensor) -> Tensor:
        """The paper's f_trans: convolution, ReLU, convolution."""
        transformed: Tensor = self.conv2(F.relu(self.conv1(features)))
        return transformed

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        recalibrated: Tensor = self.attention(self.transform(features))
        return features + recalibrated


class Tail(nn.Module):
    """Sub-pixel upsampler and reconstruction convolution of one scale (paper, Eq. 4).

    ×2 and ×3 are one stage, ×4 is two ×2 stages; no activation between.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.stages = (2, 2) if scale == 4 else (scale,)
        self.upsampler = nn.ModuleList(
            _conv(channels, channels * stage * stage) for stage in self.stages
        )
        self.reconstruction = _conv(channels, 3)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        for conv, stage in zip(self.upsampler, self.stages, strict=True):
            features = F.pixel_shuffle(conv(features), stage)
        image: Tensor = self.reconstruction(features)
        return image


class SRRAM(nn.Module):
    """The network. RGB in [0, 1], `[N, 3, H, W]` → `[N, 3, s·H, s·W]`, not clipped.

    Any H, W ≥ 1. Inside it works at 0–255 minus the training mean, as the authors' code.
    Compute runs in the dtype of the weights; variance pooling and the output are FP32.

    With several scales the trunk is shared and each scale has its own tail; `take` gives
    the network of one scale for deployment.
    """

    mean: Tensor

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else NetworkConfig()
        c = self.config
        self.head = _conv(3, c.channels)
        self.blocks = nn.ModuleList(
            ResidualAttentionBlock(c.channels, c.reduction, c.attention) for _ in range(c.blocks)
        )
        self.body = _conv(c.channels, c.channels)
        self.tails = nn.ModuleDict({f"x{scale}": Tail(c.channels, scale) for scale in c.scales})
        # A constant of the architecture, not a weight: never stored, always FP32.
        mean = torch.tensor(RGB_MEAN, dtype=torch.float32).view(1, 3, 1, 1) * PEAK
        self.register_buffer("mean", mean, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors' initialisation: Glorot, and fan-in normal of factor 1e-4/R in blocks."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, ResidualAttentionBlock)
            for conv in (block.conv1, block.conv2):
                fan_in = conv.weight[0].numel()
                std = math.sqrt(_BLOCK_INIT_FACTOR / self.config.blocks / fan_in)
                nn.init.normal_(conv.weight, std=std)

    def shift(self, image: Tensor) -> Tensor:
        """The network's inner range: `[N, 3, H, W]` in [0, 1] → at 0–255 minus the mean, FP32."""
        return image.float() * PEAK - self.mean

    def enter(self, image: Tensor) -> Tensor:
        """F_0 of the paper (Eq. 1): `[N, 3, H, W]` in [0, 1] → `[N, C, H, W]`."""
        first: Tensor = self.head(self.shift(image).to(self.head.weight.dtype))
        return first

    def features(self, image: Tensor) -> Tensor:
        """F_f of the paper (Eq. 2 and 3): `[N, 3, H, W]` in [0, 1] → `[N, C, H, W]`."""
        first = self.enter(image)
        fused: Tensor = first + self.body(self.transform(first))
        return fused

    def transform(self, first: Tensor) -> Tensor:
        """F_R of the paper (Eq. 2): F_0 through all blocks, `[N, C, H, W]` both."""
        features = first
        for block in self.blocks:
            features = block(features)
        return features

    def finish(self, image: Tensor, first: Tensor, transformed: Tensor, scale: int) -> Tensor:
        """From F_R to the upscaled image in [0, 1]; F_0 and the image are those it came from."""
        del image  # networks for inference (`ramedge.network.collapse`) have a skip branch from it
        return self.reconstruct(first + self.body(transformed), scale)

    def reconstruct(self, features: Tensor, scale: int) -> Tensor:
        """Tail of `scale` and the way back to [0, 1]: `[N, C, H, W]` → `[N, 3, s·H, s·W]`."""
        residual: Tensor = self.tails[f"x{scale}"](features)
        return self.to_image(residual)

    def to_image(self, residual: Tensor) -> Tensor:
        """A tail's output as RGB in [0, 1], not clipped, FP32."""
        return (residual.float() + self.mean) * (1.0 / PEAK)

    def forward(self, image: Tensor, scale: int | None = None) -> Tensor:
        """Upscale. `scale` may be left out where the network has one only.

        Raises:
            UsageError: the network has no such scale, or several and none was named.
        """
        scales = self.config.scales
        if scale is None:
            if len(scales) > 1:
                raise UsageError(f"This network has the scales {scales}: name one.")
            scale = scales[0]
        if scale not in scales:
            raise UsageError(f"This network has the scales {scales}, not {scale}.")
        first = self.enter(image)
        return self.finish(image, first, self.transform(first), scale)

    def take(self, scale: int) -> SRRAM:
        """The network of one scale with the same weights (a copy), for deployment.

        Raises:
            UsageError: the network was not made for this scale.
        """
        c = self.config
        if scale not in c.scales:
            raise UsageError(f"This network has the scales {c.scales}, not {scale}.")
        single = SRRAM(
            NetworkConfig(
                blocks=c.blocks,
                channels=c.channels,
                scales=(scale,),
                reduction=c.reduction,
                attention=c.attention,
            )
        )
        own = self.state_dict()
        single.load_state_dict({name: own[name].clone() for name in single.state_dict()})
        return single

    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    def scale_parameter_count(self, scale: int) -> int:
        """Parameters as the paper's Table 4 counts them: without the other scales' upsamplers."""
        others = (tail for name, tail in self.tails.items() if name != f"x{scale}")
        unused = sum(
            parameter.numel()
            for tail in others
            if isinstance(tail, Tail)
            for parameter in tail.upsampler.parameters()
        )
        return self.parameter_count() - unused
