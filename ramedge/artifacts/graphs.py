"""What is cut from a network's ONNX graphs, or put around them, for every backend alike.

Of a network there are two graphs, `frame` and `tile`. From the tile graph are cut `statistics`, and
the parts between two blocks in which a frame is run block by block: part 0 goes from the image to
F_0 and X_1, part r from F_{r-1} and X_r to F_r and X_{r+1}, and part R from F_{R-1} and X_R to
the upscaled image, where F_r = F_{r-1} + σ(l_r ⊕ SA(X_r)) ⊗ X_r (paper, Eq. 5).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from ramedge.artifacts import roles

FRAME, TILE, STATISTICS = "frame", "tile", "statistics"
"""Names of graphs; those of the parts are `part_name(0)` to `part_name(R)`."""
GraphKind = Literal["frame", "tile", "statistics"]
"""Graphs of a whole network; the others are parts of it."""
PixelType = Literal["uint8", "uint16", "float32"]
"""What a graph takes and gives: integer pixels `[N, H, W, 3]`, or floats `[N, 3, H, W]` in [0, 1].
"""

IMAGE, LOGITS, MASK, UPSCALED, PIXELS = "image", "logits", "mask", "upscaled", "pixels"
_PREFIX = "ramedge_"
_CLIPPED = {"uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16}


def part_name(index: int) -> str:
    """The name of a part: `part0` to `partR`."""
    return f"part{index}"


def part_index(name: str) -> int | None:
    """Which part a graph is; `None` where it is another graph.

    >>> part_index("part3"), part_index("tile")
    (3, None)
    """
    return int(name[4:]) if name.startswith("part") else None


def count_blocks(tile: onnx.ModelProto) -> int:
    """R; 0 where the tile graph cannot be cut between its blocks."""
    names = {name for node in tile.graph.node for name in node.output}
    count = 0
    while {roles.features(count + 1), roles.transformed(count + 1), roles.mean(count + 1)} <= names:
        count += 1
    return count


def graph_names(tile: onnx.ModelProto | None) -> tuple[str, ...]:
    """Every graph of a network with this tile graph."""
    if tile is None:
        return (FRAME,)
    blocks = count_blocks(tile)
    return (FRAME, TILE, STATISTICS, *(part_name(index) for index in range(blocks + 1) if blocks))


def cut(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A graph of a network, with its inputs and outputs in this order.

    `frame`: `image` → `upscaled`. `tile`: `image`, `logits`, `mask` → `upscaled`, `mean`, `m2`.
    `statistics`: the same inputs → `mean`, `m2`. Part 0: `image`, `mask` → F, X, and mean and M2
    of X, `[N, 1, C]`; part r: `logits`, `mask`, F, X → the same; part R: `image`, `logits`, F, X →
    `upscaled`. Features have the type that they have in the graph, float32 or float16.

    Args:
        model: the network's frame graph for `frame`, its tile graph for all others.
        name: of the graph.
    """
    if name in {FRAME, TILE}:
        return model
    extractor = Extractor(onnx.shape_inference.infer_shapes(model))
    if name == STATISTICS:
        return extractor.extract_model([IMAGE, LOGITS, MASK], ["mean", "m2"])
    index = part_index(name)
    assert index is not None, name
    blocks = count_blocks(model)
    given = [roles.features(index - 1), roles.transformed(index)] if index else []
    if index == blocks:
        return extractor.extract_model([IMAGE, LOGITS, *given], [UPSCALED])
    following = index + 1
    made = [roles.features(index), roles.transformed(following)]
    made += [roles.mean(following), roles.m2(following)]
    own = [LOGITS] if index else [IMAGE]
    return extractor.extract_model([*own, MASK, *given], made)


def with_pixels(model: onnx.ModelProto, pixels: PixelType) -> onnx.ModelProto:
    """A graph whose image is of NHWC pixels: scaled to [0, 1], back, clipped, rounded half to even.

    A graph without an image, and any graph of `float32`, stays as it is.
    """
    graph = model.graph
    takes = any(value.name == IMAGE for value in graph.input)
    gives = any(value.name == UPSCALED for value in graph.output)
    if pixels == "float32" or not (takes or gives):
        return model
    kind, highest = _CLIPPED[pixels], float(np.iinfo(pixels).max)
    peak, zero, step = _PREFIX + "peak", _PREFIX + "zero", _PREFIX + "step"
    constants = {peak: highest, zero: 0.0, step: 1.0 / highest}
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
    inputs = [helper.make_tensor_value_info(PIXELS, kind, ["n", "h", "w", 3])]
    inputs += [value for value in graph.input if value.name != IMAGE]
    after: list[onnx.NodeProto] = []
    outputs = list(graph.output)
    if gives:
        large = _PREFIX + "large"
        after = _chain(
            UPSCALED,
            large,
            [
                ("Mul", [peak], {}),
                ("Clip", [zero, peak], {}),
                ("Round", [], {}),
                ("Transpose", [], {"perm": [0, 2, 3, 1]}),
                ("Cast", [], {"to": kind}),
            ],
        )
        outputs[0] = helper.make_tensor_value_info(large, kind, ["n", "sh", "sw", 3])
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
