"""Facts about this machine and its libraries, to stand beside every measured figure."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
)
"""Instruction sets that decide how fast a precision is."""

LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "av")


def describe_machine() -> dict[str, Any]:
    """Date, processor, cores that this process may use, memory and versions, as plain values."""
    return {
        "date": date.today().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_flags": cpu_flags(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "libraries": library_versions(),
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Marketing name of the processor where the system tells it."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"} and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Those of `CPU_FLAGS` that the first core has; empty where the system does not tell."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            found = set(value.split())
            return [flag for flag in CPU_FLAGS if flag in found]
    return []


def library_versions() -> dict[str, str]:
    """Version of each installed library of `LIBRARIES`."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
