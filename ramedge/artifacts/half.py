"""Where half precision goes: an FP32 ONNX graph of the network becomes one in FP16.

Every convolution over features is FP16, and what stands between them. The variance, the two layers
behind it, the mean shift, the image-space skip branch and the output stay FP32: they overflow, or
lose what 8 bits can show. Graphs with int8 in them get FP16 around it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ramedge.errors import ExportError

_SINGLE = (".excitation.", ".picture.")
"""Parts of the names of weights whose convolutions stay FP32."""
_FLOAT_SUMS = frozenset({"ReduceMean", "ReduceSum"})
_TYPES = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "half"}


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph of ours with FP16 where FP16 is enough; inputs and outputs stay FP32.

    Args:
        model: any graph kind, FP32 or with QuantizeLinear/DequantizeLinear pairs in it.

    Raises:
        ExportError: the result is no valid ONNX graph.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    _Converter(converted.graph).run()
    try:
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"This graph has no form in half precision: {error}") from None
    return converted


def is_half(model: onnx.ModelProto) -> bool:
    """Whether a graph has FP16 weights."""
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)


class _Converter:
    """Goes through the nodes in their order and gives each its type.

    Attributes:
        types: of the tensors so far, by name: `float` or `half`; others are not numbers to round.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._halved: dict[str, onnx.TensorProto] = {}
        self._casts: dict[tuple[str, str], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._from_image: set[str] = set()
        self.types = {
            value.name: _TYPES[value.type.tensor_type.elem_type]
            for value in graph.input
            if value.type.tensor_type.elem_type in _TYPES
        }

    def run(self) -> None:
        for node in list(self._graph.node):
            kind = self._kind(node)
            if kind is not None:
                for place, name in enumerate(node.input):
                    node.input[place] = self._as(name, kind)
            self._nodes.append(node)
            self._note(node, kind)
        self._end()
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:], self._graph.node[:], self._graph.value_info[:]
        self._graph.initializer.extend([*kept, *self._halved.values()])
        self._graph.node.extend(self._nodes)

    def _kind(self, node: onnx.NodeProto) -> str | None:
        """What a node computes in; `None` where it computes nothing that is rounded."""
        if node.op_type == "Conv":
            single = any(part in name for name in node.input for part in _SINGLE)
            return "float" if single else "half"
        if node.op_type == "DequantizeLinear":
            return "half"
        types = {self.types[name] for name in node.input if name in self.types}
        if not types:
            return None
        if node.op_type in _FLOAT_SUMS or types == {"float"}:
            return "float"
        if types == {"half"}:
            return "half"
        # Attention logits are added to features in FP16; sums with the skip branch are FP32, as
        # are the differences and products of the variance.
        skips = any(name in self._from_image for name in node.input)
        return "half" if node.op_type == "Add" and not skips else "float"

    def _as(self, name: str, kind: str) -> str:
        """The name of a tensor in a type: itself, its FP16 copy, or the output of a Cast."""
        tensor = self._weights.get(name)
        if tensor is not None:
            if kind == "float" or tensor.data_type != TensorProto.FLOAT:
                return name
            return self._halve(name, tensor)
        if self.types.get(name, kind) == kind:
            return name
        if (name, kind) not in self._casts:
            made = f"{name}_{kind}"
            target = TensorProto.FLOAT if kind == "float" else TensorProto.FLOAT16
            self._nodes.append(
                helper.make_node("Cast", [name], [made], name=f"{made}_cast", to=target)
            )
            self._casts[name, kind] = made
        return self._casts[name, kind]

    def _halve(self, name: str, tensor: onnx.TensorProto) -> str:
        made = f"{name}_half"
        if made not in self._halved:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            self._halved[made] = numpy_helper.from_array(values, made)
        return made

    def _note(self, node: onnx.NodeProto, kind: str | None) -> None:
        if kind is None or node.op_type in {"Shape", "QuantizeLinear"}:
            return
        self.types.update((name, kind) for name in node.output)
        if any(".picture." in name for name in node.input) or (
            node.op_type != "Conv" and self._from_image.intersection(node.input)
        ):
            self._from_image.update(node.output)

    def _end(self) -> None:
        """Outputs are FP32."""
        for output in self._graph.output:
            if self.types.get(output.name) == "half":
                inner = f"{output.name}_half"
                _rename_output(self._nodes, output.name, inner)
                self._nodes.append(
                    helper.make_node("Cast", [inner], [output.name], to=TensorProto.FLOAT)
                )


def _rename_output(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
