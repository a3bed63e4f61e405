"""Names nodes by their role (`ramedge.artifacts.roles`) in the graph that PyTorch exported.

The exporter keeps the modules' names in those of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx

from ramedge.artifacts import roles

_MODULES = (
    (re.compile(r"^network\."), ""),
    (re.compile(r"^tails\.x\d+\.picture$"), roles.SKIP),
    (re.compile(r"^tails\.x\d+\.merged$"), roles.TAIL),
    (re.compile(r"^tails\.x\d+\.tail\."), "tail."),
    (re.compile(r"\.attention\.excitation\.fc1$"), ".squeeze"),
    (re.compile(r"\.attention\.excitation\.fc2$"), ".excite"),
    (re.compile(r"\.attention\.depthwise$"), ".depthwise"),
)
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_OF_STRIPS = frozenset({"Conv", "DepthToSpace", "Cast"})
"""What the strips of the rim go through."""


def name_by_role(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its convolutions, gates, sums of blocks and statistics named; changes it."""
    graph = model.graph
    names = _convolutions(graph)
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {role: name for name, role in names.items()}
    for block in range(1, len(graph.node)):
        transformed = outputs.get(roles.transformed(block))
        if transformed is None:
            break
        products = [node for node in readers[transformed] if node.op_type == "Mul"]
        gates = [makers.get(_other(product, transformed)) for product in products]
        found = [pair for pair in zip(products, gates, strict=True) if _is_sigmoid(pair[1])]
        # The paper's attention has one gate, added to what came before; others have no role here.
        if len(found) != 1 or len(readers[found[0][0].output[0]]) != 1:
            continue
        ((gated, gate),) = found
        assert gate is not None
        (summed,) = readers[gated.output[0]]
        names[gate.output[0]] = roles.gate(block)
        names[gated.output[0]] = roles.gated(block)
        names[summed.output[0]] = roles.features(block)
    for output, role in (("mean", roles.mean), ("m2", roles.m2)):
        stacked = makers.get(output)
        if stacked is not None and stacked.op_type == "Concat":
            names |= {name: role(index) for index, name in enumerate(stacked.input, start=1)}
    _rename(graph, names)
    return model


def _convolutions(graph: onnx.GraphProto) -> dict[str, str]:
    """Role of each convolution by the tensor that it makes."""
    strips: set[str] = set()
    found: dict[str, str] = {}
    for node in graph.node:
        is_strip = node.op_type == "Slice" or (
            node.op_type in _OF_STRIPS and node.input[0] in strips
        )
        if is_strip:
            strips.update(node.output)
        module = _module(node) if node.op_type == "Conv" else None
        if module is not None:
            role = _role_of(module)
            found[node.output[0]] = _free(roles.RIM + role if is_strip else role, found)
    return found


def _module(convolution: onnx.NodeProto) -> str | None:
    """The module that a convolution was: by its weight, or where that is quantized by its bias."""
    for name in convolution.input[1:]:
        if name.endswith((".weight", ".bias")):
            return str(name).rpartition(".")[0]
    return None


def _role_of(module: str) -> str:
    for pattern, replacement in _MODULES:
        module = pattern.sub(replacement, module)
    return _BLOCK.sub(lambda found: f"block{int(found[1]) + 1}.", module)


def _free(role: str, taken: Mapping[str, str]) -> str:
    number, found = 2, role
    while found in taken.values():
        found, number = f"{role}.{number}", number + 1
    return found


def _is_sigmoid(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "Sigmoid"


def _other(node: onnx.NodeProto, known: str) -> str:
    return next((name for name in node.input if name != known), known)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    kept = {value.name for value in graph.output}
    names = {old: new for old, new in names.items() if old not in kept}
    for node in graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                if name in names:
                    values[place] = names[name]
        if node.output[0] in names.values():
            node.name = node.output[0]
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
