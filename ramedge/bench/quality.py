"""Quality of a candidate's pictures: agreement with PyTorch, and with the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.bench.settings import Candidate
from ramedge.bench.worker import Worker
from ramedge.errors import GateError
from ramedge.quality.gate import THRESHOLDS, Images, gate_photos, judge
from ramedge.quality.metrics import Agreement, agreement, psnr_y
from ramedge.quality.photos import downscale
from ramedge.samples import PHOTOS, sample_photo

_LOOSENESS = tuple(sorted(THRESHOLDS, key=lambda name: -THRESHOLDS[name].min_psnr))
"""Precisions, the strictest first."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A shipped photo: `low` `[H, W, 3]` uint8, and what it was made from, `[s·H, s·W, 3]`."""

    name: str
    low: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    bicubic: NDArray[np.uint8]


@dataclass(slots=True)
class Pictures:
    """A photo, and what each candidate made of its low resolution, by title."""

    photo: Photo
    scale: int
    outputs: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quality:
    """The worst agreement over the gate's photos, and the mean PSNR-Y over the whole ones.

    Attributes:
        reference: what agreement is with; empty where nothing runs the same weights.
        psnr: of agreement in dB, `None` where it is infinite or unknown.
        max_error: largest difference of a value, of full scale 1; `None` where unknown.
        channel_bias: mean signed difference of R, G and B of the photo that has the largest.
        psnr_y, bicubic_psnr_y: against ground truth, in dB, as `ramedge eval` has it.
        failure: why the gate would refuse it; empty where it is good, or nothing to compare.
    """

    reference: str
    psnr: float | None
    max_error: float | None
    channel_bias: tuple[float, float, float] | None
    psnr_y: float
    bicubic_psnr_y: float
    failure: str = ""


class Judge:
    """Compares each candidate once with its reference, and keeps the pictures.

    Attributes:
        pictures: of every scale that was asked for.
    """

    def __init__(self) -> None:
        self.pictures: list[Pictures] = []
        self._expected: dict[Candidate, dict[str, Images]] = {}
        self._found: dict[Candidate, Quality] = {}

    def assess(
        self, worker: Worker, candidate: Candidate, ran: str, reference: Candidate | None
    ) -> Quality:
        """The quality of the candidate that `worker` has open; `ran` is its real precision."""
        if candidate in self._found:
            return self._found[candidate]
        pictures = self._pictures_of(candidate.scale)
        for one in pictures:
            one.outputs[candidate.title] = worker.upscale(one.photo.low).astype(
                np.uint8, copy=False
            )
        found = {}
        if reference is not None:
            photos = gate_photos()
            for name, expected in self._reference_outputs(reference).items():
                output = worker.infer_float(photos[name])
                found[name] = agreement(_colours_last(output), _colours_last(expected))
        self._found[candidate] = summarize(
            found,
            "" if reference is None else reference.title,
            thresholds_for(candidate.exported, ran),
            [(one.photo, one.outputs[candidate.title]) for one in pictures],
            candidate.scale,
        )
        return self._found[candidate]

    def _pictures_of(self, scale: int) -> list[Pictures]:
        found = [one for one in self.pictures if one.scale == scale]
        if not found:
            found = [Pictures(photo, scale) for photo in sample_pairs(scale)]
            self.pictures += found
        return found

    def _reference_outputs(self, reference: Candidate) -> dict[str, Images]:
        if reference not in self._expected:
            # On the CPU, as at the gate: a GPU may round what it calls FP32.
            candidate = replace(reference, device="cpu")
            photos = gate_photos()
            with closing(Worker(candidate, sample_pairs(candidate.scale)[0].low[:8, :8])) as worker:
                worker.open()
                self._expected[reference] = {
                    name: worker.infer_float(photo) for name, photo in photos.items()
                }
        return self._expected[reference]


def sample_pairs(scale: int) -> list[Photo]:
    """The shipped photos with their low resolution, by the field's protocol."""
    photos = []
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            low, high = downscale(opened.convert("RGB"), scale)
        cubic = low.resize(high.size, Image.Resampling.BICUBIC)
        photos.append(Photo(name, np.asarray(low), np.asarray(high), np.asarray(cubic)))
    return photos


def summarize(
    found: Mapping[str, Agreement],
    reference: str,
    thresholds: str,
    outputs: Sequence[tuple[Photo, NDArray[np.uint8]]],
    scale: int,
) -> Quality:
    """Sum up what a candidate made of the photos.

    Args:
        found: agreement by photo; empty where there is no reference.
        reference: its name.
        thresholds: key of `THRESHOLDS`.
        outputs: whole photos, and what the candidate made of them.
        scale: of the candidate.
    """
    failure = ""
    for name, one in found.items():
        try:
            judge(one, THRESHOLDS[thresholds], name)
        except GateError as error:
            failure = failure or str(error)
    psnr = min((one.psnr for one in found.values()), default=math.inf)
    known = bool(found) and all(one.finite for one in found.values())
    biases = [one.channel_bias for one in found.values()]
    return Quality(
        reference=reference,
        psnr=psnr if math.isfinite(psnr) else None,
        max_error=max(one.max_error for one in found.values()) if known else None,
        channel_bias=max(biases, key=lambda bias: max(map(abs, bias))) if known else None,
        psnr_y=_mean_psnr([(output, photo.truth) for photo, output in outputs], scale),
        bicubic_psnr_y=_mean_psnr([(photo.bicubic, photo.truth) for photo, _ in outputs], scale),
        failure=failure,
    )


def thresholds_for(exported: str, ran: str) -> str:
    """Key of `THRESHOLDS`: the looser of the model's precision and the arithmetic's.

    >>> thresholds_for("fp32", "bf16"), thresholds_for("fp16", "fp32")
    ('fp16', 'fp16')
    """
    keys = [name if name in THRESHOLDS else "fp16" for name in (exported, ran)]
    return max(keys, key=_LOOSENESS.index)


def _mean_psnr(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], scale: int) -> float:
    return float(np.mean([psnr_y(output, truth, scale) for output, truth in pairs]))


def _colours_last(images: Images) -> Images:
    turned: Images = images.transpose(0, 2, 3, 1)
    return turned
