from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.audit import AuditSettings, audit, audit_file, is_quantized
from ramedge.errors import ExportError, WeightsError

WEIGHT = np.random.default_rng(0).integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)


def quantized_convolution(
    zero: np.generic | None = np.int8(0),  # noqa: B008
    scale: float = 0.02,
    weight: np.ndarray = WEIGHT,
    weight_scale: np.ndarray | None = None,
    weight_zero: np.ndarray | None = None,
    group: int = 1,
    second_scale: float | None = None,
) -> onnx.ModelProto:
    """x → Q → DQ → Conv ← DQ ← int8 weight: explicit quantization as engines want it."""
    channels = weight.shape[0]
    constants = {
        "scale": np.float32(scale),
        "scale2": np.float32(scale if second_scale is None else second_scale),
        "weight": weight,
        "weight_scale": np.full(channels, 0.01, np.float32)
        if weight_scale is None
        else weight_scale,
        "weight_zero": np.zeros(channels, np.int8) if weight_zero is None else weight_zero,
        "bias": np.zeros(channels, np.float32),
    }
    zeros = []
    if zero is not None:
        constants["zero"] = np.asarray(zero)
        zeros = ["zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", *zeros], ["q"], name="q_x"),
        helper.make_node("DequantizeLinear", ["q", "scale2", *zeros], ["xd"], name="dq_x"),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["wd"],
            name="dq_w", axis=0,
        ),
        helper.make_node(
            "Conv", ["xd", "wd", "bias"], ["y"], name="conv", pads=[1, 1, 1, 1], group=group
        ),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def faults(model: onnx.ModelProto, settings: AuditSettings | None = None) -> list[str]:
    return [str(finding) for finding in audit(model, settings)]


def test_what_engines_want_passes(tmp_path: Path) -> None:
    model = quantized_convolution()
    onnx.checker.check_model(model, full_check=True)
    assert faults(model) == []
    onnx.save(model, tmp_path / "m.onnx")
    audit_file(tmp_path / "m.onnx")


def drop_second_pair(model: onnx.ModelProto) -> None:
    """The activation goes in unquantized, the weight quantized."""
    model.graph.node[3].input[0] = "x"


def unpair(model: onnx.ModelProto) -> None:
    model.graph.node.remove(model.graph.node[0])
    model.graph.input[0].name = "q"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8


def int32_bias(model: onnx.ModelProto) -> None:
    for name, value in {"b": np.zeros(8, np.int32), "bs": np.full(8, 0.1, np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    node = helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], name="dq_b", axis=0)
    model.graph.node.insert(3, node)
    model.graph.node[4].input[2] = "bd"


def give_out(model: onnx.ModelProto) -> None:
    """Its integers leave the graph, too."""
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.INT8, [1, 4, 8, 8]))


def contributed(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def hide_in_a_branch(model: onnx.ModelProto) -> None:
    """All of it inside an If, where a look at the main graph sees nothing."""
    graph = model.graph
    branch = helper.make_graph(list(graph.node), "branch", [], list(graph.output))
    del graph.node[:]
    graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    graph.node.append(
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch, else_branch=branch)
    )


def unchanged(model: onnx.ModelProto) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "change", "node", "fault"),
    [
        (lambda: quantized_convolution(np.uint8(0)), unchanged, "q_x", "uint8"),
        (lambda: quantized_convolution(None), unchanged, "q_x", "uint8"),
        (lambda: quantized_convolution(np.int8(-3)), unchanged, "q_x", "zero point of -3"),
        (
            lambda: quantized_convolution(weight_zero=np.arange(8).astype(np.int8)),
            unchanged,
            "dq_w",
            "zero point of 1",
        ),
        (lambda: quantized_convolution(scale=0.0), unchanged, "q_x", "dead scale"),
        (lambda: quantized_convolution(scale=float("nan")), unchanged, "q_x", "NaN"),
        (
            lambda: quantized_convolution(weight_scale=np.array([0.1] * 7 + [np.inf], np.float32)),
            unchanged,
            "dq_w",
            "infinite",
        ),
        (lambda: quantized_convolution(second_scale=0.5), unchanged, "q_x", "not that of dq_x"),
        (
            lambda: quantized_convolution(weight=WEIGHT[:4, :1], group=4),
            unchanged,
            "conv",
            "depth-wise",
        ),
        (
            lambda: quantized_convolution(weight=WEIGHT[:, :, :1, :1]),
            unchanged,
            "conv",
            "channel attention",
        ),
        (quantized_convolution, drop_second_pair, "conv", "only one of"),
        (quantized_convolution, unpair, "dq_x", "no QuantizeLinear"),
        (quantized_convolution, int32_bias, "dq_b", "int32 bias"),
        (quantized_convolution, give_out, "q_x", "not followed by DequantizeLinear only"),
        (quantized_convolution, contributed, "q_x", "of com.microsoft"),
        (quantized_convolution, hide_in_a_branch, "if", "inside If"),
        (lambda: quantized_convolution(scale=1e-42), unchanged, "q_x", "dead scale"),
    ],
)
def test_each_fault_is_named(
    make: Callable[[], onnx.ModelProto],
    change: Callable[[onnx.ModelProto], None],
    node: str,
    fault: str,
    tmp_path: Path,
) -> None:
    model = make()
    change(model)
    assert any(line.startswith(f"{node}:") and fault in line for line in faults(model))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"m\.onnx must not be built"):
        audit_file(tmp_path / "m.onnx")


