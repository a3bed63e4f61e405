"""Reads any quantized ONNX file and names what would make an engine wrong.

Parsers forgive what they should not: TensorRT takes uint8 with zero point 0 as int8 and clips half
the range, with a warning at most. So every file is read before a build, also one from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ramedge.artifacts.storage import read_graph
from ramedge.errors import ExportError, WeightsError

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_INT8 = onnx.TensorProto.INT8
_OWN_DOMAINS = {"", "ai.onnx"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: the node, and what is wrong with it, in one line."""

    node: str
    fault: str

    def __str__(self) -> str:
        return f"{self.node}: {self.fault}"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What has to stay in high precision.

    Attributes:
        high: names of convolutions that must not be quantized, beside those that never may:
            depth-wise ones, and those of the channel attention (1×1).
    """

    high: frozenset[str] = frozenset()


def audit_file(path: Path, settings: AuditSettings | None = None) -> None:
    """Refuse a quantized ONNX file with any fault.

    Raises:
        WeightsError: the file is not ONNX.
        ExportError: it has faults; the message names the first and counts the others.
    """
    findings = audit(read_model(path), settings)
    if findings:
        more = f" (and {len(findings) - 1} more faults)" if len(findings) > 1 else ""
        raise ExportError(f"{path.name} must not be built: {findings[0]}{more}")


def read_model(path: Path) -> onnx.ModelProto:
    """An ONNX file, and the weights beside it.

    Raises:
        WeightsError: the file is not ONNX, or empty, or its weights cannot be read.
    """
    model = read_graph(path)
    if not model.graph.node:
        raise WeightsError(f"{path} is not an ONNX file: it has no nodes.")
    return model


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether it quantizes anything, in a subgraph or by another domain's operators too."""
    return _quantizes(model.graph)


def _quantizes(graph: onnx.GraphProto) -> bool:
    return any(
        node.op_type.endswith("QuantizeLinear") or any(map(_quantizes, _subgraphs(node)))
        for node in graph.node
    )


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def audit(model: onnx.ModelProto, settings: AuditSettings | None = None) -> list[Finding]:
    """All faults of a quantized model, in the order of its nodes; empty where there are none."""
    return list(_Audit(model, settings or AuditSettings()))


class _Audit:
    def __init__(self, model: onnx.ModelProto, settings: AuditSettings) -> None:
        self.graph = model.graph
        self.settings = settings
        self.values = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None:
                    self.values[node.output[0]] = numpy_helper.to_array(value)
        self.outputs = {output.name for output in self.graph.output}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def __iter__(self) -> Iterator[Finding]:
        for node in self.graph.node:
            name = node.name or node.output[0]
            for fault in self._faults(node):
                yield Finding(name, fault)

    def _faults(self, node: onnx.NodeProto) -> Iterator[str]:
        if any(map(_quantizes, _subgraphs(node))):
            yield f"QuantizeLinear inside {node.op_type}: engines need it in the main graph"
        if node.op_type in {_Q, _DQ}:
            if node.domain not in _OWN_DOMAINS:
                yield f"{node.op_type} of {node.domain}: engines read ONNX's own only"
            yield from self._scale_faults(node)
            yield from self._zero_point_faults(node)
            yield from self._pairing_faults(node)
        elif node.op_type == "Conv":
            yield from self._convolution_faults(node)
        elif node.op_type in {"QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"}:
            yield f"{node.op_type} is the operator form: engines need QuantizeLinear pairs"
        elif node.op_type == "DynamicQuantizeLinear":
            yield "ranges measured while it runs make uint8 with moving zero points"

    def _scale_faults(self, node: onnx.NodeProto) -> Iterator[str]:
        scale = self._constant(node, 1)
        if scale is None:
            yield "its scale is not a constant"
            return
        if not np.isfinite(scale).all():
            yield "a scale is NaN or infinite"
            return
        dead = scale < np.finfo(scale.dtype).tiny  # subnormal numbers count as zero in engines
        if dead.any():
            yield f"a dead scale: {int(dead.sum())} of {scale.size} are not positive"

    def _zero_point_faults(self, node: onnx.NodeProto) -> Iterator[str]:
        zero = self._constant(node, 2)
        if zero is None:
            if len(node.input) < 3 or not node.input[2]:
                stored = self._constant(node, 0) if node.op_type == _DQ else None
                says = any(a.name == "output_dtype" and a.i == _INT8 for a in node.attribute)
                unsaid = node.op_type == _Q and not says
                if unsaid or (stored is not None and stored.dtype == np.uint8):
                    yield "without a zero point its type is uint8: engines take it as int8"
            else:
                yield "its zero point is not a constant"
            return
        if zero.dtype == np.uint8:
            yield "uint8: engines take it as int8 and clip half the range"
        elif zero.dtype == np.int32:
            yield "an int32 bias: keep biases in floating point"
        elif zero.dtype != np.int8:
            yield f"{zero.dtype} instead of int8"
        if zero.any():
            yield f"a zero point of {int(zero.ravel()[np.flatnonzero(zero)[0]])} instead of 0"

    def _pairing_faults(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.op_type == _Q:
            users = self.users.get(node.output[0], [])
            leaves = node.output[0] in self.outputs
            if leaves or not users or any(user.op_type != _DQ for user in users):
                yield "not followed by DequantizeLinear only"
                return
            for user in users:
                if not self._same(node, user, 1) or not self._same(node, user, 2):
                    yield f"its scale or zero point is not that of {user.name or user.output[0]}"
            return
        stored = self._constant(node, 0)
        if stored is not None:
            if stored.dtype == np.int32:
                yield "an int32 bias: keep biases in floating point"
            return
        maker = self.makers.get(node.input[0])
        if maker is None or maker.op_type != _Q:
            yield "no QuantizeLinear before it"

    def _convolution_faults(self, node: onnx.NodeProto) -> Iterator[str]:
        quantized = [
            maker is not None and maker.op_type == _DQ
            for maker in (self.makers.get(name) for name in node.input[:2])
        ]
        if not any(quantized):
            return
        if not all(quantized):
            yield "only one of input and weights is quantized"
        if node.name in self.settings.high:
            yield "quantized, but to stay in high precision"
        weight = self._weight(node)
        if weight is None:
            return
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        if group > 1:
            yield "a depth-wise convolution is quantized: slower, and it feeds the attention"
        elif weight.shape[2:] == (1, 1):
            yield "the channel attention is quantized: its variances span many orders"

    def _weight(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        maker = self.makers.get(node.input[1])
        source = node.input[1] if maker is None else maker.input[0]
        if source in self.values:
            return self.values[source]
        before = self.makers.get(source)  # QuantizeLinear of a float weight
        return None if before is None else self.values.get(before.input[0])

    def _constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        return self.values.get(node.input[index]) if len(node.input) > index else None

    def _same(self, first: onnx.NodeProto, second: onnx.NodeProto, index: int) -> bool:
        one, two = self._constant(first, index), self._constant(second, index)
        if one is None or two is None:
            return one is two
        return bool(np.array_equal(one, two))
