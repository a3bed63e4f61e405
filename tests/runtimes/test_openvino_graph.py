"""Rewritten graphs compute what they did: against PyTorch, numpy, and one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops

from ramedge.export.onnx import export_onnx
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork, excitation_of
from ramedge.runtimes.openvino.rewrites import prepare
from ramedge.runtimes.openvino.session import _with_pixels, shared_core

HEIGHT, WIDTH = 29, 23


@pytest.fixture(scope="module")
def models(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    found = {kind: folder / f"{kind}.onnx" for kind in ("frame", "tile")}
    export_onnx(small_network, found["frame"])
    export_onnx(small_network, found["tile"], kind="tile")
    return found


@pytest.fixture(scope="module")
def image(photo: np.ndarray) -> np.ndarray:
    part = photo[:HEIGHT, :WIDTH].astype(np.float32) / 255
    return np.ascontiguousarray(part.transpose(2, 0, 1)[None])


def run(model: openvino.Model, hint: str, *inputs: np.ndarray) -> list[np.ndarray]:
    settings = {"INFERENCE_PRECISION_HINT": hint}
    results = shared_core().compile_model(model, "CPU", settings)(list(inputs))
    return [results[index].copy() for index in range(len(results))]


def prepared(path: Path, half: bool, *inputs: np.ndarray) -> openvino.Model:
    core = shared_core()
    return prepare(core, core.read_model(path), half, [value.shape for value in inputs])


@pytest.mark.parametrize("half", [False, True])
def test_the_frame_graph_is_the_network(
    models: dict[str, Path], small_network: SRRAM, image: np.ndarray, half: bool
) -> None:
    """Run in FP32, so that only the operations differ."""
    (found,) = run(prepared(models["frame"], half, image), "f32", image)
    with torch.no_grad():
        expected = small_network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("half", [False, True])
def test_the_tile_graph_is_the_network(
    models: dict[str, Path], small_network: SRRAM, image: np.ndarray, half: bool
) -> None:
    config = small_network.config
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (1, config.blocks, config.channels)).astype(np.float32)
    mask = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    mask[:, :, 5:20, 3:] = 1
    inputs = image, logits, mask
    with torch.no_grad():
        expected = TiledNetwork(small_network)(*(torch.from_numpy(value) for value in inputs))
    found = run(prepared(models["tile"], half, *inputs), "f32", *inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=2e-5, atol=2e-6)


def test_half_precision_rounds_a_frame_and_its_tile_alike(
    models: dict[str, Path], small_network: SRRAM, image: np.ndarray
) -> None:
    """The tile that is the frame, with the attention that its own statistic gives."""
    if "BF16" not in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bfloat16")
    excitation = excitation_of(small_network)
    mask = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    logits = np.zeros((1, *excitation.shape), np.float32)
    tile = prepared(models["tile"], True, image, logits, mask)
    for _ in range(small_network.config.blocks + 1):
        upscaled, _, m2 = run(tile, "bf16", image, logits, mask)
        variance = m2[0].astype(np.float64) / (HEIGHT * WIDTH)
        logits = excitation.logits(variance)[None].astype(np.float32)
    (frame,) = run(prepared(models["frame"], True, image), "bf16", image)
    difference = np.abs(np.rint(frame * 255) - np.rint(upscaled * 255))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3
    (plain,) = run(shared_core().read_model(models["frame"]), "bf16", image)
    assert (np.rint(plain * 255) != np.rint(upscaled * 255)).mean() > (difference > 0).mean()


@pytest.mark.parametrize("pixels", ["float32", "uint8"])
@pytest.mark.parametrize("any_shape", [False, True])
def test_half_precision_does_not_round_what_reads_the_picture(
    models: dict[str, Path], image: np.ndarray, any_shape: bool, pixels: str
) -> None:
    """Two convolutions read it: a pixel near white less the mean has steps of a level in bf16."""
    if "BF16" not in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not compute in bfloat16")
    core = shared_core()
    model = core.read_model(models["frame"])
    if pixels == "uint8":  # as pictures are read
        model = _with_pixels(model, pixels)
        image = np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(0, 2, 3, 1))
    changed = prepare(core, model, True, None if any_shape else [image.shape])
    settings = {"INFERENCE_PRECISION_HINT": "bf16"}
    request = core.compile_model(changed, "CPU", settings).create_infer_request()
    request.infer([image])
    layers = request.get_compiled_model().get_runtime_model().get_ordered_ops()
    convolutions = [layer for layer in layers if "Convolution" in described(layer, "layerType")]
    readers = [layer for layer in convolutions if layer.input_value(0).get_shape()[1] == 3]
    assert len(readers) == 2
    assert any(described(layer, "runtimePrecision") == "bf16" for layer in convolutions)
    for layer in readers:
        # Up to what subtracts the mean; before it 8-bit pixels are exact in bfloat16.
        assert described(layer, "runtimePrecision") == "f32"
        layer = layer.input_value(0).get_node()  # noqa: PLW2901
        while described(layer, "layerType") in {"Reorder", "Transpose"}:
            assert described(layer, "runtimePrecision") == "f32"
            layer = layer.input_value(0).get_node()  # noqa: PLW2901
        assert described(layer, "runtimePrecision") == "f32"
        assert described(layer, "layerType") in {"Subgraph", "Eltwise"}


def described(layer: Any, name: str) -> str:
    """What the plugin says of a layer it runs."""
    value = layer.get_rt_info()[name]
    return str(getattr(value, "value", value))


def test_a_gate_is_closed_or_open_where_its_exponential_overflows() -> None:
    z = ops.parameter([1, 1, 8, 8], np.float32)
    x = ops.parameter([1, 1, 8, 8], np.float32)
    model = openvino.Model([ops.multiply(ops.sigmoid(z), x)], [z, x])
    values = np.linspace(-1e4, 1e4, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    given = np.full_like(values, 3.0)
    changed = prepare(shared_core(), model, True, [values.shape, given.shape])
    assert "Exp" in kinds(changed)
    (found,) = run(changed, "f32", values, given)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, 3 / (1 + np.exp(-values.astype(np.float64))), atol=1e-5)


def test_the_variance_bears_a_mean_far_from_zero() -> None:
    """Mean of squares less squared mean cancels digits: here the mean is eight deviations."""
    x = ops.parameter([1, 4, 200, 301], np.float32)
    frame = np.array([2, 3])
    centred = ops.subtract(x, ops.reduce_mean(x, frame, True))
    model = openvino.Model([ops.reduce_mean(ops.multiply(centred, centred), frame, True)], [x])
    values = np.random.default_rng(1).normal(80, 10, (1, 4, 200, 301)).astype(np.float32)
    changed = prepare(shared_core(), model, True, [values.shape])
    assert "ReduceL2" in kinds(changed)
    (found,) = run(changed, "f32", values)
    expected = values.astype(np.float64).var(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_another_graph_stays_as_it_is() -> None:
    x = ops.parameter([-1, 3, -1, -1], np.float32)
    model = openvino.Model([ops.reduce_mean(ops.relu(x), np.array([1]), True)], [x])
    before = kinds(model)
    assert kinds(prepare(shared_core(), model, True, None)) == before
    assert kinds(prepare(shared_core(), model, True, [(1, 3, 9, 9)])) == before


def kinds(model: openvino.Model) -> list[Any]:
    return [node.get_type_name() for node in model.get_ordered_ops()]