def test_a_type_said_by_output_dtype_is_as_good_as_a_zero_point() -> None:
    """QuantizeLinear of opset 21."""
    model = quantized_convolution(None)
    model.opset_import[0].version = 21
    attribute = helper.make_attribute("output_dtype", TensorProto.INT8)
    model.graph.node[0].attribute.append(attribute)
    onnx.checker.check_model(model, full_check=True)
    assert faults(model) == []


@pytest.mark.parametrize("change", [unchanged, contributed, hide_in_a_branch])
def test_quantized_models_are_told_wherever_it_stands(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    model = quantized_convolution()
    change(model)
    assert is_quantized(model)


def test_a_convolution_to_stay_high_is_named() -> None:
    settings = AuditSettings(high=frozenset({"conv"}))
    assert faults(quantized_convolution(), settings) == [
        "conv: quantized, but to stay in high precision"
    ]


def test_onnxruntimes_default_is_refused_and_its_symmetric_form_passes(tmp_path: Path) -> None:
    """The quantizer everyone uses: uint8, zero points and int32 biases unless told otherwise."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            self.rest = [{"x": rng.random((1, 4, 8, 8), dtype=np.float32)} for _ in range(3)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.rest.pop() if self.rest else None

    weight = WEIGHT.astype(np.float32) * 0.01
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 8, 8])],
        [numpy_helper.from_array(weight, "w"),
         numpy_helper.from_array(np.ones(8, np.float32), "b")],
    )  # fmt: skip
    plain = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), plain)
    quantize_static(
        plain, tmp_path / "default.onnx", Reader(), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
    )  # fmt: skip
    lines = faults(onnx.load(tmp_path / "default.onnx"))
    assert any("uint8" in line for line in lines)
    assert any("int32 bias" in line for line in lines)
    quantize_static(
        plain, tmp_path / "symmetric.onnx", Reader(), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True,
                       "QuantizeBias": False},
    )  # fmt: skip
    assert faults(onnx.load(tmp_path / "symmetric.onnx")) == []


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    for content in (b"nonsense", b""):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(WeightsError, match=r"m\.onnx"):
            audit_file(tmp_path / "m.onnx")


def test_the_shipped_models_pass() -> None:
    from ramedge.weights import shipped_artifact, shipped_precisions, shipped_scales

    for scale in shipped_scales():
        for precision in shipped_precisions(scale):
            artifact = load_artifact(shipped_artifact(scale, precision))
            for model in (artifact.model, artifact.tile):
                assert model is not None
                audit_file(model)


def test_the_command_names_every_fault(ramedge: Callable, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    onnx.save(quantized_convolution(), good)
    onnx.save(quantized_convolution(np.uint8(0), second_scale=0.5), bad)
    ended = ramedge("audit", good)
    assert (ended.code, ended.out) == (0, f"{good}: no fault\n")
    ended = ramedge("audit", good, bad)
    assert ended.code == 1
    lines = ended.out.splitlines()[1:]
    assert len(lines) == len(faults(onnx.load(bad)))
    assert all(line.startswith(f"{bad}: ") for line in lines)
    ended = ramedge("audit", tmp_path / "absent.onnx")
    assert ended.code == 1
    assert "absent.onnx" in ended.error
