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
FIXED_BYTES = 40 * _MIB
"""What a compiled graph takes whatever its input: 31 to 36 MiB were measured."""

MeasuredKind = Literal["frame", "tile", "statistics", "blocks"]
"""Graph kinds, and all parts of the tile graph that a frame is run block by block in."""

BYTES_PER_PIXEL: Mapping[tuple[int, str], Mapping[MeasuredKind, int]] = MappingProxyType(
    {
        (2, "fp32"): {"frame": 3120, "tile": 8500, "statistics": 6412, "blocks": 20000},
        (3, "fp32"): {"frame": 5725, "tile": 11105, "statistics": 6416, "blocks": 20000},
        (4, "fp32"): {"frame": 9373, "tile": 14751, "statistics": 6412, "blocks": 20000},
        (2, "bf16"): {"frame": 1583, "tile": 6443, "statistics": 4360, "blocks": 20000},
        (3, "bf16"): {"frame": 2910, "tile": 7768, "statistics": 4360, "blocks": 20000},
        (4, "bf16"): {"frame": 4765, "tile": 9623, "statistics": 4360, "blocks": 20000},
    }
)
"""Peak memory of R10C64 per low-resolution pixel by scale and arithmetic: the slope of a line
through sides of 128 to 512 pixels, OpenVINO 2026.4.1 on a CPU (`benchmarks/memory.py`,
`benchmarks/results/2026-11-23_memory.json`). The shipped tile graphs have fewer operations since
and take a tenth less at 256 pixels."""


def network_bytes(kind: MeasuredKind, scale: int, precision: str, pixels: int) -> int:
    """Peak memory of a graph that runs on so many low-resolution pixels.

    What was not measured (FP16 on a GPU, another runtime) counts as FP32, which needs more.
    """
    known = BYTES_PER_PIXEL.get((scale, precision), BYTES_PER_PIXEL[scale, "fp32"])
    return FIXED_BYTES + known[kind] * pixels


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
