"""The tile graph cut at the features between its blocks, for frames that are run block by block.

Part 0 goes from the pixels to F_0 and X_1, part r from F_{r-1} and X_r to F_r and X_{r+1}, and part
R from F_{R-1} and X_R to the upscaled pixels, where F_r = F_{r-1} + σ(l_r ⊕ SA(X_r)) ⊗ X_r. What
the plugin computes in one go stands in one part, so each rounds as the whole graph does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True, slots=True)
class _Features:
    """The nodes that give F_0 … F_R, X_1 … X_R, and each block's mean and M2."""

    residual: list[Any]
    transformed: list[Any]
    mean: list[Any]
    m2: list[Any]


def count_blocks(tile: openvino.Model) -> int:
    """R, or 0 where the graph cannot be cut."""
    found = _find(tile)
    return 0 if found is None else len(found.transformed)


def part(tile: openvino.Model, index: int, outer_type: str) -> openvino.Model:
    """One part of the tile graph, a copy.

    Inputs are those of the tile graph that it reads (pixels, logits, mask), then F and X where
    `index` is not 0; outputs F, X, and mean and M2 of X, `[1, C]`, or the upscaled pixels.

    Args:
        tile: the tile graph, with pixels as its first input and output.
        index: 0 to R.
        outer_type: of F and X where they are kept, for example `bf16`: what the part computes in.
    """
    from openvino import Model, Type
    from openvino import opset13 as ops

    model = tile.clone()
    found = _find(model)
    assert found is not None
    blocks = len(found.transformed)
    given = []
    if index > 0:
        for node in (found.residual[index - 1], found.transformed[index - 1]):
            output = node.output(0)
            outside = ops.parameter(output.get_partial_shape(), getattr(Type, outer_type))
            inside = ops.convert(outside, "f32")
            for consumer in output.get_target_inputs():
                consumer.replace_source_output(inside.output(0))
            given.append(outside)
    pixels, logits, mask = model.get_parameters()
    if index == blocks:
        return Model([model.get_results()[0]], [pixels, logits, *given], f"part_{index}")
    kept = [found.residual[index], found.transformed[index]]
    kept = [ops.convert(node, outer_type) for node in kept]
    kept += [found.mean[index], found.m2[index]]
    own = [pixels] if index == 0 else [logits]
    return Model([ops.result(node) for node in kept], [*own, mask, *given], f"part_{index}")


def _find(tile: openvino.Model) -> _Features | None:
    """The nodes between the blocks: each block has the one gate σ(·)·X, added to F."""
    residual: list[Any] = []
    transformed: list[Any] = []
    for sigmoid in (n for n in tile.get_ordered_ops() if n.get_type_name() == "Sigmoid"):
        gate = _only_consumer(sigmoid, "Multiply")
        fused = None if gate is None else _only_consumer(gate, "Add")
        if gate is None or fused is None:
            return None
        before = _other(fused, gate)
        if residual and before != residual[-1]:
            return None
        residual += [fused] if residual else [before, fused]
        transformed.append(_other(gate, sigmoid))
    means, squares = (_stacked(tile, name) for name in ("mean", "m2"))
    if not transformed or not len(means) == len(squares) == len(transformed):
        return None
    if any(n.get_output_element_type(0).get_type_name() != "f32" for n in transformed):
        return None
    return _Features(residual, transformed, means, squares)


def _stacked(tile: openvino.Model, name: str) -> list[Any]:
    """What the blocks contribute to an output `[1, R, C]`, `[1, 1, C]` each."""
    concat = tile.output(name).get_node().input_value(0).get_node()
    if concat.get_type_name() != "Concat":
        return []
    return [value.get_node() for value in concat.input_values()]


def _only_consumer(node: Any, kind: str) -> Any:
    targets = [target.get_node() for target in node.output(0).get_target_inputs()]
    return targets[0] if len(targets) == 1 and targets[0].get_type_name() == kind else None


def _other(node: Any, known: Any) -> Any:
    first, second = (value.get_node() for value in node.input_values())
    return second if first == known else first
