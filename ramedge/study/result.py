"""What a study found, as data. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ramedge.network.config import ATTENTION_NAMES
from ramedge.quality.evaluation import Evaluation
from ramedge.study.settings import StudySettings

FORMAT_VERSION = 1
RESULT_NAME = "study.json"


def title(attention: str) -> str:
    """How the tables write a variant.

    >>> title("ram-ca")
    'RAM CA'
    """
    return attention if attention == "none" else attention.upper().replace("-", " ")


@dataclass(frozen=True, slots=True)
class SetScore:
    """Means of one network over one set.

    Attributes:
        name: the folder's own name, by which a set is known.
        folder: absolute.
        psnr, bicubic_psnr: PSNR-Y in dB; `None` where it is infinite.
        ssim, bicubic_ssim: SSIM-Y.
        images: how many the means are over.
        failed: how many could not be measured.
    """

    name: str
    folder: str
    psnr: float | None
    ssim: float
    bicubic_psnr: float | None
    bicubic_ssim: float
    images: int
    failed: int

    @classmethod
    def of(cls, evaluation: Evaluation, folder: str) -> SetScore:
        """The means of an evaluation."""
        mean = evaluation.mean
        return cls(
            name=evaluation.name,
            folder=folder,
            psnr=finite(mean.psnr),
            ssim=mean.ssim,
            bicubic_psnr=finite(mean.bicubic_psnr),
            bicubic_ssim=mean.bicubic_ssim,
            images=len(evaluation.images),
            failed=len(evaluation.failed),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One trained and measured variant: a column of Table 2.

    Attributes:
        attention: one of `ATTENTION_NAMES`.
        parameters: weights and biases.
        held_out: PSNR-Y in dB on the photos held out of the training; `None` where none was.
        sets: in the order they were asked for.
        weights: the file, relative to the study's folder.
        digest: its SHA-256.
        notices: what the training had to say, fallbacks for example.
    """

    attention: str
    parameters: int
    held_out: float | None
    sets: tuple[SetScore, ...]
    weights: str
    digest: str
    notices: tuple[str, ...] = ()

    def score(self, name: str) -> SetScore | None:
        """The score on a set, `None` where it was not measured."""
        return next((score for score in self.sets if score.name == name), None)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Row:
        """The inverse of `dataclasses.asdict`, after JSON made lists of the tuples.

        Raises:
            KeyError, TypeError: an entry is missing or unknown.
        """
        values = dict(document)
        values["sets"] = tuple(SetScore(**score) for score in values["sets"])
        values["notices"] = tuple(values["notices"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Photos:
    """What the networks were trained on and checked with: SHA-256 over all files, and counts."""

    digest: str
    training: int
    validation: int


@dataclass(frozen=True, slots=True)
class Study:
    """A study, complete or on the way.

    Attributes:
        machine: see `ramedge.system.describe_machine`.
        rows: in the order of `ATTENTION_NAMES`; those not trained yet are missing.
    """

    settings: StudySettings
    photos: Photos
    machine: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def complete(self) -> bool:
        """Whether every variant is there."""
        return len(self.rows) == len(ATTENTION_NAMES)

    def row(self, attention: str) -> Row | None:
        """The row of a variant, `None` where it is not trained yet."""
        return next((row for row in self.rows if row.attention == attention), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": FORMAT_VERSION,
            "complete": self.complete,
            "settings": self.settings.as_dict(),
            "photos": asdict(self.photos),
            "machine": dict(self.machine),
            "rows": [asdict(row) for row in self.rows],
        }


def finite(value: float) -> float | None:
    """The value, or `None` for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
