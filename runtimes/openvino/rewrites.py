"""The network in the operations that OpenVINO's CPU plugin computes best and most exactly.

The plugin fuses element-wise operations into one pass over the features, but neither a sigmoid nor
a sum over the frame; and under a half-precision hint it rounds whatever stands between two
convolutions, small as it is. So, on a copy of the graph, the first three where shapes are known:

- The variance of a frame becomes the mean of squares less the square of the mean: two passes over
  the features instead of four, and nothing is written between.
- Sums over a frame go over its columns and then over its rows. One long sum in FP32 is off by up to
  5e-4 where the mean is large, and tiles (`ramedge.tiling.execution`) would find another attention
  than the frame's own graph: half precision then rounds everything otherwise.
- The gate σ(z)·x becomes an exponential and a division, which are fused with the residual sum and
  the rounding to int8 behind it.
- What is small stays in FP32 whatever the hint: the statistic, the two layers behind it, and the
  image-space skip branch (`ramedge.network.collapse`).

A graph without these patterns (another attention, another network) is left as it is.
"""

from __future__ import annotations

import math
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramedge.artifacts import roles
from ramedge.errors import OutputError

if TYPE_CHECKING:
    import openvino

_FRAME_AXES = (2, 3)
_LEAST_SIDE = 8
"""Of fewer rows or columns parts of the graph are empty, which IR cannot hold."""
_IMAGE_INPUT = frozenset({"Subtract", "Add", "Multiply"})
"""What makes the input of the head and of the skip branch."""


def prepare(
    core: openvino.Core,
    model: openvino.Model,
    half: bool,
    shapes: Sequence[Sequence[int]] | None,
    quantized: bool = False,
) -> openvino.Model:
    """A copy of `model` for the CPU plugin; `model` stays as it is.

    Args:
        core: reads the copy back where `half` marks something.
        model: graph kind `frame`, `tile` or `statistics`.
        half: whether it is to run in half precision, alone or around int8.
        shapes: of the inputs, in their order; without them only what needs no shape is done.
        quantized: whether it is of a model with int8 in it, even if this part has none.

    Raises:
        OutputError: the temporary folder cannot hold a copy of the model, some MB.
    """
    model = model.clone()
    if shapes is not None:
        model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
        if _least_side(model) < _LEAST_SIDE:
            return model
        kept = _sum_by_columns(model, half)
    else:
        kept = []
    if not half:
        return model
    if shapes is not None:
        _divide_gates(model)
    if not quantized:
        _add_means(model)
    kept += [*_excitations(model), *_image_convolutions(model)]
    return _in_single_precision(core, model, kept) if kept else model


def without_fp16(model: openvino.Model) -> openvino.Model:
    """`model` with its FP16 operations in FP32, on weights rounded to FP16; changes `model`.

    On this device the arithmetic is chosen when a graph is compiled. A graph that fixes FP16 for
    some operations is another graph to the plugin, and to everything here that rewrites graphs.
    """
    from openvino import Type
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Parameter" and node.get_element_type().get_type_name() == "f16":
            node.set_element_type(Type.f32)
        elif kind == "Constant" and node.get_element_type().get_type_name() == "f16":
            _replace(node, ops.constant(node.get_data().astype(np.float32)))
        elif kind == "Convert" and _is_real(node.output(0)):
            source = node.input_value(0)
            if not _is_real(node.input(0)):  # of integers: int8 that is multiplied by its scale
                source = ops.convert(source, "f32").output(0)
            source.get_tensor().add_names(node.output(0).get_names())
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(source)
    model.validate_nodes_and_infer_types()
    return model


def with_feature_type(part: openvino.Model, outer_type: str) -> None:
    """Give the features at the edges of a part another type, what the part computes in.

    What the plugin computes in one go stands in one part, so each rounds as the whole graph does.
    Changes `part`.

    Args:
        part: see `ramedge.artifacts.graphs.cut`; float32.
        outer_type: OpenVINO's name, for example `bf16`.
    """
    from openvino import Type
    from openvino import opset13 as ops

    for parameter in part.get_parameters():
        if not _is_feature(parameter):
            continue
        targets = parameter.output(0).get_target_inputs()
        inside = ops.convert(parameter, "f32")
        for target in targets:
            target.replace_source_output(inside.output(0))
        parameter.set_element_type(getattr(Type, outer_type))
    for result in part.get_results():
        source = result.input_value(0)
        if _is_feature(source.get_node()):
            result.input(0).replace_source_output(ops.convert(source, outer_type).output(0))
    part.validate_nodes_and_infer_types()


def _is_feature(node: Any) -> bool:
    return roles.is_feature(node.get_friendly_name())


def _is_real(port: Any) -> bool:
    return port.get_element_type().get_type_name() in {"f16", "f32"}


