"""Names of the nodes of a network's ONNX graphs, by what they do.

Export gives them (`ramedge.export.roles`); a node and the tensor that it makes have the same name.
Whoever cuts, quantizes or rewrites a graph finds its nodes by these names.
"""

from __future__ import annotations

import re

HEAD = "head"
"""The first convolution. It makes F_0 (paper, Eq. 1)."""
BODY = "body"
"""The convolution behind the last block."""
TAIL = "tail"
"""The convolution that is upsampler and reconstruction in one (`ramedge.network.collapse`)."""
SKIP = "skip"
"""The convolution of the image-space skip branch."""
RIM = "rim."
"""Prefix of what makes the rim of the picture from strips."""

_DENSE = re.compile(rf"{HEAD}|{BODY}|{TAIL}|block\d+\.conv[12]")
_FEATURE = re.compile(rf"{HEAD}|block\d+\.(output|conv2)")
_EXCITATION = re.compile(r"block\d+\.(squeeze|excite)")


def features(block: int) -> str:
    """F_r, what block r gives on; F_0 is the head's."""
    return HEAD if block == 0 else f"block{block}.output"


def transformed(block: int) -> str:
    """X_r, what block r's attention is for."""
    return f"block{block}.conv2"


def gate(block: int) -> str:
    """The sigmoid of block r's attention."""
    return f"block{block}.gate"


def gated(block: int) -> str:
    """X_r times its attention."""
    return f"block{block}.gated"


def mean(block: int) -> str:
    """Mean of X_r over a tile's interior, `[N, 1, C]`."""
    return f"block{block}.mean"


def m2(block: int) -> str:
    """Sum of squared differences of X_r from its mean, `[N, 1, C]`."""
    return f"block{block}.m2"


def is_dense(name: str) -> bool:
    """Whether a node is a convolution over features that mixes channels, so that INT8 pays."""
    return _DENSE.fullmatch(name) is not None


def is_excitation(name: str) -> bool:
    """Whether a node is one of the two layers behind the variance of a frame."""
    return _EXCITATION.fullmatch(name) is not None


def is_feature(name: str) -> bool:
    """Whether a tensor is F_r or X_r: what is given from one part of a network to the next."""
    return _FEATURE.fullmatch(name) is not None
