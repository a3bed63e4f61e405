"""Attention mechanisms for residual blocks: the paper's and those it is compared with.

Each maps feature maps X to recalibrated feature maps X̂ of the same shape
`[N, C, H, W]` (paper, Table 1). A mechanism is chosen by its name in `ATTENTIONS`.

The channel attention of the paper pools a statistic over the whole frame. `FusedAttention`
therefore also offers its two halves, `channel_logits` (needs the whole frame) and
`recalibrate` (local), so that a tile can be computed with the frame's statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CSAR_INCREASE_RATIO = 2


def variance_pool(x: Tensor) -> Tensor:
    """Population variance of each channel over H×W (paper, Eq. 6).

    `[N, C, H, W]` → `[N, C, 1, 1]`, computed in FP32 and returned in FP32 whatever the
    input is: squares of 0–255 feature maps overflow FP16.
    """
    x = x.float()
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    return (centred * centred).mean(dim=(2, 3), keepdim=True)


def average_pool(x: Tensor) -> Tensor:
    """Mean of each channel over H×W, `[N, C, H, W]` → `[N, C, 1, 1]` in FP32."""
    return x.float().mean(dim=(2, 3), keepdim=True)


def max_pool(x: Tensor) -> Tensor:
    """Maximum of each channel over H×W, `[N, C, H, W]` → `[N, C, 1, 1]` in FP32."""
    return x.float().amax(dim=(2, 3), keepdim=True)


class Excitation(nn.Module):
    """Two biased fully connected layers with a bottleneck: fc2(relu(fc1(S))).

    Written as 1×1 convolutions on `[N, C, 1, 1]`. The statistic and these weights stay FP32
    where the rest is half precision: variances of 0–255 features overflow FP16.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, statistic: Tensor) -> Tensor:  # noqa: D102  # the class says it
        logits: Tensor = self.fc2(F.relu(self.fc1(statistic)))
        return logits


class NoAttention(nn.Module):
    """The plain residual block: X̂ = X."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        return x


class ChannelAttention(nn.Module):
    """X̂ = σ(fc2(relu(fc1(pool(X))))) ⊗ X for one or more pools, whose logits are added.

    Variance pooling gives the paper's CA (Eq. 6), average pooling RCAB's and CSAR's,
    average and max pooling with shared layers CBAM's.
    """

    def __init__(
        self, channels: int, reduction: int, pools: tuple[Callable[[Tensor], Tensor], ...]
    ) -> None:
        super().__init__()
        self.pools = pools
        self.excitation = Excitation(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        logits = self.excitation(self.pools[0](x))
        for pool in self.pools[1:]:
            logits = logits + self.excitation(pool(x))
        return torch.sigmoid(logits).to(x.dtype) * x


class DepthwiseSpatialAttention(nn.Module):
    """The paper's SA alone: X̂ = σ(depthwise3×3(X)) ⊗ X (Eq. 7)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        return torch.sigmoid(self.depthwise(x)) * x


class FusedAttention(nn.Module):
    """The paper's FA: X̂ = σ(CA(X) ⊕ SA(X)) ⊗ X, CA broadcast over H×W (Eq. 8)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.excitation = Excitation(channels, reduction)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def channel_logits(self, x: Tensor) -> Tensor:
        """CA's map before the sigmoid, `[N, C, 1, 1]`, from the variance over all of `x`."""
        logits: Tensor = self.excitation(variance_pool(x))
        return logits

    def recalibrate(self, x: Tensor, channel_logits: Tensor) -> Tensor:
        """Scale `x` with the given CA logits and its own SA map. Local: 3×3."""
        return torch.sigmoid(channel_logits.to(x.dtype) + self.depthwise(x)) * x

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        return self.recalibrate(x, self.channel_logits(x))


class PooledSpatialAttention(nn.Module):
    """CBAM's SA: one 7×7 convolution on the channels' average and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        # max, whose gradient follows the index, and not amax, whose gradient looks for the value:
        # compiled in bfloat16, the backward pass rounds `x` again, finds none equal, and is NaN.
        strongest = x.max(dim=1, keepdim=True).values
        pooled = torch.cat([x.mean(dim=1, keepdim=True), strongest], dim=1)
        return torch.sigmoid(self.conv(pooled)) * x


class PointwiseSpatialAttention(nn.Module):
    """CSAR's SA: two 1×1 convolutions to one map, with γ·C features between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels * CSAR_INCREASE_RATIO, 1)
        self.conv2 = nn.Conv2d(channels * CSAR_INCREASE_RATIO, 1, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        return torch.sigmoid(self.conv2(F.relu(self.conv1(x)))) * x


class CSARAttention(nn.Module):
    """CSAR's fusion: conv1×1([CA(X), SA(X)])."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, (average_pool,))
        self.spatial = PointwiseSpatialAttention(channels)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102  # the class says it
        fused: Tensor = self.fuse(torch.cat([self.channel(x), self.spatial(x)], dim=1))
        return fused


AttentionFactory = Callable[[int, int], nn.Module]
"""Makes an attention from (channels, reduction)."""

ATTENTIONS: Mapping[str, AttentionFactory] = MappingProxyType(
    {
        "none": lambda channels, reduction: NoAttention(),
        "ram": FusedAttention,
        "ram-ca": lambda channels, reduction: ChannelAttention(
            channels, reduction, (variance_pool,)
        ),
        "ram-sa": lambda channels, reduction: DepthwiseSpatialAttention(channels),
        "rcab": lambda channels, reduction: ChannelAttention(channels, reduction, (average_pool,)),
        "cbam-ca": lambda channels, reduction: ChannelAttention(
            channels, reduction, (average_pool, max_pool)
        ),
        "cbam-sa": lambda channels, reduction: PooledSpatialAttention(),
        "cbam": lambda channels, reduction: nn.Sequential(
            ChannelAttention(channels, reduction, (average_pool, max_pool)),
            PooledSpatialAttention(),
        ),
        "csar-ca": lambda channels, reduction: ChannelAttention(
            channels, reduction, (average_pool,)
        ),
        "csar-sa": lambda channels, reduction: PointwiseSpatialAttention(channels),
        "csar": CSARAttention,
    }
)
"""The columns of the paper's Table 2, by name."""
