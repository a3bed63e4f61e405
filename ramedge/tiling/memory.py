"""How much memory this process may still take, and how much the network will."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from ramedge.host_memory import available_bytes, resident_bytes

_MIB = 2**20
MeasuredKind = Literal["frame", "tile", "statistics", "blocks"]
"""Graph kinds, and all parts of the tile graph that a frame is run block by block in."""

FIXED_BYTES: Mapping[MeasuredKind, int] = MappingProxyType(
    {"frame": 60 * _MIB, "tile": 60 * _MIB, "statistics": 50 * _MIB, "blocks": 220 * _MIB}
)
"""What a compiled graph takes whatever its input."""

BYTES_PER_PIXEL: Mapping[tuple[int, str], Mapping[MeasuredKind, int]] = MappingProxyType(
    {
        (2, "fp32"): {"frame": 1540, "tile": 3600, "statistics": 3050, "blocks": 17000},
        (3, "fp32"): {"frame": 1590, "tile": 3640, "statistics": 3050, "blocks": 17000},
        (4, "fp32"): {"frame": 1650, "tile": 3710, "statistics": 3050, "blocks": 17000},
        (2, "bf16"): {"frame": 810, "tile": 1850, "statistics": 670, "blocks": 9000},
        (3, "bf16"): {"frame": 880, "tile": 1910, "statistics": 670, "blocks": 9000},
        (4, "bf16"): {"frame": 1070, "tile": 2300, "statistics": 670, "blocks": 9100},
        (2, "int8"): {"frame": 960, "tile": 2050, "statistics": 820, "blocks": 8510},
        (3, "int8"): {"frame": 950, "tile": 2140, "statistics": 820, "blocks": 9140},
        (4, "int8"): {"frame": 1160, "tile": 2330, "statistics": 820, "blocks": 9140},
    }
)
"""Peak memory of R10C64 per low-resolution pixel by scale and arithmetic, beside `FIXED_BYTES`: the
most of sides of 256, 384 and 512 pixels, OpenVINO 2026.4.1 on a CPU (`benchmarks/memory.py`,
`benchmarks/results/memory.json`); INT8 with bfloat16 around it. For `blocks` it is the pixels of a
tile, without the features that are kept."""


def network_bytes(kind: MeasuredKind, scale: int, precision: str, pixels: int) -> int:
    """Peak memory of a graph that runs on so many low-resolution pixels.

    What was not measured (FP16 on a GPU, another runtime) counts as FP32, which needs more.
    """
    known = BYTES_PER_PIXEL.get((scale, precision), BYTES_PER_PIXEL[scale, "fp32"])
    return FIXED_BYTES[kind] + known[kind] * pixels


_FREE_SHARE = 0.7
"""Share of the free memory that is planned for: the rest is for other processes and codecs."""
_LIMIT_SHARE = 0.9
"""Share of a limit that is planned for: decoders, encoders and the allocator take their part."""


class MemoryLimit:
    """What this process may take from now on, beside what it holds already."""

    def __init__(self, limit: int | None = None) -> None:
        """Take a limit in bytes for the whole process; `None` is what is free."""
        self._limit = limit
        self._held = resident_bytes()

    def free_bytes(self) -> float:
        """Room for everything taken since, in bytes; what was taken is not taken off."""
        if self._limit is not None:
            return max(0.0, self._limit * _LIMIT_SHARE - self._held)
        return _FREE_SHARE * (available_bytes() + max(0, resident_bytes() - self._held))
