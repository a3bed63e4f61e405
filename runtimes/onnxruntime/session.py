"""ONNX Runtime: on NVIDIA GPUs by its CUDA execution provider, on any CPU otherwise.

It is also what the gate runs ONNX files with: it rounds to FP16 between the nodes of an FP16 graph
as a GPU would, which OpenVINO on a CPU does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.graphs import FRAME
from ramedge.artifacts.half import is_half
from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import MissingExtraError, RuntimeUnavailableError, WeightsError
from ramedge.network.channel_statistics import load_excitation
from ramedge.runtimes.base import Arrays, GraphRequest, Session, is_out_of_memory
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.runtime import Runtime
from ramedge.system import free_gpu_bytes

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3
"""It warns of FP16 constants that it does not fold."""


class OnnxRuntimeSession(Session):
    """Runs ONNX files; a graph is loaded when it is first needed."""

    name = "onnxruntime"

    def __init__(self, files: ModelFiles, device: str = "auto") -> None:
        """Choose the execution provider.

        Args:
            files: ONNX; their `precision` is what is computed in. A CPU computes FP16 that would
                have to be made from FP32 in FP32: it has no kernels for FP16.
            device: `cuda`, `cpu`, or `auto`: a GPU where the provider for it is there.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
            RuntimeUnavailableError: it has no provider for the device.
            WeightsError: the frame graph is damaged.
        """
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", "export", "ONNX Runtime") from None
        self._module = onnxruntime
        there = onnxruntime.get_available_providers()
        self.device = device.lower().removesuffix(":0")
        if self.device == "auto":
            self.device = "cuda" if _PROVIDERS["cuda"] in there else "cpu"
        if _PROVIDERS.get(self.device) not in there:
            raise RuntimeUnavailableError(
                f"ONNX Runtime has no execution provider for {device!r} here: --device cpu, or "
                "for an NVIDIA GPU pip install onnxruntime-gpu."
            )
        self._sessions: dict[GraphRequest, Any] = {}
        if self.device == "cpu" and files.fp32 is not None and files.fp32.frame == files.frame:
            files = files.fp32
            self.notes = ("ONNX Runtime computes in FP32 on a CPU.",)
        elif files.precision != "fp32" and files.fp32 is None:
            self.notes = (
                f"The model has no FP32 graph: 16-bit pixels run in {files.precision.upper()}.",
            )
        self._files = files
        self.precision = files.precision
        self._half = self.device == "cuda" and self.precision != "fp32"
        self._half = self._half or is_half(files.graph(FRAME))
        self.compute_dtype = "float16" if self._half else "float32"
        self._load(GraphRequest(FRAME))

    @property
    def limits(self) -> Limits:
        """The GPU's free memory, or the host's."""
        if self.device == "cpu":
            return Limits()
        return Limits(free_bytes=free_gpu_bytes(), features_on_device=False)

    def feature_dtype(self, fp32: bool) -> np.dtype[Any]:
        """FP16 in an FP16 graph."""
        return np.dtype(np.float16 if self._is_half(fp32) else np.float32)

    def run(self, graph: GraphRequest, values: Arrays) -> list[NDArray[Any]]:
        """See `Session.run`."""
        session = self._sessions.get(graph)
        if session is None:
            session = self._load(graph)
        names = [value.name for value in session.get_inputs()]
        try:
            outputs: list[NDArray[Any]] = session.run(None, dict(zip(names, values, strict=True)))
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise _memory_error(error) or error from None
        return outputs

    def _is_half(self, fp32: bool) -> bool:
        return self._half and not (fp32 and self._files.fp32 is not None)

    def _load(self, graph: GraphRequest) -> Any:
        files = self._files
        if graph.fp32 and files.fp32 is not None:
            files = files.fp32
        model = files.graph(graph.name, graph.pixels, half=self._is_half(graph.fp32))
        options = self._module.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = self._module.InferenceSession(
                model.SerializeToString(), options, providers=[_PROVIDERS[self.device]]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base
            reason = str(error).strip().splitlines()[0]
            raise _memory_error(error) or WeightsError(
                f"{files.path(graph.name)} is not a model ONNX Runtime reads: {reason}"
            ) from None
        self._sessions[graph] = session
        return session

    def close(self) -> None:
        """Free the loaded graphs."""
        self._sessions.clear()


def _memory_error(error: Exception) -> MemoryError | None:
    """What an error is where it says that memory is exhausted."""
    return MemoryError(str(error).strip().splitlines()[0]) if is_out_of_memory(error) else None


def open_onnxruntime(files: ModelFiles, device: str = "auto") -> Runtime:
    """A model's files in ONNX Runtime; arguments and errors are those of `OnnxRuntimeSession`."""
    session = OnnxRuntimeSession(files, device)
    excitation = None if files.excitation is None else load_excitation(files.excitation)
    return Runtime(session, files.scale, excitation, by_block=files.blocks > 0)


def open_onnx(path: Path, scale: int) -> Runtime:
    """A frame graph alone, on the CPU, as the file has it; errors are `OnnxRuntimeSession`'s."""
    return open_onnxruntime(ModelFiles(scale, path), "cpu")
