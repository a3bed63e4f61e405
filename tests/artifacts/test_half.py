"""Half precision made of an FP32 graph, against PyTorch's network in half precision."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.graphs import GraphKind
from ramedge.artifacts.half import is_half, to_half
from ramedge.export.onnx import OPSET, FrameGraph, network_graph
from ramedge.network.collapse import collapse
from ramedge.network.half import to_half as torch_half
from ramedge.network.srram import SRRAM
from ramedge.weights import shipped_artifact, shipped_scales


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})


@pytest.fixture(scope="module")
def feeds(small_network: SRRAM, photo: np.ndarray) -> dict[str, np.ndarray]:
    image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    config = small_network.config
    logits = np.random.default_rng(0).normal(size=(1, config.blocks, config.channels))
    mask = np.zeros((1, 1, *photo.shape[:2]), np.float32)
    mask[:, :, 5:40, 3:50] = 1
    return {"image": image, "logits": logits.astype(np.float32), "mask": mask}


def test_the_graph_is_what_pytorch_exports_of_the_network_in_half_precision(
    small_network: SRRAM, feeds: dict[str, np.ndarray]
) -> None:
    image = torch.from_numpy(feeds["image"])
    network = FrameGraph(torch_half(collapse(small_network))).eval()
    program = torch.onnx.export(
        network, (image,), input_names=["image"], opset_version=OPSET, dynamo=True, verbose=False
    )
    assert program is not None
    (expected,) = run(program.model_proto, feeds)
    (found,) = run(to_half(network_graph(small_network)), feeds)
    (exact,) = run(network_graph(small_network), feeds)
    rounding = np.abs(expected - exact).mean()
    assert rounding > 0
    assert np.abs(found - expected).mean() <= 0.01 * rounding


@pytest.mark.parametrize("kind", ["frame", "tile", "statistics"])
def test_only_the_statistic_and_the_skip_branch_stay_fp32(
    small_network: SRRAM, feeds: dict[str, np.ndarray], kind: GraphKind
) -> None:
    plain = network_graph(small_network, kind)
    half = to_half(plain)
    assert (is_half(plain), is_half(half)) == (False, True)
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    convolutions = Counter(
        types.get(node.output[0]) for node in half.graph.node if node.op_type == "Conv"
    )
    blocks = small_network.config.blocks
    picture = kind != "statistics"
    logits = 2 * blocks if kind == "frame" else 0
    assert convolutions[TensorProto.FLOAT] == logits + picture
    for node in half.graph.node:
        if node.op_type in {"ReduceMean", "ReduceSum"}:
            assert types.get(node.output[0], TensorProto.FLOAT) == TensorProto.FLOAT
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    for one, other in zip(run(half, feeds), run(plain, feeds), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * np.abs(other).max())


@pytest.mark.parametrize("scale", shipped_scales())
def test_int8_gets_fp16_around_it(scale: int, photo: np.ndarray) -> None:
    plain = onnx.load(load_artifact(shipped_artifact(scale, "int8")).model)
    half = to_half(plain)
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert {TensorProto.INT8, TensorProto.FLOAT16} <= kinds
    counts = [Counter(node.op_type for node in model.graph.node) for model in (plain, half)]
    assert counts[0]["QuantizeLinear"] == counts[1]["QuantizeLinear"] > 0
    image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    one, other = (run(model, {"image": image})[0] for model in (plain, half))
    assert -10 * np.log10(np.mean((one - other) ** 2)) >= 50


def test_activations_whose_squares_overflow_fp16_survive(small_network: SRRAM) -> None:
    image = np.random.default_rng(0).random((1, 3, 12, 12), dtype=np.float32)
    (found,) = run(to_half(network_graph(small_network)), {"image": image})
    assert np.isfinite(found).all()
