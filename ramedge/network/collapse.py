"""The network with its linear parts multiplied out: same outputs, less work, less rounding.

**The tail.** There is no activation between the upsampler and the reconstruction (paper, Eq. 4), so
inside the image they are one linear map of 5×5 features to the s×s pixels of one feature: a
convolution with 3·s² outputs and a pixel shuffle. It has an eighth (×2, ×3) to a tenth (×4) of the
multiply-adds, and no features at the high resolution are ever made. After Bhardwaj et al.,
"Collapsible Linear Blocks for Super-Efficient Super Resolution" (SESR), MLSys 2022, who train that
way too.

**The image-space skip branch.** The tail reads F_0 + body(F_R), and F_0 is the head's linear map of
the image (Eq. 1). So what F_0 contributes is one convolution of 7×7 pixels of the image. It carries
the picture itself and costs 0.2 to 0.8 % of the work: it stays in FP32 where all else is half
precision or INT8, which then round what the network adds to the picture and not the picture.

At the image's rim both differ from the network: each of its layers pads its own input with zeros,
which is not what one convolution does. So what belongs to the outermost features is made by the
layers themselves, from strips.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramedge.network.srram import SRRAM, Tail

_REACH = 2
"""What belongs to a feature depends on this many features each way, whatever the scale: one for the
first convolution, and one for all at the high resolution together."""
RIM = 2
"""What belongs to the N outermost features is no single convolution of picture and features: the
tail pads with zeros, and so does the head, which reaches one feature further."""


class CollapsedTail(nn.Module):
    """Head and `Tail` of a network as two convolutions, but for the rim.

    For inference: the weights are multiplied out once, in FP64.
    """

    def __init__(self, tail: Tail, head: nn.Conv2d) -> None:
        """Take the tail, whose weights are shared."""
        super().__init__()
        self.tail = tail
        weight, bias = merge(copy.deepcopy(tail).double())
        outputs, channels, side, _ = weight.shape
        self.merged = nn.Conv2d(channels, outputs, side, padding=_REACH)
        self.merged.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        weight, bias = _follow(copy.deepcopy(head).double(), weight.detach())
        self.picture = nn.Conv2d(3, outputs, weight.shape[2], padding=_REACH + 1)
        self.picture.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})

    def forward(self, shifted: Tensor, first: Tensor, residual: Tensor) -> Tensor:
        """What `Tail` makes of `first + residual`, where `first` is the head's of `shifted`.

        `[N, 3, H, W]` and two of `[N, C, H, W]` → `[N, 3, s·H, s·W]`, FP32.
        """
        s = self.tail.scale
        image = F.pixel_shuffle(self.merged(residual).float() + self.picture(shifted), s)
        image = _with_rim(self._at_once, s, first + residual, image, RIM)
        return _with_rim(self.tail, s, first + residual, image, 1)

    def _at_once(self, features: Tensor) -> Tensor:
        return F.pixel_shuffle(self.merged(features), self.tail.scale)


class CollapsedNetwork(nn.Module):
    """A network for training, multiplied out in every step: same outputs and gradients.

    In bfloat16 the head and the image-space skip branch stay FP32, as they do in exports.

    Shares the weights of the network it is made from.
    """

    def __init__(self, network: SRRAM) -> None:
        """Wrap `network`."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, scale: int, rim: bool = True) -> Tensor:
        """As `SRRAM.forward`; without the rim, what belongs to the features inside `RIM` alone.

        `[N, 3, H, W]` → `[N, 3, s·H, s·W]`, or `[N, 3, s·(H - 2·RIM), s·(W - 2·RIM)]`, FP32.
        """
        network, tail = self.network, self.network.tails[f"x{scale}"]
        assert isinstance(tail, Tail)
        first = _enter(network, image)
        residual = network.body(network.transform(first))
        weight, bias = merge(tail)
        with _fp32(image):
            # In bfloat16 an output near white has steps of a whole level: the picture stays FP32.
            follow = _follow(network.head, weight)
            picture = F.conv2d(network.shift(image), *follow, padding=(_REACH if rim else 0) + 1)
        sums = F.conv2d(residual, weight, bias, padding=_REACH if rim else 0).float() + picture
        output = F.pixel_shuffle(sums, scale)
        if not rim:
            return network.to_image(output)

        def at_once(features: Tensor) -> Tensor:
            return F.pixel_shuffle(F.conv2d(features, weight, bias, padding=_REACH), scale)

        output = _with_rim(at_once, scale, first + residual, output, RIM)
        return network.to_image(_with_rim(tail, scale, first + residual, output, 1))


