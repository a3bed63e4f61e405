"""What of ramedge works on this machine, and the command that mends what does not."""

from __future__ import annotations

import importlib
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ramedge.errors import DependencyError, RamedgeError
from ramedge.failures import as_failure
from ramedge.host_memory import available_bytes
from ramedge.requirements import need_of, needs
from ramedge.system import cpu_flags, cpu_name, nvidia_gpus, usable_cores

Status = Literal["ok", "missing", "broken"]

OLDEST_PYTHON = (3, 10)
LEAST_DISK = 2 * 2**30
"""Free bytes below which a video of some minutes may not fit."""
_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1")
_EXPORT_PACKAGES = ("onnxscript", "onnxsim", "onnxruntime")
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "OpenVINO": "openvino",
        "Upscaling": "openvino",
        "Images": "pillow",
        "Videos": "av",
        "Upscaled picture": "pillow",
        "Upscaled video": "av",
    }
)
"""The package that most likely is at fault where a check fails."""
_REQUIRED = frozenset({"Python", "Shipped models", *_NEEDS})
JETSON_RELEASE = Path("/etc/nv_tegra_release")
"""Exists on a Jetson and names its L4T release."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis.

    Attributes:
        name: what was looked at.
        status: `ok`, `missing` (not installed or not there) or `broken` (there, but fails).
        detail: version, or what is wrong.
        remedy: the command that repairs it; empty where there is nothing to repair.
        required: whether the default path, upscaling on the CPU, needs it.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order of the data's way."""

    checks: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether the default path works: photos and videos upscaled on the CPU."""
        return all(check.status == "ok" for check in self.checks if check.required)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"works": self.works, "checks": [asdict(check) for check in self.checks]}


def diagnose() -> Diagnosis:
    """Look at everything, and upscale a tiny picture and video in a temporary folder.

    Nothing is installed or changed.
    """
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("Python", _python),
        ("Packages", _packages),
        ("Processor", _processor),
        ("OpenVINO", _openvino),
        ("Shipped models", _models),
        ("Upscaling", _inference),
        ("Images", _images),
        ("Videos", _videos),
        ("Upscaled picture", _upscaled_picture),
        ("Upscaled video", _upscaled_video),
        ("PyTorch", _torch),
        ("Export", _export),
        ("TensorRT", lambda: _tensorrt("tensorrt", "tensorrt")),
        ("TensorRT-RTX", lambda: _tensorrt("tensorrt_rtx", "rtx")),
        ("NVIDIA GPU", _gpu),
        ("CUDA for engines", _cuda),
        ("Jetson", _jetpack),
        ("Disk and memory", _disk),
    )
    return Diagnosis(tuple(_check(name, look) for name, look in looks))


def _check(name: str, look: Callable[[], Check]) -> Check:
    """One line, also where looking itself fails: a package that cannot be imported, for one."""
    try:
        return look()
    except Exception as error:
        return _broken(name, error)


def _broken(name: str, error: Exception) -> Check:
    failure = as_failure(error, f"looking at {name}")
    if isinstance(failure, DependencyError):
        remedy = failure.install
    else:
        remedy = need_of(_NEEDS[name]).install if name in _NEEDS else ""
    return Check(name, "broken", str(failure), remedy, required=name in _REQUIRED)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Check(
            "Python", "broken", f"{version}, needed is {wanted}", "install Python 3.12", True
        )
    return Check("Python", "ok", version, required=True)


def _packages() -> Check:
    """Whether the installed packages are of versions that ramedge works with."""
    found = [need for need in needs() if need.installed is not None]
    outside = [need for need in found if need.outside]
    if outside:
        detail = ", ".join(f"{need.package} {need.installed}, needed is {need}" for need in outside)
        remedy = "pip install " + " ".join(shlex.quote(str(need)) for need in outside)
        return Check("Packages", "broken", detail, remedy)
    detail = f"{len(found)} of versions that work" if found else "run from the source tree"
    return Check("Packages", "ok", detail)


def _processor() -> Check:
    flags = ", ".join(cpu_flags()) or "no vector instructions known of"
    return Check("Processor", "ok", f"{cpu_name()}, {usable_cores()} cores ({flags})")


def _openvino() -> Check:
    from ramedge.runtimes.openvino.session import shared_core

    devices = ", ".join(shared_core().available_devices)
    if not devices:
        return Check("OpenVINO", "broken", "sees no device", _pip("openvino"), True)
    return Check("OpenVINO", "ok", f"{metadata.version('openvino')} on {devices}", required=True)


def _models() -> Check:
    from ramedge.artifacts.artifact import load_artifact
    from ramedge.weights import shipped_artifact, shipped_precisions, shipped_scales

    try:
        for scale in shipped_scales():
            for precision in shipped_precisions(scale):
                load_artifact(shipped_artifact(scale, precision))
    except RamedgeError as error:
        remedy = "pip install --force-reinstall --no-deps ramedge"
        return Check("Shipped models", "broken", str(error), remedy, True)
    scales = ", ".join(f"×{scale}" for scale in shipped_scales())
    return Check("Shipped models", "ok", f"{scales}, as their hashes say", required=True)


def _inference() -> Check:
    import numpy as np

    from ramedge.upscaling.upscaler import Upscaler

    with Upscaler() as upscaler:
        result = upscaler.upscale(np.full((8, 8, 3), 128, np.uint8))
        reason, scale = upscaler.reason, upscaler.scale
    # A grey picture stays grey: a broken build of the runtime would not manage that.
    if result.shape != (8 * scale, 8 * scale, 3) or abs(float(result.mean()) - 128) > 2:
        detail = f"a grey picture came out with a mean of {result.mean():.1f} instead of 128"
        return Check("Upscaling", "broken", detail, _pip("openvino"), True)
    return Check("Upscaling", "ok", reason, required=True)


def _images() -> Check:
    from PIL import features

    absent = [
        name
        for name in ("jpg", "zlib", "webp", "libtiff", "littlecms2")
        if not features.check(name)
    ]
    if absent:
        detail = f"Pillow without {', '.join(absent)}"
        return Check("Images", "broken", detail, _pip("pillow"), True)
    return Check("Images", "ok", f"Pillow {metadata.version('pillow')}", required=True)


def _videos() -> Check:
    import av

    have = [name for name in _ENCODERS if _has_encoder(name)]
    lack = [name for name in _ENCODERS if name not in have]
    detail = f"PyAV {av.__version__}, encoders {', '.join(have) or 'none'}"
    if "libx264" not in have:
        return Check(
            "Videos", "broken", f"{detail}: the default libx264 is missing", _pip("av"), True
        )
    return Check(
        "Videos", "ok", detail + (f" (not {', '.join(lack)})" if lack else ""), required=True
    )


def _has_encoder(name: str) -> bool:
    import av

    try:
        av.Codec(name, "w")
    except ValueError:  # av.codec.codec.UnknownCodecError is one
        return False
    return True


def _upscaled_picture() -> Check:
    from ramedge.jobs.trial import try_picture

    try_picture()
    return Check("Upscaled picture", "ok", "a PNG, from file to file", required=True)


def _upscaled_video() -> Check:
    from ramedge.jobs.trial import try_video

    try_video()
    return Check("Upscaled video", "ok", "two frames of H.264, from file to file", required=True)


def _torch() -> Check:
    found = _import("torch")
    if isinstance(found, str):
        status: Status = "missing" if found == "" else "broken"
        detail = found or "not installed: needed to train and to export your own weights"
        return Check("PyTorch", status, detail, _extra("train,export"))
    gpu = found.cuda.get_device_name() if found.cuda.is_available() else "no CUDA GPU"
    return Check("PyTorch", "ok", f"{found.__version__}, {gpu}")


def _export() -> Check:
    failures = {name: found for name in _EXPORT_PACKAGES if isinstance(found := _import(name), str)}
    if not failures:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in _EXPORT_PACKAGES)
        return Check("Export", "ok", versions)
    broken = {name: why for name, why in failures.items() if why}
    if broken:
        detail = "; ".join(f"{name}: {why}" for name, why in broken.items())
        return Check("Export", "broken", detail, _extra("export"))
    return Check("Export", "missing", f"without {', '.join(failures)}", _extra("export"))


def _tensorrt(module: str, extra: str) -> Check:
    name = "TensorRT-RTX" if module.endswith("rtx") else "TensorRT"
    found = _import(module)
    if isinstance(found, str):
        remedy = _extra(extra)
        if extra == "tensorrt" and JETSON_RELEASE.is_file():
            remedy = "sudo apt install python3-libnvinfer, python -m venv --system-site-packages"
        status: Status = "missing" if found == "" else "broken"
        return Check(name, status, found or "not installed", remedy)
    return Check(name, "ok", str(found.__version__))


def _gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        return Check("NVIDIA GPU", "missing", "no driver (nvidia-smi) found")
    try:
        gpus = nvidia_gpus()
    except OSError as error:
        return Check("NVIDIA GPU", "broken", str(error))
    if not gpus:
        return Check("NVIDIA GPU", "missing", "the driver sees none")
    return Check("NVIDIA GPU", "ok", "; ".join(gpus))


def _cuda() -> Check:
    from ramedge.runtimes.tensorrt.cuda import open_cuda

    try:
        cuda = open_cuda()
    except RamedgeError as error:
        absent = [name for name in ("cuda", "pycuda") if isinstance(_import(name), str)]
        remedy = _pip("cuda-python") if len(absent) == 2 else ""
        return Check("CUDA for engines", "missing", str(error), remedy)
    cuda.close()
    return Check("CUDA for engines", "ok", f"{cuda.name}, CUDA {cuda.facts.driver}")


def _jetpack() -> Check:
    try:
        release = JETSON_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return Check("Jetson", "missing", "this is no Jetson")
    return Check("Jetson", "ok", release.strip("# "))


def _disk() -> Check:
    try:
        free = shutil.disk_usage(Path.cwd()).free
    except OSError as error:
        return Check("Disk and memory", "broken", str(error))
    memory = available_bytes() / 2**30
    detail = f"{free / 2**30:.1f} GiB free here, {memory:.1f} GiB of memory"
    if free < LEAST_DISK:
        return Check("Disk and memory", "broken", detail, "make room, or use -o on another disk")
    return Check("Disk and memory", "ok", detail)


def _import(module: str) -> Any:
    """The module; an empty text where it is not installed, the reason where it fails to load."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        return "" if missing.name == module else f"{module} needs {missing.name}"
    except Exception as error:  # native libraries fail to load in many ways
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__


def _pip(package: str) -> str:
    return f"pip install --upgrade {package}"


def _extra(extra: str) -> str:
    return f"pip install 'ramedge[{extra}]'"
