"""The gate: nothing that was exported is used before it agreed with PyTorch on real photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.errors import GateError
from ramedge.network.channel_statistics import ChannelExcitation, attention_change
from ramedge.quality.metrics import Agreement, agreement
from ramedge.samples import PHOTOS, sample_photo

Images = NDArray[np.float32]
Network = Callable[[Images], Images]
"""RGB in [0, 1], `[N, 3, H, W]` float32 → `[N, 3, s·H, s·W]` float32."""

GATE_CROP = 192
"""Side of the crop of each sample photo that the gate runs: larger than twice the receptive
field, so that the middle sees no border."""

_SETTLED = 1e-6
"""Change of the attention (0 to 1) from which on further iterations change no figure."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The worst that is accepted, on each photo.

    Attributes:
        min_psnr: of agreement with PyTorch FP32, in dB, peak 1.
        max_error: largest difference of one value, of full scale 1.
        max_channel_bias: mean signed difference of a colour channel, of full scale 1.
    """

    min_psnr: float
    max_error: float
    max_channel_bias: float


THRESHOLDS: Mapping[str, Thresholds] = MappingProxyType(
    {
        # The same arithmetic in another order: 80 dB is an error of 0.03 levels of 255 in the
        # mean square; no value may be off by half a level.
        "fp32": Thresholds(min_psnr=80.0, max_error=0.5 / 255, max_channel_bias=0.01 / 255),
        # 8 to 11 bits of mantissa: 50 dB is 0.8 levels, below the noise of any 8-bit picture; a
        # tint is seen long before noise is, hence a quarter of a level.
        "fp16": Thresholds(min_psnr=50.0, max_error=12.0 / 255, max_channel_bias=0.25 / 255),
        # 8 bits inside: 45 dB is 1.4 levels, still below the noise of a photo. Single values clip
        # at edges stronger than any that was calibrated on; 45 dB leaves room for few of them.
        # What counts beside it is the loss against the truth: `ramedge.quality.int8_budget`.
        "int8": Thresholds(min_psnr=45.0, max_error=64.0 / 255, max_channel_bias=0.25 / 255),
    }
)
"""What each precision has to hold."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gate measured: the worst of each figure over the photos."""

    precision: str
    runtime: str
    photos: tuple[str, ...]
    psnr: float
    max_error: float
    max_channel_bias: float
    thresholds: Thresholds

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest; `psnr` is `None` where the outputs are equal."""
        found = asdict(self)
        found["psnr"] = self.psnr if math.isfinite(self.psnr) else None
        return found


def gate_photos() -> dict[str, Images]:
    """Crops of the shipped photos by name, `[1, 3, 192, 192]` float32 in [0, 1]."""
    crops: dict[str, Images] = {}
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            photo = opened.convert("RGB")
        left, top = (photo.width - GATE_CROP) // 2, (photo.height - GATE_CROP) // 2
        crop = photo.crop((left, top, left + GATE_CROP, top + GATE_CROP))
        pixels = np.asarray(crop, dtype=np.float32) / np.float32(255.0)
        crops[name] = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    return crops


def frame_through_tile(
    tile: Callable[[Images, Images, Images], tuple[Images, Images, Images]],
    excitation: ChannelExcitation,
    images: Images,
) -> Images:
    """A whole image through the graph kind `tile`, so that the gate sees graph and statistic.

    R iterations, each with the attention of the one before, are exact from any start.
    """
    height, width = images.shape[2:]
    mask = np.ones((1, 1, height, width), np.float32)
    blocks, channels = excitation.shape
    logits = np.zeros((blocks, channels))
    for _ in range(blocks):
        _, _, m2 = tile(images, logits[None].astype(np.float32), mask)
        found = excitation.logits(m2[0].astype(np.float64) / (height * width))
        change = attention_change(logits, found)
        logits = found
        if change <= _SETTLED:
            break
    output, _, _ = tile(images, logits[None].astype(np.float32), mask)
    return output


def check(
    candidate: Network,
    reference: Network,
    precision: str,
    runtime: str,
    photos: Mapping[str, Images] | None = None,
) -> GateReport:
    """Run both networks on real photos and compare.

    Args:
        candidate: what was exported.
        reference: PyTorch in FP32.
        precision: key of `THRESHOLDS`.
        runtime: name of what ran the candidate, for the report.
        photos: by name; the shipped ones where none are given.

    Raises:
        GateError: a figure is worse than its threshold; the message says which.
    """
    thresholds = THRESHOLDS[precision]
    images = gate_photos() if photos is None else photos
    if not images:
        raise GateError("The gate has no photos to compare on.")
    results = [
        _compare(name, candidate, reference, image, thresholds) for name, image in images.items()
    ]
    return _report(results, precision, runtime, tuple(images), thresholds)


def _compare(
    name: str, candidate: Network, reference: Network, image: Images, thresholds: Thresholds
) -> Agreement:
    output, expected = candidate(image), reference(image)
    if output.shape != expected.shape:
        raise GateError(f"The output on {name} has shape {output.shape}, not {expected.shape}.")
    found = agreement(output.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1))
    judge(found, thresholds, name)
    return found


def judge(found: Agreement, thresholds: Thresholds, name: str) -> None:
    """Refuse an agreement that is worse than its thresholds.

    Raises:
        GateError: a figure is worse than its threshold; the message says which, and on `name`.
    """
    if not found.finite:
        raise GateError(f"The output on {name} holds NaN or infinity.")
    bias = max(map(abs, found.channel_bias))
    if bias > thresholds.max_channel_bias:
        raise GateError(
            f"A tint on {name}: a colour channel is off by {bias * 255:.3f} levels of 255 on "
            f"average, allowed are {thresholds.max_channel_bias * 255:.3f}."
        )
    if found.psnr < thresholds.min_psnr:
        raise GateError(
            f"Agreement with PyTorch on {name} is {found.psnr:.1f} dB, "
            f"needed are {thresholds.min_psnr:.0f} dB."
        )
    if found.max_error > thresholds.max_error:
        raise GateError(
            f"One value on {name} is off by {found.max_error * 255:.2f} levels of 255, "
            f"allowed are {thresholds.max_error * 255:.2f}."
        )


def _report(
    results: Sequence[Agreement],
    precision: str,
    runtime: str,
    photos: tuple[str, ...],
    thresholds: Thresholds,
) -> GateReport:
    return GateReport(
        precision=precision,
        runtime=runtime,
        photos=photos,
        psnr=min(result.psnr for result in results),
        max_error=max(result.max_error for result in results),
        max_channel_bias=max(abs(b) for result in results for b in result.channel_bias),
        thresholds=thresholds,
    )
