"""The host's memory: what is free, and what this process holds and held at most."""

from __future__ import annotations

import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")

# psutil is imported by the functions: `ramedge doctor` reports it where it cannot be imported.


def available_bytes() -> int:
    """Memory in bytes that can be taken without swapping, within a container's limit."""
    import psutil

    free = int(psutil.virtual_memory().available)
    # psutil reads the machine's memory and knows nothing of control groups.
    limit, used = _read_int(_CGROUP / "memory.max"), _read_int(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        free = min(free, max(0, limit - used))
    return free


def resident_bytes() -> int:
    """Memory that this process holds now, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int | None:
    """The most memory that this process ever held, in bytes; `None` where the system hides it."""
    if sys.platform == "linux":
        return _linux_peak_bytes()
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there, not KiB
    return None


def _linux_peak_bytes() -> int | None:
    """`VmHWM`: psutil has no peak on Linux, and `getrusage` begins with that of the parent."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None
