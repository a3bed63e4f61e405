"""Quality on a folder of high-resolution images, by the paper's protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.errors import InputError, RamedgeError, UnexpectedError
from ramedge.failures import as_failure
from ramedge.media.image_decoding import DECODER_ERRORS
from ramedge.quality.metrics import psnr_y, ssim_y
from ramedge.quality.paper_results import Figures, paper_figures
from ramedge.quality.photos import downscale, find_photos
from ramedge.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR-Y in dB and SSIM-Y of the network and of bicubic, for one image or as a mean."""

    name: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why, in one line; whether that was a bug."""

    name: str
    error: str
    unexpected: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a folder by one network: each image, and the mean over them.

    Attributes:
        folder: as it was given.
        name: the folder's own name, by which a set is known.
        network: short name, for example `srram_r10c64`.
        ensemble: whether each result is the mean over 8 flips and turns.
        images: at least one.
        mean: over `images`.
        failed: what could not be measured; no part of the mean.
    """

    folder: str
    name: str
    scale: int
    network: str
    runtime: str
    precision: str
    ensemble: bool
    images: tuple[Score, ...]
    mean: Score
    failed: tuple[Failure, ...] = ()

    @property
    def paper(self) -> Figures | None:
        """What the paper measured on this set, where it did so with this network."""
        return paper_figures(self.network, self.name, self.scale)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the paper's figures beside; `None` for an infinite PSNR."""
        document = asdict(self)
        document["images"] = [_finite(score) for score in document["images"]]
        document["mean"] = _finite(document["mean"])
        document["failed"] = list(document["failed"])
        document["paper"] = None if self.paper is None else asdict(self.paper)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Evaluation:
        """The inverse of `as_dict`; other entries are ignored.

        Raises:
            InputError: an entry is missing or of another kind.
        """
        try:
            plain = ("folder", "name", "scale", "network", "runtime", "precision", "ensemble")
            return cls(
                **{name: document[name] for name in plain},
                images=tuple(_score_of(score) for score in document["images"]),
                mean=_score_of(document["mean"]),
                failed=tuple(Failure(**failure) for failure in document["failed"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Not a result of ramedge eval: {error!r}. Measure again.") from None


def evaluate(
    folder: Path | str,
    upscaler: Upscaler,
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Measure every image under `folder`.

    High resolution is cropped to a multiple of the scale, low resolution made of it by
    Pillow's bicubic; luma, 8 bits, a border of `scale` pixels left out. A grey image is
    measured on its own values. An image that cannot be read, or is too small, is recorded as
    failed and left out of the mean.

    Args:
        folder: searched with its sub-folders.
        upscaler: the network; its scale is the one measured.
        on_image: told how many images are done, and how many there are.

    >>> from ramedge import Upscaler, evaluate
    >>> from ramedge.samples import FOLDER
    >>> with Upscaler() as upscaler:
    ...     result = evaluate(FOLDER, upscaler)
    >>> result.mean.psnr > result.mean.bicubic_psnr
    True

    Raises:
        InputError: no images, or none that can be measured.
        UnexpectedError: none, and for one of them because of a bug.
    """
    folder = Path(folder)
    paths = find_photos(folder)
    scores: list[Score] = []
    failed: list[Failure] = []
    for index, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        try:
            scores.append(_score(path, name, upscaler))
        except InputError as error:
            failed.append(Failure(name, str(error)))
        except MemoryError:
            failed.append(Failure(name, f"Not enough memory for {path}: leave it out or crop it."))
        except RamedgeError:
            raise
        except Exception as error:
            failure = as_failure(error, f"measuring {path}")
            failed.append(Failure(name, str(failure), isinstance(failure, UnexpectedError)))
        on_image(index + 1, len(paths))
    if not scores:
        kind = UnexpectedError if any(one.unexpected for one in failed) else InputError
        raise kind(_nothing_measured(folder, upscaler.scale, failed))
    runtime = upscaler.model.runtime
    return Evaluation(
        folder=str(folder),
        name=set_name(folder),
        scale=upscaler.scale,
        network=upscaler.model.network,
        runtime=runtime.name,
        precision=runtime.precision,
        ensemble=upscaler.ensemble,
        images=tuple(scores),
        mean=_mean(scores),
        failed=tuple(failed),
    )


def set_name(folder: Path) -> str:
    """The folder's own name, that of the link where it is one.

    >>> set_name(Path("data/Set5"))
    'Set5'
    >>> set_name(Path(".")) == Path.cwd().name
    True
    """
    return folder.resolve().name if folder.name in {"", ".."} else folder.name


def _nothing_measured(folder: Path, scale: int, failed: Sequence[Failure]) -> str:
    if len(failed) == 1:
        return f"The only image in {folder} cannot be measured at ×{scale}: {failed[0].error}"
    return (
        f"None of the {len(failed)} images in {folder} can be measured at ×{scale}; "
        f"the first: {failed[0].error}"
    )


def _score(path: Path, name: str, upscaler: Upscaler) -> Score:
    truth = _read(path)
    scale = upscaler.scale
    if min(truth.size) // scale * scale < 11 + 2 * scale:  # the window of SSIM, and the border
        raise InputError(f"{path} is too small to measure: {truth.width}×{truth.height} pixels.")
    low, high = downscale(truth, scale)
    bicubic = low.resize(high.size, Image.Resampling.BICUBIC)
    pixels = np.asarray(low)
    upscaled: NDArray[Any] = (
        upscaler.upscale_plane(pixels) if pixels.ndim == 2 else upscaler.upscale(pixels)
    )
    expected, cubic = np.asarray(high), np.asarray(bicubic)
    return Score(
        name=name,
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
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None
    return image


def _mean(scores: Sequence[Score]) -> Score:
    def of(name: str) -> float:
        return float(np.mean([getattr(score, name) for score in scores]))

    return Score("mean", of("psnr"), of("ssim"), of("bicubic_psnr"), of("bicubic_ssim"))


def _finite(score: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no infinity, the PSNR of a picture without any error.
    return {name: None if value == math.inf else value for name, value in score.items()}


def _score_of(document: Mapping[str, Any]) -> Score:
    values = {name: value for name, value in document.items() if name != "name"}
    figures = {n: math.inf if value is None else float(value) for n, value in values.items()}
    return Score(str(document["name"]), **figures)
