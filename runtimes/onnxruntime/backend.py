"""ONNX Runtime as a backend."""

from __future__ import annotations

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import UsageError
from ramedge.runtimes.backend import Backend, OpenOptions, WeightsFile, in_precision, is_cuda
from ramedge.runtimes.runtime import Runtime


class OnnxRuntime(Backend):
    """On NVIDIA GPUs by its CUDA provider; on CPUs OpenVINO is faster."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    def check_device(self, device: str) -> None:  # noqa: D102
        if device.lower() not in {"auto", "cpu"} and not is_cuda(device):
            raise UsageError(f"ONNX Runtime runs on cpu or cuda, not on {device}.")

    def open(self, model: ModelFiles | WeightsFile, options: OpenOptions) -> Runtime:  # noqa: D102
        from ramedge.runtimes.onnxruntime.session import open_onnxruntime

        assert isinstance(model, ModelFiles)
        return open_onnxruntime(in_precision(model, options.precision), options.device)


ONNXRUNTIME = OnnxRuntime()
