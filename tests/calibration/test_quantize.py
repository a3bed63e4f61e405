from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ramedge.artifacts.audit import audit
from ramedge.calibration.pictures import CalibrationFrame
from ramedge.calibration.quantize import dense_convolutions, inputs_of, quantize
from ramedge.calibration.ranges import LEVELS, METHODS, Magnitudes, measure
from ramedge.errors import ExportError
from ramedge.export.onnx import export_onnx
from ramedge.network.srram import SRRAM
from ramedge.quality.metrics import agreement
from ramedge.runtimes.openvino.session import open_onnx
from ramedge.samples import PHOTOS, sample_photo


@pytest.fixture(scope="module")
def plain(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "plain.onnx"
    export_onnx(small_network, path)
    return path


@pytest.fixture(scope="module")
def frames() -> list[CalibrationFrame]:
    found = []
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            pixels = np.asarray(opened.convert("RGB"))[80:144, 60:124]
        found.append(CalibrationFrame(name, pixels, name))
    return found


def test_ranges_are_those_of_the_activations(
    plain: Path, frames: list[CalibrationFrame], small_network: SRRAM
) -> None:
    """Against a hook in PyTorch."""
    import torch

    model = onnx.load(plain)
    names = dense_convolutions(model)
    tensors = inputs_of(model, names)
    measured = measure(plain, list(tensors.values()), frames)
    seen = []

    def hook(module, given) -> None:
        seen.append(given[0].abs().amax(dim=(0, 2, 3)))

    handle = small_network.body.register_forward_pre_hook(hook)
    with torch.no_grad():
        for frame in frames:
            small_network(torch.from_numpy(frame.image))
    handle.remove()
    # The body is the last but one: the collapsed tail comes after it.
    body = measured[tensors[names[-2]]]
    largest = torch.stack(seen).amax(dim=0).numpy()
    expected = np.maximum(largest, largest.max() / 64)
    np.testing.assert_allclose(body.largest, expected, rtol=1e-4)
    assert body.counts.sum() == sum(f.image[0, 0].size * 16 for f in frames)


def test_thresholds_by_hand() -> None:
    counts = np.zeros(2048, np.int64)
    counts[:1024] = 1_000_000
    counts[-1] = 1
    found = Magnitudes(counts, largest=np.array([8.0, 3.0]))
    assert found.threshold("minmax") == 1.0
    assert found.threshold("percentile") == pytest.approx(0.5, rel=1e-3)
    # One in a thousand million is not worth twice the step for all the others.
    assert found.threshold("mse") == pytest.approx(0.5, rel=0.02)
    assert 0.43 < found.threshold("entropy") <= 1.0


def test_the_least_squared_error_is_that_of_trying(frames: list[CalibrationFrame]) -> None:
    values = np.abs(np.random.default_rng(0).normal(0, 1, 200_000))
    largest = float(values.max())
    counts = np.histogram(values, 2048, (0, largest))[0]
    found = Magnitudes(counts, np.array([largest])).threshold("mse") * largest

    def error(threshold: float) -> float:
        step = threshold / LEVELS
        return float(((np.clip(np.rint(values / step), 0, LEVELS) * step - values) ** 2).mean())

    assert error(found) <= 1.02 * min(error(largest * s) for s in np.linspace(0.3, 1, 50))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_file_runs_alike_in_onnxruntime_and_openvino(
    plain: Path, frames: list[CalibrationFrame], tmp_path: Path, method
) -> None:
    model = onnx.load(plain)
    chosen = dense_convolutions(model)[1:-1]  # first and last stay in FP32
    tensors = inputs_of(model, chosen)
    measured = measure(plain, list(tensors.values()), frames)
    path = tmp_path / "int8.onnx"
    quantize(plain, path, {name: measured[tensors[name]].ranges(method) for name in chosen})
    assert audit(onnx.load(path)) == []
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    reference = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    image = frames[0].image
    (found,) = session.run(None, {"image": image})
    (expected,) = reference.run(None, {"image": image})
    with open_onnx(path, 2, "fp32") as runtime:
        other = runtime.infer_float(image)

    def db(first: np.ndarray, second: np.ndarray) -> float:
        return agreement(first.transpose(0, 2, 3, 1), second.transpose(0, 2, 3, 1)).psnr

    assert db(found, other) >= 45
    assert 30 < db(found, expected) < 100  # near, and really quantized


def test_only_dense_convolutions_are_offered(plain: Path) -> None:
    model = onnx.load(plain)
    names = dense_convolutions(model)
    # Head, two for each of two blocks, body, collapsed tail; not the rim's four strips.
    assert len(names) == 1 + 2 * 2 + 1 + 1
    assert len([n for n in model.graph.node if n.op_type == "Conv"]) > len(names)


def test_every_channel_uses_all_levels(plain: Path, tmp_path: Path) -> None:
    """Ranges that differ a thousandfold cost no more than rounding: weights take them over."""
    model = onnx.load(plain)
    name = dense_convolutions(model)[-2]
    (convolution,) = [node for node in model.graph.node if node.name == name]
    weights = {t.name: t for t in model.graph.initializer}[convolution.input[1]]
    values = np.random.default_rng(1).uniform(-1, 1, (1, weights.dims[1], 12, 12))
    widths = np.geomspace(0.01, 10.0, weights.dims[1])
    alone = onnx.helper.make_model(
        onnx.helper.make_graph(
            [convolution],
            "alone",
            [onnx.helper.make_tensor_value_info(convolution.input[0], 1, values.shape)],
            [onnx.helper.make_tensor_value_info(convolution.output[0], 1, None)],
            [t for t in model.graph.initializer if t.name in convolution.input],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    onnx.save(alone, tmp_path / "alone.onnx")
    quantize(tmp_path / "alone.onnx", tmp_path / "int8.onnx", {name: tuple(widths.tolist())})

    def run(path: str) -> np.ndarray:
        session = onnxruntime.InferenceSession(tmp_path / path, providers=["CPUExecutionProvider"])
        scaled = (values * widths[:, None, None]).astype(np.float32)
        return session.run(None, {convolution.input[0]: scaled})[0]

    expected = run("alone.onnx")
    # Of 127 levels, rounding is 0.4 % of uniform values; of the weights, which reach three times as
    # far in the widest channel as on average, 1.2 %.
    error = float(np.sqrt(np.mean((run("int8.onnx") - expected) ** 2)))
    assert 0 < error < 0.02 * float(np.sqrt(np.mean(expected**2)))


@pytest.mark.parametrize(
    ("limits", "words"),
    [((1.0,), "its range has 1"), ((0.0,) * 16, "positive"), ((float("nan"),) * 16, "positive")],
)
def test_a_wrong_range_or_node_is_named(
    plain: Path, tmp_path: Path, limits: tuple[float, ...], words: str
) -> None:
    name = dense_convolutions(onnx.load(plain))[2]
    with pytest.raises(ExportError, match=words):
        quantize(plain, tmp_path / "x.onnx", {name: limits})
    with pytest.raises(ExportError, match="no convolution nonsense"):
        quantize(plain, tmp_path / "x.onnx", {"nonsense": limits})
    assert not list(tmp_path.iterdir())