def _divide_gates(model: openvino.Model) -> None:
    """σ(z)·x = ½x / (½ + exp(−z − ln 2)).

    Halved, because the plugin makes a sigmoid of 1 / (1 + exp(−z)) again. It overflows to
    infinity where the gate is 0, and x divided by that is 0.
    """
    from openvino import opset13 as ops

    for sigmoid in _nodes(model, "Sigmoid"):
        consumers = sigmoid.output(0).get_target_inputs()
        if len(consumers) != 1:
            continue
        product = next(iter(consumers)).get_node()
        if product.get_type_name() != "Multiply":
            continue
        (gated,) = (v for v in product.input_values() if v.get_node() != sigmoid)
        shifted = ops.add(sigmoid.input_value(0), np.float32(math.log(2.0)))
        falling = ops.exp(ops.multiply(shifted, np.float32(-1.0)))
        halved = ops.multiply(gated, np.float32(0.5))
        _replace(product, ops.divide(halved, ops.add(falling, np.float32(0.5))))


def _sum_by_columns(model: openvino.Model, half: bool) -> list[Any]:
    """Rewrite sums over the frame; returns small nodes that must not be rounded."""
    kept: list[Any] = []
    for mean in _nodes(model, "ReduceMean"):
        if not _over_frame(mean):
            continue
        features = _centred(mean)
        if half and features is not None:
            kept += _variance(mean, features)
        else:
            kept += _mean_by_columns(mean, mean.input_value(0), divided=True)
    replaced: set[str] = set()
    if half:
        for total in _nodes(model, "ReduceSum"):
            found = _masked(total) if _over_frame(total) else None
            if found is not None:
                kept += _interior_statistic(found)
                replaced |= {total.get_friendly_name(), found.mean.get_friendly_name()}
    for total in _nodes(model, "ReduceSum"):
        if _over_frame(total) and total.get_friendly_name() not in replaced:
            kept += _mean_by_columns(total, total.input_value(0), divided=False)
    model.validate_nodes_and_infer_types()
    return kept


def _variance(mean: Any, features: Any) -> list[Any]:
    """`mean` of squared differences as mean of squares less squared mean, from one reading each."""
    from openvino import opset13 as ops

    _, _, height, width = features.get_shape()
    rows, columns = np.array([2]), np.array([3])
    first = ops.reduce_sum(ops.reduce_mean(features, columns, True), rows, True)
    average = ops.multiply(first, np.float32(1.0 / height))
    length = ops.reduce_l2(features, columns, True)
    squares = ops.multiply(length, length)
    summed = ops.reduce_sum(squares, rows, True)
    power = ops.multiply(summed, np.float32(1.0 / (height * width)))
    square = ops.multiply(average, average)
    variance = ops.subtract(power, square)
    _replace(mean, variance)
    return [first, average, squares, summed, power, square, variance]


@dataclass(frozen=True, slots=True)
class _Masked:
    """M2 = Σ mask·(x − mean)² with mean = Σ x·mask/count, of a tile's interior.

    Attributes:
        m2, mean: the nodes of both sums.
        features, mask, count: outputs of the nodes that give x, mask and count.
    """

    m2: Any
    mean: Any
    features: Any
    mask: Any
    count: Any


def _masked(m2: Any) -> _Masked | None:
    product = m2.input_value(0).get_node()
    if product.get_type_name() != "Multiply":
        return None
    power, mask = product.input_value(0).get_node(), product.input_value(1)
    difference = power.input_value(0).get_node() if power.get_type_name() == "Power" else None
    if difference is None or difference.get_type_name() != "Subtract":
        return None
    mean = difference.input_value(1).get_node()
    if mean.get_type_name() != "ReduceSum" or not _over_frame(mean):
        return None
    share = mean.input_value(0).get_node().input_value(1).get_node()
    if share.get_type_name() != "Divide":
        return None
    return _Masked(m2, mean, difference.input_value(0), mask, share.input_value(1))


def _interior_statistic(found: _Masked) -> list[Any]:
    """The same as `_variance` of masked features: nothing but those is written in between."""
    from openvino import opset13 as ops

    inner = ops.multiply(found.features, found.mask)
    height, width = list(inner.get_output_shape(0))[2:]
    columns = np.array([3])
    # As products of matrices: what leads to an output without one stays in FP32 as a whole.
    ones = ops.constant(np.ones((1, 1, 1, height), np.float32))
    scaled = ops.multiply(ops.reduce_mean(inner, columns, True), np.float32(width))
    first = ops.matmul(ones, scaled, False, False)
    average = ops.divide(first, found.count)
    length = ops.reduce_l2(inner, columns, True)
    squares = ops.multiply(length, length)
    summed = ops.matmul(ones, squares, False, False)
    power = ops.multiply(first, average)
    m2 = ops.subtract(summed, power)
    _replace(found.mean, average)
    _replace(found.m2, ops.squeeze(m2, np.array(_FRAME_AXES)))
    return [scaled, first, average, squares, summed, power, m2]