class InferenceNetwork(SRRAM):
    """A network as it is exported; made by `collapse`."""

    def finish(self, image: Tensor, first: Tensor, transformed: Tensor, scale: int) -> Tensor:
        """As `SRRAM.finish`."""
        tail = self.tails[f"x{scale}"]
        return self.to_image(tail(self.shift(image), first, self.body(transformed)))


def collapse(network: SRRAM) -> InferenceNetwork:
    """A copy of the network whose linear parts are multiplied out; for inference only."""
    collapsed = InferenceNetwork(network.config)
    collapsed.load_state_dict(network.state_dict())
    for name, tail in collapsed.tails.items():
        assert isinstance(tail, Tail)
        collapsed.tails[name] = CollapsedTail(tail, collapsed.head)
    return collapsed.eval()


def merge(tail: Tail) -> tuple[Tensor, Tensor]:
    """Weight `[3·s², C, 5, 5]` and bias `[3·s²]` of the convolution that a tail is inside an image.

    Outputs are in the order of `F.pixel_shuffle`. Differentiable, never below FP32.
    """
    with _fp32(tail.reconstruction.weight):
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


def _enter(network: SRRAM, image: Tensor) -> Tensor:
    """F_0 computed in FP32, then in what autocast asks for: its input is the picture itself."""
    with _fp32(image):
        first = network.enter(image)
    kind = _device_type(image)
    return first.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else first


def _fp32(tensor: Tensor) -> torch.autocast:
    return torch.autocast(_device_type(tensor), enabled=False)


def _device_type(tensor: Tensor) -> str:
    return "cuda" if tensor.is_cuda else "cpu"  # autocast does not know the meta device


def _through(conv: nn.Module, answer: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d)
    around = F.pad(constant, (1, 1, 1, 1), mode="circular")
    return F.conv2d(answer, conv.weight, padding=2), F.conv2d(around, conv.weight, conv.bias)


def _follow(head: nn.Conv2d, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that `weight` after the head is. Differentiable.

    `[O, C, 5, 5]` after `[C, 3, 3, 3]` → `[O, 3, 7, 7]` and `[O]`, without `weight`'s own bias.
    """
    assert head.bias is not None
    # A convolution of the flipped kernels: each pair of taps adds up where their offsets do.
    turned = head.weight.flip(2, 3).transpose(0, 1)
    combined = F.conv2d(turned, weight, padding=weight.shape[2] - 1)
    bias = torch.einsum("ocij,c->o", weight, head.bias)
    return combined.flip(2, 3).transpose(0, 1), bias


def _with_rim(
    make: Callable[[Tensor], Tensor], scale: int, features: Tensor, image: Tensor, width: int
) -> Tensor:
    """`image` with the pixels of the `width` outermost features as `make` makes them from strips.

    Written so that they are right, or empty, for few features as well. `width` is 1 or 2.
    """
    strip, rim = width + _REACH, width * scale
    top = make(features[:, :, :strip])[:, :, :rim]
    bottom = make(features[:, :, -strip:])[:, :, rim:][:, :, -rim:]
    left = make(features[:, :, :, :strip])[:, :, rim:-rim, :rim]
    right = make(features[:, :, :, -strip:])[:, :, rim:-rim, rim:][:, :, :, -rim:]
    between = torch.cat([left, image[:, :, rim:-rim, rim:-rim], right], dim=3)
    return torch.cat([top, between, bottom], dim=2)
