"""What the machine could do: the product of two large matrices in the precision of a candidate."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ramedge.runtimes.runtime import Runtime

SIDE = 2048
"""Side of the matrices on a CPU."""
SIDE_CUDA = 8192
_REPEATS = 5


def measure_roofline(runtime: Runtime) -> float | None:
    """Operations a second (a multiply-add counts as two) of a matrix product, the best of five.

    In the runtime itself, in the precision that it really runs, with the weights constant as a
    network's are. `None` for a runtime that has no such measurement.
    """
    if runtime.name == "openvino":
        return _best(_openvino_product(runtime.precision, runtime.device), SIDE)
    if runtime.name == "torch":
        side = SIDE_CUDA if runtime.device.startswith("cuda") else SIDE
        return _best(_torch_product(side, runtime.precision, runtime.device), side)
    return None


def _best(product: Callable[[], object], side: int) -> float:
    product()
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return float(2 * side**3 / min(seconds))


def _torch_product(side: int, precision: str, device: str) -> Callable[[], object]:
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def run() -> object:
        with torch.inference_mode():
            product = torch.mm(first, second)
            return product[0, 0].item()  # waits for the device

    return run


def _openvino_product(precision: str, device: str) -> Callable[[], object]:
    from openvino import Model
    from openvino import opset13 as ops

    from ramedge.runtimes.openvino.session import shared_core

    generator = np.random.default_rng(0)
    values = generator.uniform(-1.0, 1.0, (2, SIDE, SIDE)).astype(np.float32)
    left = ops.parameter([SIDE, SIDE], np.float32)
    right = ops.constant(values[1])
    if precision.startswith("int8"):
        product = ops.matmul(_eight_bits(left), _eight_bits(right), False, False)
    else:
        product = ops.matmul(left, right, False, False)
    # A sum for an output: what is measured is not the copy of the product.
    result = ops.result(ops.reduce_sum(product, np.array([0, 1])))
    hint = {"bf16": "bf16", "fp16": "f16"}.get(precision, "f32")
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    compiled = shared_core().compile_model(Model([result], [left]), device, settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([values[0]], share_inputs=True)


def _eight_bits(values: object) -> object:
    """Values in -1…1 quantized to 8 bits, in OpenVINO's way of saying so."""
    from openvino import opset13 as ops

    low, high = np.float32(-1.0), np.float32(127 / 128)
    return ops.fake_quantize(values, low, high, low, high, 256)
