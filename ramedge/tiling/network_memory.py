"""Peak memory of a network's graphs: as measured on the backend, otherwise by a formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ramedge.runtimes.limits import GraphMemory, MeasuredKind
from ramedge.runtimes.runtime import Runtime

_MIB = 2**20
_R10C64 = (10, 64)
"""R and C of the network that backends measure, and of models that do not state theirs."""

_VALUE_BYTES: Mapping[str, int] = MappingProxyType(
    {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 2}
)
"""By compute dtype; `int8` is INT8 in half precision."""

_MAPS: Mapping[MeasuredKind, float] = MappingProxyType(
    {"frame": 6, "tile": 15, "statistics": 12, "blocks": 6.5}
)
"""Feature maps `[C, H, W]` that a graph holds at once, of `blocks` in each of its R + 1 parts."""
_STATISTICS_MAPS_IN_HALF = 5.5
"""In half precision the statistics are products of matrices that write no map of their own."""
_INT8_MAPS = 1
"""The quantized copies beside them, an int8 map each."""

_FIXED_MIB: Mapping[MeasuredKind, int] = MappingProxyType(
    {"frame": 56, "tile": 56, "statistics": 48, "blocks": 20}
)
"""Whatever the input, beside the weights; of `blocks` for each of its R + 1 parts."""


def estimated_memory(
    kind: MeasuredKind, scale: int, dtype: str, blocks: int = 10, channels: int = 64
) -> GraphMemory:
    """Peak memory of a graph of SRRAM(R, C), for where none was measured.

    Feature maps alive at once · C · bytes per value, and 3·s² values of the output in FP32 twice.
    For R10C64 at most a quarter above what was measured in OpenVINO, and never below.

    Args:
        kind: `frame`, `tile`, `statistics` or `blocks`.
        scale: 2, 3 or 4.
        dtype: `float32`, `bfloat16`, `float16`, or `int8` in half precision.
        blocks: R.
        channels: C.
    """
    parts = blocks + 1 if kind == "blocks" else 1
    value_bytes = _VALUE_BYTES[dtype]
    maps = _MAPS[kind]
    if kind == "statistics" and value_bytes == 2:
        maps = _STATISTICS_MAPS_IN_HALF
    maps = maps * parts + (_INT8_MAPS if dtype == "int8" else 0)
    tail = 0 if kind == "statistics" else 2 * 3 * scale**2 * 4
    weights = blocks * 2 * 9 * channels**2 * 4
    return GraphMemory(
        fixed_bytes=_FIXED_MIB[kind] * _MIB * parts + 2 * weights,
        bytes_per_pixel=round(maps * channels * value_bytes) + tail,
    )


def peak_bytes(graph: GraphMemory, pixels: int) -> int:
    """Peak memory of a graph whose input has `pixels` low-resolution pixels."""
    return graph.fixed_bytes + graph.bytes_per_pixel * pixels


@dataclass(frozen=True, slots=True)
class NetworkMemory:
    """Peak memory of the graphs of one network for one kind of pixels.

    Attributes:
        frame, tile, statistics: the graph kinds.
        blocks: all parts of the tile graph of a frame that is run block by block, without the
            features that are kept between them.
    """

    frame: GraphMemory
    tile: GraphMemory
    statistics: GraphMemory
    blocks: GraphMemory


def network_memory(runtime: Runtime, pixel_type: np.dtype[Any]) -> NetworkMemory:
    """What the graphs of a runtime's network need for 8 or 16-bit pixels."""
    blocks, channels = _R10C64 if runtime.excitation is None else runtime.excitation.shape
    measured = runtime.limits.measured if (blocks, channels) == _R10C64 else {}
    dtype = _counted_dtype(runtime, pixel_type)

    def memory_of(kind: MeasuredKind) -> GraphMemory:
        known = measured.get((kind, runtime.scale, dtype))
        return known or estimated_memory(kind, runtime.scale, dtype, blocks, channels)

    return NetworkMemory(
        memory_of("frame"), memory_of("tile"), memory_of("statistics"), memory_of("blocks")
    )


def _counted_dtype(runtime: Runtime, pixel_type: np.dtype[Any]) -> str:
    """What the memory depends on: 16-bit pixels run in FP32, and so may the layers around INT8."""
    if pixel_type == np.uint16 or runtime.compute_dtype == "float32":
        return "float32"
    return "int8" if runtime.precision == "int8" else runtime.compute_dtype
