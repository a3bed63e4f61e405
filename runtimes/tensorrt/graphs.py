"""ONNX graphs made from an artifact's, without PyTorch: pixels inside, statistics alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from ramedge.artifacts.storage import read_graph
from ramedge.errors import WeightsError

GraphKind = Literal["frame", "tile", "statistics"]
Values = Literal["uint8", "float32"]
"""What an engine takes and gives: 8-bit pixels `[N, H, W, 3]`, or floats `[N, 3, H, W]`."""

IMAGE, UPSCALED, PIXELS = "image", "upscaled", "pixels"
_PREFIX = "ramedge_"
_PEAK = 255.0


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and check it.

    Raises:
        WeightsError: it is not a whole, valid ONNX file.
    """
    model = read_graph(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf's and onnx's errors share no public base
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise WeightsError(f"{path} is damaged or not an ONNX file: {reason}") from None
    return model


def make_graph(model: onnx.ModelProto, kind: GraphKind, values: Values) -> onnx.ModelProto:
    """The graph an engine is built from.

    Args:
        model: of the graph kind `frame`, or `tile` for both others.
        kind: `statistics` drops what only the upscaled tile needs.
        values: `uint8` puts the conversion of pixels into the graph.
    """
    if kind == "statistics":
        names = [value.name for value in model.graph.input]
        model = Extractor(model).extract_model(names, ["mean", "m2"])
    return with_pixels(model) if values == "uint8" else model


def with_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network between 8-bit NHWC pixels: to [0, 1], back, clipped, rounded half to even.

    16-bit pixels have no such graph: TensorRT has no uint16.
    """
    graph = model.graph
    peak, zero, step = _PREFIX + "peak", _PREFIX + "zero", _PREFIX + "step"
    constants = {peak: _PEAK, zero: 0.0, step: 1.0 / _PEAK}
    numbers = [numpy_helper.from_array(np.float32(v), name) for name, v in constants.items()]
    before = _chain(
        PIXELS,
        IMAGE,
        [
            ("Cast", [], {"to": TensorProto.FLOAT}),
            ("Mul", [step], {}),
            ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ],
    )
    inputs = [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["n", "h", "w", 3])]
    inputs += [value for value in graph.input if value.name != IMAGE]
    after: list[onnx.NodeProto] = []
    outputs = list(graph.output)
    if outputs[0].name == UPSCALED:
        large = _PREFIX + "large"
        after = _chain(
            UPSCALED,
            large,
            [
                ("Mul", [peak], {}),
                ("Clip", [zero, peak], {}),
                ("Round", [], {}),
                ("Transpose", [], {"perm": [0, 2, 3, 1]}),
                ("Cast", [], {"to": TensorProto.UINT8}),
            ],
        )
        outputs[0] = helper.make_tensor_value_info(large, TensorProto.UINT8, ["n", "sh", "sw", 3])
    made = helper.make_graph(
        [*before, *graph.node, *after],
        f"{graph.name}_pixels",
        inputs,
        outputs,
        [*graph.initializer, *numbers],
    )
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)


def _chain(
    source: str, target: str, steps: list[tuple[str, list[str], dict[str, Any]]]
) -> list[onnx.NodeProto]:
    nodes = []
    for index, (operator, others, attributes) in enumerate(steps):
        output = target if index == len(steps) - 1 else f"{_PREFIX}{target}_{index}"
        name = f"{_PREFIX}{target}_{operator.lower()}"
        nodes.append(helper.make_node(operator, [source, *others], [output], name, **attributes))
        source = output
    return nodes
