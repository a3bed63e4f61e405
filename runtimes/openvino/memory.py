"""Measured memory of SRRAM_R10C64 on OpenVINO's CPU plugin."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ramedge.runtimes.limits import GraphMemory, MeasuredKind

_MIB = 2**20
_FIXED: Mapping[MeasuredKind, int] = {
    "frame": 60 * _MIB,
    "tile": 60 * _MIB,
    "statistics": 50 * _MIB,
    "blocks": 220 * _MIB,
}
_PER_PIXEL: Mapping[tuple[int, str], Mapping[MeasuredKind, int]] = {
    (2, "float32"): {"frame": 1540, "tile": 3600, "statistics": 3050, "blocks": 17000},
    (3, "float32"): {"frame": 1590, "tile": 3640, "statistics": 3050, "blocks": 17000},
    (4, "float32"): {"frame": 1650, "tile": 3710, "statistics": 3050, "blocks": 17000},
    (2, "bfloat16"): {"frame": 810, "tile": 1850, "statistics": 670, "blocks": 9000},
    (3, "bfloat16"): {"frame": 880, "tile": 1910, "statistics": 670, "blocks": 9000},
    (4, "bfloat16"): {"frame": 1070, "tile": 2300, "statistics": 670, "blocks": 9100},
    (2, "int8"): {"frame": 960, "tile": 2050, "statistics": 820, "blocks": 8510},
    (3, "int8"): {"frame": 950, "tile": 2140, "statistics": 820, "blocks": 9140},
    (4, "int8"): {"frame": 1160, "tile": 2330, "statistics": 820, "blocks": 9140},
}

MEASURED: Mapping[tuple[MeasuredKind, int, str], GraphMemory] = MappingProxyType(
    {
        (kind, scale, dtype): GraphMemory(_FIXED[kind], per_pixel)
        for (scale, dtype), kinds in _PER_PIXEL.items()
        for kind, per_pixel in kinds.items()
    }
)
"""By graph kind, scale and compute dtype; `int8` is INT8 with bfloat16 around it. The most of sides
of 256, 384 and 512 pixels, OpenVINO 2026.4.1 (`benchmarks/memory.py`,
`benchmarks/results/memory.json`). For `blocks` the pixels are those of a tile, and the features
that are kept come on top."""
