"""The INT8 budget: what INT8 loses against the truth, and what it gains in time.

Part of the gate (`ramedge.quality.gate`), for the precision whose error is not negligible: INT8 is
kept only where nobody can see it and where it is faster.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.errors import GateError
from ramedge.quality.metrics import psnr_y
from ramedge.quality.photos import downscale

Images = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]
Network = Callable[[Images], Images]

WORST_FACTOR = 3.0
"""One picture may lose this many times what the mean of all may."""
VISIBLE_PSNR = 45.0
"""In dB: a picture restored to more shows no difference from the truth (1.4 levels of 255 in the
mean square, as the noise of 8-bit photos). What is lost above it is not counted; smooth pictures
reach 50 dB, where the rounding of any half precision would count."""
SPEED_ROUNDS = 7
"""Turns of each candidate when speed is measured; the first is not counted."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What INT8 may cost against FP32, in dB of PSNR-Y.

    Attributes:
        mean: over the pictures. 0.05 dB is a tenth of what the eye tells apart, and below the
            spread between two trainings of one network.
        worst: of one picture.
        peak: largest difference of one value from FP32, in levels of 255.
    """

    mean: float = 0.05
    worst: float = 0.05 * WORST_FACTOR
    peak: float = math.inf

    @classmethod
    def of(cls, mean: float) -> Budget:
        """The budget whose worst picture goes with its mean."""
        return cls(mean, mean * WORST_FACTOR)


@dataclass(frozen=True, slots=True)
class Loss:
    """Loss of PSNR-Y against FP32 in dB; negative where INT8 is better by chance.

    `peak` is the largest difference of one value, in levels of 255.
    """

    mean: float
    worst: float
    peak: float = 0.0

    def within(self, budget: Budget) -> bool:
        """Whether all figures are within the budget."""
        return self.mean <= budget.mean and self.worst <= budget.worst and self.peak <= budget.peak

    @classmethod
    def between(cls, reference: Sequence[float], found: Sequence[float], peak: float = 0.0) -> Loss:
        """From PSNR-Y in dB of the same pictures, by FP32 and by the candidate."""
        lost = np.subtract(reference, found)
        return cls(mean=float(np.mean(lost)), worst=float(np.max(lost)), peak=peak)

    @classmethod
    def visible(cls, reference: Sequence[float], found: Sequence[float], peak: float = 0.0) -> Loss:
        """The same, of what can be seen: up to `VISIBLE_PSNR`."""
        before, after = (np.minimum(values, VISIBLE_PSNR).tolist() for values in (reference, found))
        return cls.between(before, after, peak)


@dataclass(frozen=True, slots=True)
class CheckImage:
    """What a network is to restore, and from what.

    Attributes:
        low: `[1, 3, H, W]` float32 in [0, 1].
        high: the truth, `[s·H, s·W, 3]` uint8.
    """

    name: str
    low: Images
    high: Pixels8

    @classmethod
    def of(cls, name: str, pixels: Pixels8, scale: int) -> CheckImage:
        """Downscale a photo `[H, W, 3]` by the field's protocol."""
        low, high = downscale(Image.fromarray(pixels), scale)
        planar = np.asarray(low, dtype=np.float32).transpose(2, 0, 1)[None] * np.float32(1 / 255)
        return cls(name, np.ascontiguousarray(planar), np.asarray(high))

    def psnr_y(self, output: Images, scale: int) -> float:
        """PSNR-Y in dB of a network's `[1, 3, s·H, s·W]`, in 8 bits; -inf where it is NaN."""
        if not np.isfinite(output).all():
            return -math.inf
        levels = np.rint(np.clip(output[0], 0.0, 1.0) * 255.0)
        return psnr_y(levels.transpose(1, 2, 0).astype(np.uint8), self.high, scale)


def check_truth(
    candidate: Network,
    reference: Network,
    pictures: Sequence[CheckImage],
    scale: int,
    budget: Budget,
) -> dict[str, Any]:
    """Measure what a candidate loses against the truth.

    Returns:
        Plain values for the manifest.

    Raises:
        GateError: it loses more than the budget; the message says how much, and on what.
    """
    names = [picture.name for picture in pictures]
    before = [picture.psnr_y(reference(picture.low), scale) for picture in pictures]
    after = [picture.psnr_y(candidate(picture.low), scale) for picture in pictures]
    loss = Loss.visible(before, after)
    if not loss.mean <= budget.mean:
        raise GateError(
            f"It loses {loss.mean:.3f} dB of PSNR-Y on average over {len(names)} photos, allowed "
            f"are {budget.mean:.3f} dB: raise --max-loss."
        )
    if not loss.worst <= budget.worst:
        visible = np.minimum(before, VISIBLE_PSNR) - np.minimum(after, VISIBLE_PSNR)
        name = names[int(np.argmax(visible))]
        raise GateError(
            f"It loses {loss.worst:.3f} dB of PSNR-Y on {name}, allowed are {budget.worst:.3f} dB: "
            "raise --max-loss."
        )
    return {
        "photos": names,
        "loss": {"mean": loss.mean, "worst": loss.worst},
        "budget": {"mean": budget.mean, "worst": budget.worst},
    }


def check_speed(candidate: Network, baseline: Network, image: Images, name: str) -> dict[str, Any]:
    """Run both in turn and refuse a candidate that is not faster.

    Args:
        candidate: the INT8 network.
        baseline: the same network in the precision that would be taken instead.
        image: what they run, `[1, 3, H, W]`.
        name: of the baseline.

    Returns:
        Plain values for the manifest, in milliseconds and as a ratio.

    Raises:
        GateError: the candidate is as slow as the baseline, or slower.
    """
    candidates, baselines = [], []
    for turn in range(SPEED_ROUNDS):
        first, second = milliseconds(candidate, image), milliseconds(baseline, image)
        if turn:
            candidates.append(first)
            baselines.append(second)
    speedup = median(b / c for b, c in zip(baselines, candidates, strict=True))
    if speedup <= 1.0:
        raise GateError(
            f"It is not faster here: {median(candidates):.0f} ms, {name} "
            f"{median(baselines):.0f} ms."
        )
    return {
        "milliseconds": median(candidates),
        "baseline": name,
        "baseline_milliseconds": median(baselines),
        "speedup": speedup,
        "height": image.shape[2],
        "width": image.shape[3],
    }


def milliseconds(network: Network, image: Images) -> float:
    """Time of one run."""
    started = time.perf_counter()
    network(image)
    return (time.perf_counter() - started) * 1e3
