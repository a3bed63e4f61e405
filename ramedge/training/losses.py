"""Training losses on images in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ramedge.training.recipe import LossName

CHARBONNIER_EPSILON = 1e-3
"""Lai et al., "Deep Laplacian Pyramid Networks" (CVPR 2017), Section 3.2."""
PSNR_EPSILON = 1.0 / 255.0
"""Keeps a nearly perfect patch (48 dB) from outweighing the others."""
FREQUENCY_WEIGHT = 0.1
"""Weight of the spectrum's L1 relative to the image's. With the orthonormal transform both have the
same magnitude, so the spectrum counts a tenth."""


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, the paper's loss."""
    return F.l1_loss(output, target)


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, whose logarithm is PSNR: for a last stage."""
    return F.mse_loss(output, target)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the patches of log(1 + MSE / ε²), ε one 8-bit level: for a last stage.

    The mean PSNR of a set averages logarithms, so smooth images count as much as detailed ones.
    Chen et al., "HINet" (CVPR Workshops 2021) train on it.
    """
    squares = (output.float() - target.float()).square().mean(dim=(1, 2, 3))
    return torch.log1p(squares / PSNR_EPSILON**2).mean()


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """Mean of √(d² + ε²): L1 that is smooth at zero."""
    difference = output - target
    return (difference * difference + CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency(output: Tensor, target: Tensor) -> Tensor:
    """L1 of the image plus a weighted L1 of its spectrum's real and imaginary parts.

    Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (ICCV 2021).
    """
    difference = output.float() - target.float()
    spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
    return difference.abs().mean() + FREQUENCY_WEIGHT * spectrum.abs().mean()


LOSSES: Mapping[LossName, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"l1": l1, "l2": l2, "psnr": psnr, "charbonnier": charbonnier, "frequency": frequency}
)
"""Loss functions of (output, target), both `[N, 3, H, W]`, by name."""
