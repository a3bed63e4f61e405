"""OpenVINO: the default on CPUs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError, WeightsError
from ramedge.media.frames import Pixels
from ramedge.runtimes.base import Runtime

if TYPE_CHECKING:
    import openvino

_OPENVINO_PRECISION = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@lru_cache(maxsize=1)
def shared_core() -> openvino.Core:
    """The process's one `openvino.Core`.

    OpenVINO's CPU plugin gives the thread a signal stack for each core and puts the former one
    back when the core goes. Two cores that go in another order than they came leave a stack
    behind that was unmapped, and the next signal (Ctrl-C) ends the process with a segmentation
    fault. So there is one, and it stays.

    Raises:
        RuntimeUnavailableError: OpenVINO is not there.
    """
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"OpenVINO cannot be loaded ({error}): pip install openvino"
        ) from None
    return openvino.Core()


class OpenVinoRuntime(Runtime):
    """Runs an ONNX file or OpenVINO IR.

    The graph is compiled once for each kind of input it meets (uint8, uint16 or float32) and
    arithmetic.
    """

    name = "openvino"

    def __init__(
        self, model: Path, scale: int, precision: str = "auto", device: str = "auto"
    ) -> None:
        """Read `model` and choose the arithmetic.

        Args:
            model: `.onnx` or `.xml`, float32 image `[N, 3, H, W]` in and out.
            scale: of the model.
            precision: `fp32`; `fp16`, half precision where the device computes in it; or
                `auto`, the fastest of them.
            device: an OpenVINO device such as `CPU` or `GPU`; `auto` is the CPU.

        Raises:
            RuntimeUnavailableError: OpenVINO or the device is not there.
            WeightsError: the file is not a model.
        """
        self._core = shared_core()
        self.scale = scale
        self.device = "CPU" if device == "auto" else device.upper()
        self.precision, self.notes = self._choose_precision(precision)
        try:
            self._model = self._core.read_model(model)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(f"{model} is not a model that OpenVINO reads: {reason}") from None
        self._compiled: dict[tuple[str, str], Any] = {}

    def _choose_precision(self, wanted: str) -> tuple[str, tuple[str, ...]]:
        try:
            capabilities = self._core.get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        except RuntimeError:
            known = ", ".join(self._core.available_devices)
            raise RuntimeUnavailableError(
                f"OpenVINO has no device {self.device!r} here: choose among {known}."
            ) from None
        if wanted == "fp32":
            return "fp32", ()
        for precision in ("bf16", "fp16"):
            if precision.upper() in capabilities:
                return precision, ()
        if wanted == "auto":
            return "fp32", ()
        note = f"This {self.device} has no half-precision arithmetic: OpenVINO runs in FP32."
        return "fp32", (note,)

    def _infer_pixels(self, pixels: Pixels) -> Pixels:
        # Half precision holds 8-bit pixels well but not 16-bit ones.
        result: Pixels = self._run(pixels, fp32=pixels.dtype == np.uint16)
        return result

    def _infer_float(self, images: NDArray[np.float32], fp32: bool) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._run(images, fp32)
        return result

    def _run(self, values: NDArray[Any], fp32: bool) -> NDArray[Any]:
        key = values.dtype.name, "fp32" if fp32 else self.precision
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        request = self._compiled[key]
        result: NDArray[Any] = request.infer([values], share_inputs=True)[0].copy()
        return result

    def _compile(self, dtype: str, precision: str) -> Any:
        model = self._model if dtype == "float32" else _with_pixels(self._model, dtype)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[precision],
        }
        try:
            compiled = self._core.compile_model(model, self.device, settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeUnavailableError(
                f"OpenVINO cannot build the network for {self.device}: {reason}"
            ) from None
        return compiled.create_infer_request()

    def close(self) -> None:
        """Free the compiled graphs."""
        self._compiled.clear()


def _with_pixels(network: openvino.Model, dtype: str) -> openvino.Model:
    """The network between NHWC integer pixels: scaled to [0, 1], back, clipped and rounded."""
    from openvino import Model
    from openvino import opset13 as ops

    peak = float(np.iinfo(dtype).max)
    network = network.clone()
    image, output = network.input(0), network.output(0)
    pixels = ops.parameter([-1, -1, -1, 3], np.dtype(dtype), name="pixels")
    scaled = ops.multiply(ops.convert(pixels, "f32"), np.float32(1.0 / peak))
    planar = ops.transpose(scaled, np.array([0, 3, 1, 2]))
    for consumer in image.get_target_inputs():
        consumer.replace_source_output(planar.output(0))
    result = output.get_node().input_value(0)
    levels = ops.clamp(ops.multiply(result, np.float32(peak)), 0.0, peak)
    rounded = ops.convert(ops.round(levels, "half_to_even"), np.dtype(dtype))
    packed = ops.transpose(rounded, np.array([0, 2, 3, 1]))
    return Model([packed], [pixels], f"{network.get_friendly_name()}_{dtype}")
