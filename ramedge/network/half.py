"""The network in half precision in PyTorch; `ramedge.artifacts.half` does the same to its graph."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ramedge.network.attention import Excitation
from ramedge.network.collapse import CollapsedTail
from ramedge.network.srram import SRRAM


def to_half(network: SRRAM) -> SRRAM:
    """A copy of the network that computes in FP16 wherever FP16 is enough.

    Every convolution over features is FP16. The variance, the two layers behind it, the mean shift,
    the image-space skip branch and the output stay FP32: they overflow or lose what 8 bits show.
    """
    half = copy.deepcopy(network)
    keep = {
        id(parameter)
        for module in half.modules()
        for kept in _kept(module)
        for parameter in kept.parameters()
    }
    for module in half.modules():
        if isinstance(module, nn.Conv2d):
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in keep:
                    parameter.data = parameter.data.to(torch.float16)
    return half


def _kept(module: nn.Module) -> tuple[nn.Module, ...]:
    if isinstance(module, Excitation):
        return (module,)
    return (module.picture,) if isinstance(module, CollapsedTail) else ()
