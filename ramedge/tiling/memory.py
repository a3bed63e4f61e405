"""How much memory this process may still take, and how much the network will."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")
_UNKNOWN = 4 * 2**30
"""Assumed where the system does not tell."""


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


def available_bytes() -> int:
    """Free memory in bytes: the system's, or what a container's limit leaves of it."""
    free = _system_available()
    limit, used = _read_int(_CGROUP / "memory.max"), _read_int(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        free = min(free, max(0, limit - used))
    return free


def resident_bytes() -> int:
    """Memory that this process holds now, in bytes; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError, IndexError):
        return 0


def peak_resident_bytes() -> int | None:
    """The most memory that this process ever held, in bytes; `None` where the system hides it.

    Not `getrusage` on Linux: there a process begins with the peak of the one that started it.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _system_available() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None
