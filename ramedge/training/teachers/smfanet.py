"""SMFANet+, a light network to distil from, which spandrel does not load.

Zheng et al., "SMFANet: A Lightweight Self-Modulation Feature Aggregation Network for Efficient
Image Super-Resolution" (ECCV 2024). The names of the layers are those of the authors' state dicts.
For inference only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "SMFANet+"
_POOLED = 8
"""The non-local branch sees the features pooled by this factor."""
_EPSILON = 1e-12
_LAST_BLOCK = re.compile(r"feats\.(\d+)\.smfa\.linear_0\.weight")


class LocalDetail(nn.Module):
    """The local branch: depth-wise 3×3, 1×1, GELU, 1×1; `[N, d, H, W]` both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_0 = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1, groups=width),
            nn.Conv2d(2 * width, 2 * width, 1),
        )
        self.conv_1 = nn.Conv2d(2 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        detail: Tensor = self.conv_1(F.gelu(self.conv_0(features)))
        return detail


class FeatureAggregation(nn.Module):
    """Local detail plus features modulated by their pooled maxima and their variance.

    `[N, d, H, W]` both, H and W at least 8. The variance is over the whole plane, so it depends on
    the size of the patch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_0 = nn.Conv2d(width, 2 * width, 1)
        self.linear_1 = nn.Conv2d(width, width, 1)
        self.linear_2 = nn.Conv2d(width, width, 1)
        self.lde = LocalDetail(width)
        self.dw_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.alpha = nn.Parameter(torch.ones(1, width, 1, 1))
        self.belt = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        height, width = features.shape[-2:]
        y, z = self.linear_0(features).chunk(2, dim=1)
        maxima = F.adaptive_max_pool2d(z, (height // _POOLED, width // _POOLED))
        variance = z.var(dim=(-2, -1), keepdim=True)
        mixed = F.gelu(self.linear_1(self.dw_conv(maxima) * self.alpha + variance * self.belt))
        modulated = z * F.interpolate(mixed, size=(height, width), mode="nearest")
        aggregated: Tensor = self.linear_2(modulated + self.lde(y))
        return aggregated


class PartialFeedForward(nn.Module):
    """1×1, GELU, 3×3 and GELU on the first quarter of the channels, 1×1; `[N, d, H, W]` both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.quarter = width // 2
        self.conv_0 = nn.Conv2d(width, 2 * width, 1)
        self.conv_1 = nn.Conv2d(self.quarter, self.quarter, 3, padding=1)
        self.conv_2 = nn.Conv2d(2 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        wide = F.gelu(self.conv_0(features))
        first = F.gelu(self.conv_1(wide[:, : self.quarter]))
        result: Tensor = self.conv_2(torch.cat([first, wide[:, self.quarter :]], dim=1))
        return result


class Block(nn.Module):
    """x ← smfa(N(x)) + x, then x ← pcfn(N(x)) + x, N the division by the L2 norm of a pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.smfa = FeatureAggregation(width)
        self.pcfn = PartialFeedForward(width)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        features = self.smfa(F.normalize(features, eps=_EPSILON)) + features
        result: Tensor = self.pcfn(F.normalize(features, eps=_EPSILON)) + features
        return result


class SMFANetPlus(nn.Module):
    """RGB in [0, 1], `[N, 3, H, W]` → `[N, 3, s·H, s·W]`, not clipped; H and W at least 8."""

    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.to_feat = nn.Conv2d(3, width, 3, padding=1)
        self.feats = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.to_img = nn.Sequential(
            nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102  # the class says it
        features = self.to_feat(image)
        output: Tensor = self.to_img(self.feats(features) + features)
        return output


def is_smfanet_plus(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict looks like one of this network."""
    return "feats.0.smfa.linear_0.weight" in state and "to_img.0.weight" in state


def load_smfanet_plus(state: Mapping[str, Tensor]) -> SMFANetPlus:
    """The network of a state dict; width, blocks and scale are read from the shapes.

    Raises:
        RuntimeError: tensors are missing, surplus, or of other shapes.
    """
    blocks = max(int(found[1]) for name in state if (found := _LAST_BLOCK.fullmatch(name))) + 1
    outputs, width = state["to_img.0.weight"].shape[:2]
    network = SMFANetPlus(width, blocks, math.isqrt(outputs // 3))
    network.load_state_dict(dict(state))
    return network.eval()
