"""TensorRT and TensorRT-RTX as backends."""

from __future__ import annotations

import logging

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import RuntimeUnavailableError, UsageError
from ramedge.runtimes.backend import Backend, OpenOptions, WeightsFile, in_precision, is_cuda
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.variant import RTX as RTX_LIBRARY
from ramedge.runtimes.tensorrt.variant import TENSORRT as TENSORRT_LIBRARY
from ramedge.runtimes.tensorrt.variant import Variant

_LOG = logging.getLogger("ramedge")


class TensorRt(Backend):
    """One of the two libraries, on an NVIDIA GPU."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.name = variant.name
        self.title = variant.title

    def check_device(self, device: str) -> None:  # noqa: D102
        if device != "auto" and not is_cuda(device):
            raise UsageError(
                f"{self.title} runs on an NVIDIA GPU, not on {device}: leave --device out, or use "
                "--runtime openvino."
            )

    def automatic(self) -> tuple[bool, str]:  # noqa: D102
        if not self.variant.installed():
            return False, "" if self.variant is RTX_LIBRARY else f"{self.title} is not installed"
        from ramedge.runtimes.tensorrt.cuda import NO_GPU, gpu_facts

        if gpu_facts() == NO_GPU:
            return False, f"{self.title} is installed, but no NVIDIA GPU can be used"
        try:
            self.variant.load()
        except RuntimeUnavailableError as broken:
            return False, str(broken).rstrip(".")
        return True, "there is an NVIDIA GPU"

    def open(self, model: ModelFiles | WeightsFile, options: OpenOptions) -> Runtime:  # noqa: D102
        from ramedge.runtimes.tensorrt.cache import EngineCache
        from ramedge.runtimes.tensorrt.session import EngineSource, open_tensorrt

        assert isinstance(model, ModelFiles)
        files = in_precision(model, options.precision, "fp16" if options.shipped else "auto")
        self.variant.load()
        source = EngineSource(EngineCache(), on_notice=_LOG.warning, on_progress=_tell_of_build)
        return open_tensorrt(files, self.variant, source)


def _tell_of_build(share: float, _phase: str) -> None:
    if share == 0.0:
        _LOG.warning("Building an engine for this GPU, once; it is kept for the next time.")


TENSORRT = TensorRt(TENSORRT_LIBRARY)
RTX = TensorRt(RTX_LIBRARY)
