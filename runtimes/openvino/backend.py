"""OpenVINO as a backend."""

from __future__ import annotations

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import UsageError
from ramedge.runtimes.backend import Backend, OpenOptions, WeightsFile, is_cuda
from ramedge.runtimes.runtime import Runtime


class OpenVino(Backend):
    """The default on CPUs. Half precision is a hint when a graph is compiled, not another file."""

    name = "openvino"
    title = "OpenVINO"
    reads_ir = True

    def check_device(self, device: str) -> None:  # noqa: D102
        if is_cuda(device):
            raise UsageError(
                f"OpenVINO does not run on {device}: leave --device out, or use --runtime "
                "tensorrt, onnxruntime or torch."
            )

    def automatic(self) -> tuple[bool, str]:  # noqa: D102
        return True, ""  # whatever keeps better ones away

    def open(self, model: ModelFiles | WeightsFile, options: OpenOptions) -> Runtime:  # noqa: D102
        from ramedge.runtimes.openvino.session import open_openvino

        assert isinstance(model, ModelFiles)
        precision = "int8" if model.precision == "int8" else options.precision
        return open_openvino(model, precision, options.device)


OPENVINO = OpenVino()
