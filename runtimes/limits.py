"""What a device allows a network: what those who plan need to know of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

MeasuredKind = Literal["frame", "tile", "statistics", "blocks"]
"""Graph kinds, and all parts of the tile graph of a frame that is run block by block."""


class GraphMemory(NamedTuple):
    """Peak memory of a compiled graph: `fixed_bytes + bytes_per_pixel · H · W` of its input."""

    fixed_bytes: int
    bytes_per_pixel: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session's device allows.

    Attributes:
        free_bytes: free memory of the device now; `None` where it computes in the host's memory.
        features_on_device: whether the features between two blocks stay on the device, so that
            running block by block costs no transfers.
        uint16_pixels: whether graphs take 16-bit pixels; otherwise the host converts them.
        batches: whether a graph takes several images at once.
        measured: peak memory of SRRAM_R10C64 by graph kind, scale and compute dtype, where it
            was measured on this backend.
    """

    free_bytes: int | None = None
    features_on_device: bool = True
    uint16_pixels: bool = True
    batches: bool = True
    measured: Mapping[tuple[MeasuredKind, int, str], GraphMemory] = field(default_factory=dict)
