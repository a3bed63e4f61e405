"""Quality on a folder of high-resolution images, by the paper's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ramedge.errors import InputError
from ramedge.metrics import psnr_y, ssim_y
from ramedge.photos import downscale, find_photos
from ramedge.upscale import Upscaler


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR-Y in dB and SSIM-Y of the network and of bicubic, for one image or as a mean."""

    name: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a folder: each image, and the mean over them."""

    folder: str
    scale: int
    runtime: str
    precision: str
    images: tuple[Score, ...]
    mean: Score

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    folder: Path | str,
    upscaler: Upscaler,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Measure every image under `folder`.

    High resolution is cropped to a multiple of the scale, low resolution made of it by
    Pillow's bicubic; luma, 8 bits, a border of `scale` pixels left out. A grey image is
    measured on its own values.

    >>> from ramedge import Upscaler, evaluate
    >>> from ramedge.samples import FOLDER
    >>> with Upscaler() as upscaler:
    ...     result = evaluate(FOLDER, upscaler)
    >>> result.mean.psnr > result.mean.bicubic_psnr
    True

    Raises:
        InputError: no images, an unreadable one, or one too small to measure.
    """
    folder = Path(folder)
    paths = find_photos(folder)
    scores = []
    for index, path in enumerate(paths):
        scores.append(_score(path, folder, upscaler))
        on_image(index + 1, len(paths))
    runtime = upscaler.model.runtime
    return Evaluation(
        folder=str(folder),
        scale=upscaler.scale,
        runtime=runtime.name,
        precision=runtime.precision,
        images=tuple(scores),
        mean=_mean(scores),
    )


def _score(path: Path, folder: Path, upscaler: Upscaler) -> Score:
    truth = _read(path)
    scale = upscaler.scale
    low, high = downscale(truth, scale)
    if min(high.size) < 11 + 2 * scale:
        raise InputError(f"{path} is too small to measure: {truth.width}×{truth.height} pixels.")
    bicubic = low.resize(high.size, Image.Resampling.BICUBIC)
    pixels = np.asarray(low)
    upscaled: NDArray[Any] = (
        upscaler.upscale_plane(pixels) if pixels.ndim == 2 else upscaler.upscale(pixels)
    )
    expected, cubic = np.asarray(high), np.asarray(bicubic)
    return Score(
        name=path.relative_to(folder).as_posix(),
        psnr=psnr_y(upscaled, expected, scale),
        ssim=ssim_y(upscaled, expected, scale),
        bicubic_psnr=psnr_y(cubic, expected, scale),
        bicubic_ssim=ssim_y(cubic, expected, scale),
    )


def _read(path: Path) -> Image.Image:
    """RGB, or grey where the file is grey, be it stored in three equal channels."""
    try:
        with Image.open(path) as opened:
            grey = opened.mode in {"L", "1", "I;16"}
            image: Image.Image = opened.convert("L" if grey else "RGB")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None
    return image


def _mean(scores: Sequence[Score]) -> Score:
    def of(name: str) -> float:
        return float(np.mean([getattr(score, name) for score in scores]))

    return Score("mean", of("psnr"), of("ssim"), of("bicubic_psnr"), of("bicubic_ssim"))
