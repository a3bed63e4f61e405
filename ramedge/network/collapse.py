"""The network with its tail as one convolution: the same outputs for less work.

There is no activation between the upsampler and the reconstruction (paper, Eq. 4), so inside the
image they are one linear map of 5×5 features to the s×s pixels of one feature: a convolution with
3·s² outputs and a pixel shuffle. It has an eighth (×2, ×3) to a tenth (×4) of the multiply-adds,
and no features at the high resolution are ever made. After Bhardwaj et al., "Collapsible Linear
Blocks for Super-Efficient Super Resolution" (SESR), MLSys 2022, who train that way too.

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
    """A `Tail` as one convolution, but for the rim: `[N, C, H, W]` → `[N, 3, s·H, s·W]`.

    For inference: the weights are multiplied out once, in FP64.
    """

    def __init__(self, tail: Tail) -> None:
        """Take the tail, whose weights are shared."""
        super().__init__()
        self.tail = tail
        weight, bias = merge(copy.deepcopy(tail).double())
        outputs, channels, side, _ = weight.shape
        self.merged = nn.Conv2d(channels, outputs, side, padding=_REACH)
        self.merged.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102  # the class says it
        return _with_rim(self.tail, features, self.merged(features))


class CollapsedNetwork(nn.Module):
    """A network for training, its tail multiplied out in every step: same outputs and gradients.

    Shares the weights of the network it is made from.
    """

    def __init__(self, network: SRRAM) -> None:
        """Wrap `network`."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, scale: int) -> Tensor:
        """As `SRRAM.forward`."""
        features = self.network.features(image)
        tail = self.network.tails[f"x{scale}"]
        assert isinstance(tail, Tail)
        weight, bias = merge(tail)
        merged = F.conv2d(features, weight, bias, padding=_REACH)
        return self.network.to_image(_with_rim(tail, features, merged))


def collapse(network: SRRAM) -> SRRAM:
    """A copy of the network whose tails are collapsed; for inference only."""
    collapsed = copy.deepcopy(network)
    for name, tail in collapsed.tails.items():
        assert isinstance(tail, Tail)
        collapsed.tails[name] = CollapsedTail(tail)
    return collapsed.eval()


def merge(tail: Tail) -> tuple[Tensor, Tensor]:
    """Weight `[3·s², C, 5, 5]` and bias `[3·s²]` of the convolution that a tail is inside an image.

    Outputs are in the order of `F.pixel_shuffle`. Differentiable, never below FP32.
    """
    with torch.autocast("cuda" if tail.reconstruction.weight.is_cuda else "cpu", enabled=False):
        # The answers to an impulse in each channel, [C, channels, side, side], and the answer to
        # nothing for one feature: it is the same for all, so it is continued round its border.
        first = tail.upsampler[0]
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        answer = F.pixel_shuffle(first.weight.flip(2, 3).transpose(0, 1), tail.stages[0])
        constant = F.pixel_shuffle(first.bias[None, :, None, None], tail.stages[0])
        for conv, stage in zip(tail.upsampler[1:], tail.stages[1:], strict=True):
            answer, constant = _through(conv, answer, constant)
            answer, constant = F.pixel_shuffle(answer, stage), F.pixel_shuffle(constant, stage)
        answer, constant = _through(tail.reconstruction, answer, constant)
        side = 2 * _REACH + 1
        margin = (side * tail.scale - answer.shape[2]) // 2
        answer = F.pixel_unshuffle(F.pad(answer, (margin,) * 4), tail.scale)
        # A feature d to the right of the impulse weighs it at -d: turned by half a turn.
        weight = answer.flip(2, 3).transpose(0, 1)
        return weight, F.pixel_unshuffle(constant, tail.scale)[0, :, 0, 0]


def _through(conv: nn.Module, answer: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d)
    around = F.pad(constant, (1, 1, 1, 1), mode="circular")
    return F.conv2d(answer, conv.weight, padding=2), F.conv2d(around, conv.weight, conv.bias)


def _with_rim(tail: Tail, features: Tensor, merged: Tensor) -> Tensor:
    """The image: what one convolution made, and the tail's own pixels of the outermost features.

    Written so that they are right, or empty, for one and two features as well.
    """
    s = tail.scale
    inside = F.pixel_shuffle(merged, s)[:, :, s:-s, s:-s]
    top = tail(features[:, :, :_STRIP])[:, :, :s]
    bottom = tail(features[:, :, -_STRIP:])[:, :, s:][:, :, -s:]
    left = tail(features[:, :, :, :_STRIP])[:, :, s:-s, :s]
    right = tail(features[:, :, :, -_STRIP:])[:, :, s:-s, s:][:, :, :, -s:]
    between = torch.cat([left, inside, right], dim=3)
    return torch.cat([top, between, bottom], dim=2)
