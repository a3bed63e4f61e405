"""Scales between layers, so that one int8 range fits all channels of a tensor.

A tensor has one range, but its channels differ: the widest sets the step, the others lose bits. A
channel may be divided by any positive factor where everything that reads it multiplies by the same
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
In SRRAM that holds for the features between two convolutions of a block, for those before a pixel
shuffle, and for the whole residual stream, because the channel attention's first layer takes the
factor's square (it reads variances) and the depth-wise convolution is linear in its channel.

The network computes the same as before, up to the rounding of FP32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ramedge.errors import ExportError
from ramedge.network.attention import FusedAttention
from ramedge.network.srram import SRRAM, ResidualAttentionBlock, Tail

BALANCE = 0.75
"""How much of the difference between activations goes into the weights; the rest stays. Weights
have a range for each output channel and bear more (α of Xiao et al., "SmoothQuant", ICML 2023)."""
LARGEST_FACTOR = 8.0
"""Channels that are almost dead are not blown up by more."""
_SMALLEST_SHARE = 1e-4


def equalize(network: SRRAM, images: Iterable[NDArray[np.float32]]) -> SRRAM:
    """A copy of a network of one scale whose tensors suit int8 better, and which computes the same.

    Args:
        network: with the paper's attention.
        images: real pictures, `[1, 3, H, W]` float32 in [0, 1]: the channels' ranges are measured
            on them.

    Raises:
        ExportError: the network has several scales, or another attention.
    """
    if network.config.attention != "ram" or len(network.config.scales) != 1:
        raise ExportError("Only networks of one scale with the attention ram are quantized.")
    balanced = copy.deepcopy(network)
    blocks = [_block(block) for block in balanced.blocks]
    tail = balanced.tails[f"x{network.config.scales[0]}"]
    assert isinstance(tail, Tail)
    upsampler = [_convolution(layer) for layer in tail.upsampler]
    stream = [*(block.conv1 for block in blocks), balanced.body, upsampler[0]]
    after_shuffle = [*upsampler[1:], tail.reconstruction]
    readers = [*stream, *(block.conv2 for block in blocks), *after_shuffle]
    largest = _channel_ranges(balanced, readers, images)
    with torch.no_grad():
        for block in blocks:
            factors = _factors([block.conv2], largest)
            _divide_output(block.conv1, factors)
            _multiply_input(block.conv2, factors)
        for writer, reader in zip(upsampler, after_shuffle, strict=True):
            factors = _factors([reader], largest)
            # Pixel shuffle: output channel c comes from the consecutive channels c·s² … .
            _divide_output(writer, factors.repeat_interleave(writer.out_channels // len(factors)))
            _multiply_input(reader, factors)
        _scale_stream(balanced, blocks, stream, _factors(stream, largest))
    return balanced


def _scale_stream(
    network: SRRAM,
    blocks: Sequence[ResidualAttentionBlock],
    readers: Sequence[nn.Conv2d],
    factors: Tensor,
) -> None:
    """Divide the residual stream, and what is added to it, by a factor for each channel."""
    for reader in readers:
        _multiply_input(reader, factors)
    for writer in (network.head, *(block.conv2 for block in blocks), network.body):
        _divide_output(writer, factors)
    for block in blocks:
        attention = block.attention
        assert isinstance(attention, FusedAttention)
        _multiply_input(attention.excitation.fc1, factors * factors)
        # Depth-wise: one input channel for each output channel, whose output stays as it was.
        attention.depthwise.weight.mul_(factors.view(-1, 1, 1, 1))


def _channel_ranges(
    network: SRRAM, convolutions: Sequence[nn.Conv2d], images: Iterable[NDArray[np.float32]]
) -> dict[nn.Conv2d, Tensor]:
    """Largest magnitude of each input channel of each convolution, `[C]`."""
    found: dict[nn.Conv2d, Tensor] = {}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        largest = inputs[0].abs().amax(dim=(0, 2, 3))
        found[layer] = torch.maximum(found[layer], largest) if layer in found else largest

    handles = [layer.register_forward_pre_hook(measure) for layer in convolutions]
    try:
        with torch.no_grad():
            for image in images:
                network(torch.from_numpy(image))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _factors(readers: Sequence[nn.Conv2d], largest: dict[nn.Conv2d, Tensor]) -> Tensor:
    """What the channels of a tensor are divided by, `[C]`, from all that reads it."""
    activations = torch.stack([_relative(largest[reader]) for reader in readers]).amax(dim=0)
    weights = torch.stack(
        [_relative(reader.weight.abs().amax(dim=(0, 2, 3))) for reader in readers]
    ).amax(dim=0)
    factors = activations**BALANCE / weights ** (1.0 - BALANCE)
    factors = factors / factors.log().mean().exp()
    return factors.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR)


def _relative(values: Tensor) -> Tensor:
    return (values / values.max().clamp_min(1e-30)).clamp_min(_SMALLEST_SHARE)


def _divide_output(layer: nn.Conv2d, factors: Tensor) -> None:
    layer.weight.div_(factors.view(-1, 1, 1, 1))
    assert layer.bias is not None
    layer.bias.div_(factors)


def _multiply_input(layer: nn.Conv2d, factors: Tensor) -> None:
    layer.weight.mul_(factors.view(1, -1, 1, 1))


def _block(module: nn.Module) -> ResidualAttentionBlock:
    assert isinstance(module, ResidualAttentionBlock)
    return module


def _convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
