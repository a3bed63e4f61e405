"""Explicit quantization: an FP32 ONNX file becomes one with QuantizeLinear/DequantizeLinear pairs.

One file for every engine: symmetric int8, zero point 0, weights per channel, biases in FP32.

Engines want one scale for a whole activation, while its channels differ many times in width. So
every channel is first divided by its own range, and the convolution's weights multiplied by it: all
channels then use all 127 levels (Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019; Xiao et al., "SmoothQuant", ICML 2023, α = 1). Engines fuse the
division with the rounding that follows it; it takes no time of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ramedge.artifacts.audit import AuditSettings, audit_file
from ramedge.artifacts.roles import is_dense
from ramedge.errors import ExportError, MissingExtraError
from ramedge.files import atomic_path

Range = tuple[float, ...]
"""For each channel of an activation, the magnitude that becomes 127."""


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """What of a network is int8, for all its graph kinds alike.

    Attributes:
        ranges: for each of the network's `dense_convolutions`, in their order, the range of its
            input; `None` where it stays in high precision.
    """

    ranges: tuple[Range | None, ...]

    def apply(self, model: Path, output: Path) -> None:
        """Write `model` (FP32 ONNX or FP16, any graph kind) with the plan's convolutions in int8.

        Raises:
            ExportError: the plan is for another network, or the audit refuses the result.
        """
        names = dense_convolutions(onnx.load(model))
        if len(names) != len(self.ranges):
            raise ExportError(
                f"{model.name} has {len(names)} convolutions, the plan {len(self.ranges)}."
            )
        chosen = {
            name: found for name, found in zip(names, self.ranges, strict=True) if found is not None
        }
        quantize(model, output, chosen)


def dense_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that may be quantized, in the network's order.

    Those over features that mix channels: neither depth-wise ones nor the attention's 1×1, nor
    those that make the rim of the picture from strips of it, nor the image-space skip branch.
    """
    return [
        node.name for node in model.graph.node if node.op_type == "Conv" and is_dense(node.name)
    ]


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


def quantize(model: Path, output: Path, ranges: Mapping[str, Range]) -> None:
    """Write `model` with some convolutions in int8, and audit what was written.

    Args:
        model: ONNX, in FP32 or with FP16 inside (`ramedge.export.precision.to_half`).
        output: the file to write.
        ranges: of the input of each convolution that is to be int8, by its name (see
            `dense_convolutions`).

    Raises:
        MissingExtraError: the export extra is not installed.
        ExportError: a range is not positive or not of the input's channels, the model has no such
            convolution, or the audit refuses the result.
        OutputError: the file cannot be written.
    """
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnxruntime", "export", "INT8") from None
    network = onnx.load(model)
    inputs_of(network, list(ranges))  # Refuses names that are not there.
    high = frozenset(dense_convolutions(network)) - set(ranges)
    limits = _divide_inputs(network, ranges)
    data: dict[str, Any] = {
        tensor: TensorData(lowest=-limit, highest=limit) for tensor, limit in limits.items()
    }
    quantizer = QDQQuantizer(
        network,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=list(ranges),
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
    with atomic_path(output) as partial:
        quantizer.model.save_model_to_file(str(partial), False)
        audit_file(partial, AuditSettings(high=high))


def _divide_inputs(network: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Divide what each convolution reads by its range, and multiply its weights by it.

    Where all channels have one range and nothing else reads the input, it stays as it is.

    Returns:
        For each tensor that is to be int8 the value that becomes 127, in the tensor's type: so
        have the scales the type of what they scale.
    """
    graph = network.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes: list[onnx.NodeProto] = []
    found: dict[str, Any] = {}
    for node in list(graph.node):
        if node.name in ranges:
            weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
            limits = np.asarray(ranges[node.name], np.float64)
            if limits.shape != weights.shape[1:2]:
                raise ExportError(
                    f"{node.name} reads {weights.shape[1]} channels, its range has {limits.size}."
                )
            if not (np.isfinite(limits).all() and (limits > 0).all()):
                raise ExportError(f"{node.name}: a range of its input is not a positive number.")
            kind = weights.dtype.type
            # What others read as well stays as it is for them: the picture, the rim's weights.
            alone = uses[node.input[0]] == uses[node.input[1]] == 1
            if alone and (limits == limits[0]).all():
                found[node.input[0]] = kind(limits[0])
            else:
                nodes.append(_divide(graph, node, weights, limits))
                found[node.input[0]] = kind(1.0)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    unused = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return found


def _divide(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    weights: NDArray[Any],
    limits: NDArray[np.float64],
) -> onnx.NodeProto:
    """The division of a convolution's input, which then reads it; weights are multiplied."""
    divided, factor, wider = (f"{node.name}_{what}" for what in ("input", "range", "weight"))
    column = limits.reshape(-1, 1, 1)
    graph.initializer.extend(
        [
            onnx.numpy_helper.from_array((1 / column[None]).astype(weights.dtype), factor),
            onnx.numpy_helper.from_array((weights * column).astype(weights.dtype), wider),
        ]
    )
    made = onnx.helper.make_node(
        "Mul", [node.input[0], factor], [divided], name=f"{node.name}_divide"
    )
    node.input[0], node.input[1] = divided, wider
    return made
