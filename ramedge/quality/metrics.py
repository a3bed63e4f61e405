"""Measures of picture quality, in pure numpy: PSNR and SSIM on luma, agreement of two outputs.

The protocol is the paper's (section 4.1 and the field's common one): luma of BT.601 in
studio swing as MATLAB's `rgb2ycbcr` gives it, from 8-bit pixels, a border of `scale` pixels
left out, SSIM with an 11×11 Gaussian window of σ 1.5. Tests compare with scikit-image, which
is not used here because it would bring SciPy to machines that only upscale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import UsageError

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_C1 = (0.01 * 255.0) ** 2
_SSIM_C2 = (0.03 * 255.0) ** 2

Array = NDArray[np.float64]


def luma(image: NDArray[np.uint8]) -> Array:
    """Luma in 16–235 of 8-bit RGB `[H, W, 3]`, or the image itself of 8-bit grey `[H, W]`.

    A grey picture is its own luma: through RGB it would be squeezed to 219/255 of its
    range, and its PSNR come out 1.3 dB too high.

    >>> luma(np.full((1, 1, 3), 255, np.uint8)).round(3).item()
    235.0
    """
    if image.ndim == 2:
        return image.astype(np.float64)
    if image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"Expected [H, W] or [H, W, 3], got {image.shape}.")
    weighted: Array = image.astype(np.float64) @ _LUMA
    return weighted + 16.0


def shave(image: Array, border: int) -> Array:
    """Leave `border` pixels out on each side of `[H, W]`.

    Raises:
        UsageError: nothing would be left.
    """
    if min(image.shape) <= 2 * border:
        raise UsageError(
            f"An image of {image.shape[1]}×{image.shape[0]} has nothing left "
            f"when {border} pixels are cut from each side."
        )
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def psnr(first: Array, second: Array, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB; infinity where both are equal.

    >>> round(psnr(np.zeros((4, 4)), np.ones((4, 4))), 2)
    48.13
    """
    error = float(np.mean((first - second) ** 2))
    return math.inf if error == 0.0 else 10.0 * math.log10(peak * peak / error)


def psnr_y(output: NDArray[np.uint8], truth: NDArray[np.uint8], scale: int) -> float:
    """PSNR on luma of two 8-bit pictures of one shape, border of `scale` left out, in dB."""
    return psnr(shave(luma(output), scale), shave(luma(truth), scale))


def ssim_y(output: NDArray[np.uint8], truth: NDArray[np.uint8], scale: int) -> float:
    """SSIM on luma of two 8-bit pictures of one shape, border of `scale` left out, in [-1, 1].

    Wang et al., "Image quality assessment" (2004); the mean over where the window fits whole.

    Raises:
        UsageError: the picture is smaller than the window.
    """
    return ssim(shave(luma(output), scale), shave(luma(truth), scale))


def ssim(first: Array, second: Array) -> float:
    """Mean SSIM of two planes `[H, W]` of range 0–255.

    Raises:
        UsageError: a plane is smaller than the 11×11 window.
    """
    if min(first.shape) < _SSIM_WINDOW:
        raise UsageError(f"SSIM needs at least {_SSIM_WINDOW}×{_SSIM_WINDOW} pixels.")
    mean1, mean2 = _blur(first), _blur(second)
    var1 = _blur(first * first) - mean1 * mean1
    var2 = _blur(second * second) - mean2 * mean2
    cov = _blur(first * second) - mean1 * mean2
    numerator = (2 * mean1 * mean2 + _SSIM_C1) * (2 * cov + _SSIM_C2)
    denominator = (mean1 * mean1 + mean2 * mean2 + _SSIM_C1) * (var1 + var2 + _SSIM_C2)
    return float(np.mean(numerator / denominator))


def _blur(plane: Array) -> Array:
    offsets = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    kernel /= kernel.sum()
    rows = np.lib.stride_tricks.sliding_window_view(plane, _SSIM_WINDOW, axis=0) @ kernel
    blurred: Array = np.lib.stride_tricks.sliding_window_view(rows, _SSIM_WINDOW, axis=1) @ kernel
    return blurred


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one output is from its reference, both RGB in [0, 1].

    Attributes:
        psnr: over all values and channels, peak 1, in dB; infinity where equal.
        max_error: largest absolute difference, of full scale 1.
        channel_bias: mean signed difference of R, G and B, of full scale 1: a tint.
        finite: no NaN or infinity in the output.
    """

    psnr: float
    max_error: float
    channel_bias: tuple[float, float, float]
    finite: bool


def agreement(output: NDArray[np.float32], reference: NDArray[np.float32]) -> Agreement:
    """Compare `[..., H, W, 3]` with its reference of the same shape, RGB in [0, 1]."""
    if output.shape != reference.shape or output.shape[-1] != 3:
        raise UsageError(f"Cannot compare {output.shape} with {reference.shape}.")
    finite = bool(np.isfinite(output).all())
    difference = output.astype(np.float64) - reference.astype(np.float64)
    if not finite:
        return Agreement(-math.inf, math.inf, (math.nan, math.nan, math.nan), finite=False)
    red, green, blue = difference.reshape(-1, 3).mean(axis=0).tolist()
    error = float(np.mean(difference**2))
    return Agreement(
        psnr=math.inf if error == 0.0 else -10.0 * math.log10(error),
        max_error=float(np.abs(difference).max()),
        channel_bias=(red, green, blue),
        finite=True,
    )
