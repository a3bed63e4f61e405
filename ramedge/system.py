"""Facts about this machine and its libraries, to stand beside every measured figure."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
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

_NVIDIA_SMI_SECONDS = 20

LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "av")


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def describe_machine() -> dict[str, Any]:
    """Date, processor, usable cores, NVIDIA GPUs with their driver and versions, plain values."""
    try:
        gpus = nvidia_gpus()
    except OSError:
        gpus = []
    return {
        "date": date.today().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_flags": cpu_flags(),
        "cores": usable_cores(),
        "gpus": gpus,
        "python": platform.python_version(),
        "libraries": library_versions(),
    }


def nvidia_gpus() -> list[str]:
    """Name, driver and compute capability of each NVIDIA GPU; empty where no driver is found.

    Raises:
        OSError: there is a driver, but it fails.
    """
    rows = _ask_nvidia("name,driver_version,compute_cap")
    return [
        f"{row[0]} (driver {row[1]}, compute capability {row[2]})" for row in rows if len(row) == 3
    ]


def free_gpu_bytes() -> int | None:
    """Free memory of the first NVIDIA GPU; `None` where no driver tells."""
    try:
        rows = _ask_nvidia("memory.free")
        return int(rows[0][0].split()[0]) * 2**20 if rows else None
    except (OSError, ValueError, IndexError):
        return None


def _ask_nvidia(fields: str) -> list[list[str]]:
    """What nvidia-smi says, a row for each GPU; empty where no driver is found."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603  # a fixed command, found on the user's own PATH
            query, capture_output=True, text=True, timeout=_NVIDIA_SMI_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"nvidia-smi: {error}") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise OSError(lines[0] if lines else "nvidia-smi fails")
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


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
