"""The network with its tail as one convolution, for export: the same outputs for less work.

There is no activation between the upsampler and the reconstruction (paper, Eq. 4), so inside the
image they are one linear map of 5×5 features to the s×s pixels of one feature: a convolution with
3·s² outputs and a pixel shuffle. It has an eighth (×2, ×3) to a tenth (×4) of the multiply-adds,
and no features at the high resolution are ever made. After Bhardwaj et al., "Collapsible Linear
Blocks for Super-Efficient Super Resolution" (SESR), MLSys 2022.

At the image's rim the two differ: each layer of the tail pads its own input with zeros, which is
not what one convolution does. So what belongs to the outermost features is made by the tail itself,
from strips of three features.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramedge.network.srram import SRRAM, Tail

_REACH = 2
"""What belongs to a feature depends on so many features each way, whatever the scale: one for the
first convolution, and one for all at the high resolution together."""
_STRIP = _REACH + 1


class CollapsedTail(nn.Module):
    """A `Tail` as one convolution, but for the rim: `[N, C, H, W]` → `[N, 3, s·H, s·W]`."""

    def __init__(self, tail: Tail) -> None:
        """Take the tail, whose weights are shared."""
        super().__init__()
        self.tail = tail
        self.scale = 1
        for stage in tail.stages:
            self.scale *= stage
        self.merged = _merged(tail, self.scale)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        s = self.scale
        inside = F.pixel_shuffle(self.merged(features), s)[:, :, s:-s, s:-s]
        # Written so that they are right, or empty, for one and two features as well.
        top = self.tail(features[:, :, :_STRIP])[:, :, :s]
        bottom = self.tail(features[:, :, -_STRIP:])[:, :, s:][:, :, -s:]
        left = self.tail(features[:, :, :, :_STRIP])[:, :, s:-s, :s]
        right = self.tail(features[:, :, :, -_STRIP:])[:, :, s:-s, s:][:, :, :, -s:]
        between = torch.cat([left, inside, right], dim=3)
        return torch.cat([top, between, bottom], dim=2)


def collapse(network: SRRAM) -> SRRAM:
    """A copy of the network whose tails are collapsed; for inference only."""
    collapsed = copy.deepcopy(network)
    for name, tail in collapsed.tails.items():
        assert isinstance(tail, Tail)
        collapsed.tails[name] = CollapsedTail(tail)
    return collapsed.eval()


def _merged(tail: Tail, scale: int) -> nn.Conv2d:
    """The convolution that a tail is inside an image, read off its answer to impulses, in FP64."""
    exact = copy.deepcopy(tail).double()
    channels = exact.reconstruction.in_channels
    side = 4 * _REACH + 1  # an impulse in the middle, and its answer clear of the rim
    middle = 2 * _REACH
    with torch.no_grad():
        nothing = torch.zeros(1, channels, side, side, dtype=torch.float64)
        impulses = torch.zeros(channels, channels, side, side, dtype=torch.float64)
        impulses[range(channels), range(channels), middle, middle] = 1.0
        bias = F.pixel_unshuffle(exact(nothing), scale)[0, :, middle, middle]
        answers = F.pixel_unshuffle(exact(impulses) - exact(nothing), scale)
    near = slice(middle - _REACH, middle + _REACH + 1)
    # A feature d to the right of the impulse weighs it at -d: turned by half a turn.
    weights = answers[:, :, near, near].flip(2, 3).transpose(0, 1)
    merged = nn.Conv2d(channels, 3 * scale**2, 2 * _REACH + 1, padding=_REACH)
    merged.load_state_dict({"weight": weights, "bias": bias})
    return merged
