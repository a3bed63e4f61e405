"""The backends. Adding one is its folder, its name in `RuntimeName`, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ramedge.errors import RuntimeUnavailableError
from ramedge.runtimes.backend import Backend, RuntimeName, is_cuda
from ramedge.runtimes.onnxruntime.backend import ONNXRUNTIME
from ramedge.runtimes.openvino.backend import OPENVINO
from ramedge.runtimes.tensorrt.backend import RTX, TENSORRT
from ramedge.runtimes.torch.backend import TORCH

BACKENDS: Mapping[RuntimeName, Backend] = MappingProxyType(
    {backend.name: backend for backend in (TENSORRT, RTX, OPENVINO, ONNXRUNTIME, TORCH)}
)
"""By name; those that come first are preferred where several would be taken by themselves."""


def title_of(name: str) -> str:
    """A backend's title; the name itself where it is none of today's, as in an old result."""
    return next((backend.title for backend in BACKENDS.values() if backend.name == name), name)


def choose(name: RuntimeName, device: str) -> tuple[Backend, str]:
    """The backend for an exported model, and in a few words why.

    Args:
        name: `auto` takes TensorRT where it is installed and finds a GPU, otherwise OpenVINO.
        device: by the backend's name for it, or `auto`.

    Raises:
        UsageError: the backend that was asked for never runs on the device.
        RuntimeUnavailableError: nothing here runs on the GPU that was asked for.
    """
    if name != "auto":
        BACKENDS[name].check_device(device)
        return BACKENDS[name], "asked for"
    if device != "auto" and not is_cuda(device):
        return OPENVINO, f"the device {device} was asked for"
    backend, reason = best()
    if is_cuda(device) and backend is OPENVINO:
        raise RuntimeUnavailableError(
            f"No TensorRT for --device {device}: {reason}. Leave --device out for the CPU, or name "
            "another --runtime for the GPU."
        )
    return backend, reason


def best() -> tuple[Backend, str]:
    """The best backend for exported models here, and in a few words why not a better one."""
    missing = ""
    for backend in BACKENDS.values():
        taken, reason = backend.automatic()
        if taken:
            return backend, reason or missing
        missing = reason or missing
    raise AssertionError("OpenVINO is always taken")
