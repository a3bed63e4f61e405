"""Explicit quantization: an FP32 ONNX file becomes one with QuantizeLinear/DequantizeLinear pairs.

One file for every engine: symmetric int8, zero point 0, weights per channel, biases in FP32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ramedge.calibration.audit import AuditSettings, audit_file
from ramedge.errors import ExportError, MissingExtraError
from ramedge.files import atomic_path


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """What of a network is int8, for all its graph kinds alike.

    Attributes:
        thresholds: for each of the network's `dense_convolutions`, in their order, the magnitude
            of its input that becomes 127; `None` where it stays in high precision.
    """

    thresholds: tuple[float | None, ...]

    def apply(self, model: Path, output: Path) -> None:
        """Write `model` (FP32 ONNX, any graph kind) with the plan's convolutions in int8.

        Raises:
            ExportError: the plan is for another network, or the audit refuses the result.
        """
        network = onnx.load(model)
        names = dense_convolutions(network)
        if len(names) != len(self.thresholds):
            raise ExportError(
                f"{model.name} has {len(names)} convolutions, the plan {len(self.thresholds)}."
            )
        chosen = {
            name: threshold
            for name, threshold in zip(names, self.thresholds, strict=True)
            if threshold is not None
        }
        inputs = inputs_of(network, list(chosen))
        quantize(model, output, list(chosen), {inputs[name]: chosen[name] for name in chosen})


def dense_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that may be quantized, in the graph's order.

    Those over pixels that mix channels: neither depth-wise ones nor the attention's 1×1.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        kernel = shapes.get(node.input[1], ())[2:]
        if group == 1 and kernel != (1, 1):
            names.append(node.name)
    return names


def multiply_adds(model: onnx.ModelProto, convolutions: Sequence[str]) -> dict[str, int]:
    """Multiply-adds of each convolution for one pixel of the input, by its name.

    The graph's pixel shuffles (DepthToSpace) before a convolution multiply its pixels.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    pixels = {value.name: 1 for value in model.graph.input}
    wanted = set(convolutions)
    costs: dict[str, int] = {}
    for node in model.graph.node:
        area = max((pixels.get(name, 1) for name in node.input), default=1)
        if node.op_type == "DepthToSpace":
            area *= next(a.i for a in node.attribute if a.name == "blocksize") ** 2
        for name in node.output:
            pixels[name] = area
        if node.name in wanted:
            costs[node.name] = area * math.prod(shapes[node.input[1]])
    return costs


def inputs_of(model: onnx.ModelProto, convolutions: Sequence[str]) -> dict[str, str]:
    """The activation tensor that each convolution reads, by the convolution's name.

    Raises:
        ExportError: the model has no such convolution.
    """
    found = {node.name: node.input[0] for node in model.graph.node}
    unknown = [name for name in convolutions if name not in found]
    if unknown:
        raise ExportError(f"The model has no convolution {unknown[0]}.")
    return {name: found[name] for name in convolutions}


def quantize(
    model: Path, output: Path, convolutions: Sequence[str], ranges: Mapping[str, float]
) -> None:
    """Write `model` with the named convolutions in int8, and audit what was written.

    Args:
        model: ONNX, in FP32 or with FP16 inside (`ramedge.calibration.half`).
        output: the file to write.
        convolutions: names, see `dense_convolutions`.
        ranges: for the input tensor of each, the magnitude that becomes 127, see
            `ramedge.calibration.ranges`.

    Raises:
        MissingExtraError: the export extra is not installed.
        ExportError: a range is missing or not positive, or the audit refuses the result.
        OutputError: the file cannot be written.
    """
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnxruntime", "export", "INT8") from None
    network = onnx.load(model)
    data: dict[str, Any] = {}
    inputs = inputs_of(network, convolutions)
    kinds = {tensor.name: tensor.data_type for tensor in network.graph.initializer}
    weights = {node.name: node.input[1] for node in network.graph.node if node.name in inputs}
    for name, tensor in inputs.items():
        limit = ranges.get(tensor, 0.0)
        if not (np.isfinite(limit) and limit > 0):
            raise ExportError(f"{name}: no range was measured for its input {tensor}.")
        # The scales have the type of the range: that of the values they scale.
        kind = onnx.helper.tensor_dtype_to_np_dtype(kinds[weights[name]]).type
        data[tensor] = TensorData(lowest=kind(-limit), highest=kind(limit))
    quantizer = QDQQuantizer(
        network,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=list(convolutions),
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            # Outputs of convolutions stay as they are: only what a convolution reads is rounded.
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )
    quantizer.quantize_model()
    high = frozenset(dense_convolutions(network)) - set(convolutions)
    with atomic_path(output) as partial:
        quantizer.model.save_model_to_file(str(partial), False)
        audit_file(partial, AuditSettings(high=high))
