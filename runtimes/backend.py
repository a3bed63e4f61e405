"""What chooses a backend and opens a model in it needs to know; one object a backend.

The object is light: it imports its library when it opens a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import UsageError
from ramedge.runtimes.runtime import Runtime

RuntimeName = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
PrecisionName = Literal["auto", "fp32", "fp16", "int8"]
_CUDA = frozenset({"cuda", "cuda:0"})


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a model is opened.

    Attributes:
        precision: what to compute in; `auto` is the backend's choice.
        device: by the backend's name for it; `auto` chooses.
        shipped: whether the model is the shipped one, of which a backend may choose the precision.
    """

    precision: PrecisionName = "auto"
    device: str = "auto"
    shipped: bool = False


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Weights that a backend runs without an export: a safetensors file, and which scale of it."""

    path: Path
    scale: int


class Backend(ABC):
    """A backend.

    Attributes:
        name: on the command line.
        title: in messages.
        takes: `graphs`, a model's ONNX files, or `weights`.
        reads_ir: whether it reads graphs that were exported for OpenVINO.
    """

    name: RuntimeName
    title: str
    takes: Literal["graphs", "weights"] = "graphs"
    reads_ir: bool = False

    def check_device(self, device: str) -> None:
        """Refuse a device that it can never run on.

        Raises:
            UsageError: the message names what to use.
        """
        del device

    def automatic(self) -> tuple[bool, str]:
        """Whether it is taken where the user leaves the choice, and in a few words why or why not.

        The words are empty where they would help nobody.
        """
        return False, ""

    @abstractmethod
    def open(self, model: ModelFiles | WeightsFile, options: OpenOptions) -> Runtime:
        """Open a model.

        Raises:
            UsageError: it cannot compute in the precision.
            WeightsError: a file is damaged.
            MissingExtraError, RuntimeUnavailableError: its library or the device is not there.
        """


def is_cuda(device: str) -> bool:
    """Whether a device is the NVIDIA GPU, by PyTorch's name."""
    return device.lower() in _CUDA


def in_precision(files: ModelFiles, wanted: PrecisionName, default: str = "auto") -> ModelFiles:
    """Files for a backend that makes FP16 from FP32 files itself; `precision` is what it runs in.

    Args:
        files: in the precision that they were exported in.
        wanted: `auto` is `default`.
        default: `auto` is the files' own.

    Raises:
        UsageError: the model is in another precision.
    """
    own = files.precision
    if wanted == "auto":
        wanted = "fp16" if default == "fp16" and own == "fp32" else own
    if wanted != own and (own, wanted) != ("fp32", "fp16"):
        can = "fp32 and fp16" if own == "fp32" else own
        raise UsageError(f"{files.source} is in {own}: it runs in {can}.")
    if wanted == own:
        return files
    return replace(files, precision=wanted, fp32=files)