def _mean_by_columns(node: Any, values: Any, divided: bool) -> list[Any]:
    """A mean or sum over the frame: the mean of each row, then the sum of those."""
    from openvino import opset13 as ops

    _, _, height, width = values.get_shape()
    rows = ops.reduce_mean(values, np.array([3]), True)
    factor = np.float32(1.0 / height if divided else width)
    scaled = ops.multiply(rows, factor)
    # Not a mean of means: the plugin would make one sum of both again.
    total = ops.reduce_sum(scaled, np.array([2]), True)
    _replace(node, total if node.get_keep_dims() else ops.squeeze(total, np.array(_FRAME_AXES)))
    return [scaled, total]


def _excitations(model: openvino.Model) -> Iterator[Any]:
    """The nodes of the two layers behind a statistic: convolutions, their biases and ReLU."""
    for convolution in _named(model, roles.is_excitation):
        yield convolution
        for biased in _sums(convolution):
            yield biased
            yield from (n for n in _consumers(biased) if n.get_type_name() == "Relu")


def _image_convolutions(model: openvino.Model) -> Iterator[Any]:
    """The head and the skip branch: their convolutions, biases, and what makes their input.

    In bfloat16 a white pixel less the mean is off by up to half a level before anything is done:
    the head's input had a larger share in the loss of half precision than all else together.
    """
    for convolution in _named(model, {roles.HEAD, roles.SKIP}.__contains__):
        yield convolution
        yield from _sums(convolution)
        source = convolution.input_value(0).get_node()
        while source.get_type_name() in _IMAGE_INPUT:
            yield source
            source = source.input_value(0).get_node()


def _named(model: openvino.Model, is_wanted: Callable[[str], bool]) -> Iterator[Any]:
    """The convolutions that have a role; where one has a bias, the sum with it has the name."""
    for node in model.get_ordered_ops():
        kind = node.get_type_name()  # an input of a part may have the name too
        if kind in {"Add", "Convolution"} and is_wanted(node.get_friendly_name()):
            yield node if kind == "Convolution" else node.input_value(0).get_node()


def _sums(convolution: Any) -> Iterator[Any]:
    """What is added to a convolution: its bias; without one, what the plugin fuses with it."""
    return (n for n in _consumers(convolution) if n.get_type_name() == "Add")


def _add_means(model: openvino.Model) -> None:
    """The picture less its mean as a sum, since the plugin makes one of it, unmarked.

    Around int8 it changes sums as well and rounds the picture all the same, but not in parts of the
    graph without int8: those must round as the frame does, so nothing is done there.
    """
    from openvino import opset13 as ops

    for difference in [n for n in _image_convolutions(model) if n.get_type_name() == "Subtract"]:
        minuend, subtrahend = difference.input_values()
        opposite = ops.constant(-subtrahend.get_node().get_data())
        _replace(difference, ops.add(minuend, opposite))


def _in_single_precision(
    core: openvino.Core, model: openvino.Model, nodes: Sequence[Any]
) -> openvino.Model:
    """The model with `nodes` marked as precise, which a half-precision hint leaves in FP32.

    The mark is an attribute of OpenVINO's IR that its Python objects cannot carry.

    Raises:
        OutputError: the temporary folder cannot hold the IR.
    """
    import openvino

    names = {node.get_friendly_name() for node in nodes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        try:
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError:
            raise OutputError(
                f"No room for a copy of the model in the temporary folder {tempfile.gettempdir()}: "
                "free some there, or name another in TMPDIR."
            ) from None
        document = ET.parse(path)  # noqa: S314  # written by OpenVINO just now
        weights = path.with_suffix(".bin").read_bytes()
    for layer in document.iter("layer"):
        if layer.get("name") in names:
            marks = layer.find("rt_info")
            if marks is None:
                marks = ET.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, marks)
            ET.SubElement(marks, "attribute", {"name": "precise", "version": "0"})
    return core.read_model(ET.tostring(document.getroot()), weights)


def _nodes(model: openvino.Model, kind: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def _consumers(node: Any) -> list[Any]:
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def _least_side(model: openvino.Model) -> int:
    sides = (min(node.get_output_shape(0)[2:]) for node in _nodes(model, "Convolution"))
    return max(sides, default=_LEAST_SIDE)


def _over_frame(reduction: Any) -> bool:
    axes = reduction.input_value(1).get_node()
    return (
        reduction.input_value(0).get_partial_shape().rank.get_length() == 4
        and axes.get_type_name() == "Constant"
        and sorted(axis % 4 for axis in axes.get_vector().astype(int)) == list(_FRAME_AXES)
    )


def _centred(mean: Any) -> Any:
    """The features x where `mean` is that of (x − mean(x))², else `None`."""
    square = mean.input_value(0).get_node()
    if square.get_type_name() != "Multiply" or square.input_value(0) != square.input_value(1):
        return None
    difference = square.input_value(0).get_node()
    return difference.input_value(0) if difference.get_type_name() == "Subtract" else None


def _replace(node: Any, replacement: Any) -> None:
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(replacement.output(0))
