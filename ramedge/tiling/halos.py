"""How many pixels to read around a tile: the receptive field, or fewer that suffice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from ramedge.tiling.attention.fixed_point import TOLERANCE
from ramedge.tiling.options import TileMode
from ramedge.weights import FOLDER

HALOS_FILE: Final = FOLDER / "halos.json"
"""What `benchmarks/halos.py` measured on the shipped weights."""

EXACT_MEAN_ERROR: Final = 8e-9
"""Mean error, of full scale 1, up to which 8-bit results count as identical: a value rounds to
another level with a probability of its error in levels of 255, here 2 in a million."""

_AS_GOOD: Final = 1.1
"""Up to this multiple, a mean error counts as that of the receptive field itself: FP32 sums tiles
in another order than the frame, and no halo changes that."""

CLOSE_PSNR: Final = 90.0
"""Agreement in dB that `temporal` and `fast` ask of the halo: their attention is off by more."""

_UNMEASURED_STATISTIC_HALO: Final = 16

INT8_HALO: Final = 24
"""Smallest halo of an INT8 network whose tiles shall equal the frame: differences too small for
FP32 change roundings to int8, and each of these further ones. Tiles of 64 pixels ×2 then agree with
the frame to 60 dB or more, with 16 pixels to 57."""


@dataclass(frozen=True, slots=True)
class HaloMeasurement:
    """Tiles with a halo against the whole frame, the worst of several photos, of full scale 1.

    Attributes:
        psnr: agreement of the output, in dB.
        max_error, mean_error: of the output before rounding.
        attention_error: of the attention (0 to 1) that the tiles' statistic gives.
    """

    halo: int
    psnr: float
    max_error: float
    mean_error: float
    attention_error: float


@dataclass(frozen=True, slots=True)
class Halos:
    """The halos that tiles of one network may have.

    Attributes:
        receptive_field: beyond it nothing matters.
        measured: smaller ones and itself, ascending; none where these weights were not measured.
        minimum: of the fixed-point iterations, and of tiles that shall equal the frame.
    """

    receptive_field: int
    measured: tuple[HaloMeasurement, ...] = ()
    minimum: int = 0

    def rendering(self, mode: TileMode, bits: int) -> int:
        """Halo of the tiles that make the result: the smallest that agrees as the mode needs.

        `exact` keeps the receptive field for 16-bit results.
        """
        floor = self.measured[-1].mean_error if self.measured else 0.0
        for row in self.measured:
            exact = bits == 8 and row.mean_error <= max(EXACT_MEAN_ERROR, _AS_GOOD * floor)
            if mode == "exact" and row.halo < self.minimum:
                continue
            if exact or (mode != "exact" and row.psnr >= CLOSE_PSNR):
                return row.halo
        return self.receptive_field

    def statistic(self, bits: int) -> int:
        """Halo of the fixed-point iterations: the attention is within a third of its tolerance."""
        wanted = _UNMEASURED_STATISTIC_HALO
        for row in self.measured:
            if row.attention_error <= TOLERANCE[bits] / 3:
                wanted = row.halo
                break
        return min(max(wanted, self.minimum), self.receptive_field)


def load_halos(weights: str, scale: int, receptive_field: int, precision: str) -> Halos:
    """The halos for weights of this SHA-256: measured ones for the shipped weights only."""
    scales = json.loads(HALOS_FILE.read_text(encoding="utf-8"))["scales"]
    found = scales.get(str(scale), {})
    rows = found["halos"] if found.get("weights") == weights else ()
    minimum = INT8_HALO if precision == "int8" else 0
    return Halos(receptive_field, tuple(HaloMeasurement(**row) for row in rows), minimum)
