from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ramedge.calibration.audit import audit
from ramedge.calibration.frames import CalibrationFrame
from ramedge.calibration.quantize import dense_convolutions, inputs_of, quantize
from ramedge.calibration.ranges import LEVELS, METHODS, Magnitudes, measure, thresholds
from ramedge.errors import ExportError
from ramedge.export.onnx import export_onnx
from ramedge.metrics import agreement
from ramedge.network.srram import SRRAM
from ramedge.runtimes.openvino import OpenVinoRuntime
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
    seen: list[float] = []

    def hook(module, given) -> None:
        seen.append(float(given[0].abs().max()))

    handle = small_network.body.register_forward_pre_hook(hook)
    with torch.no_grad():
        for frame in frames:
            small_network(torch.from_numpy(frame.image))
    handle.remove()
    # The body is the third last: upsampler and reconstruction come after it.
    body = measured[tensors[names[-3]]]
    assert body.largest == pytest.approx(max(seen), rel=1e-4)
    assert body.counts.sum() == sum(f.image[0, 0].size * 16 for f in frames)


def test_thresholds_by_hand() -> None:
    counts = np.zeros(2048, np.int64)
    counts[:1024] = 1_000_000
    counts[-1] = 1
    found = Magnitudes(counts, largest=8.0)
    assert found.threshold("minmax") == 8.0
    assert found.threshold("percentile") == pytest.approx(4.0, rel=1e-3)
    # One in a thousand million is not worth twice the step for all the others.
    assert found.threshold("mse") == pytest.approx(4.0, rel=0.02)
    assert 3.5 < found.threshold("entropy") <= 8.0


def test_the_least_squared_error_is_that_of_trying(frames: list[CalibrationFrame]) -> None:
    values = np.abs(np.random.default_rng(0).normal(0, 1, 200_000))
    largest = float(values.max())
    counts = np.histogram(values, 2048, (0, largest))[0]
    found = Magnitudes(counts, largest).threshold("mse")

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
    ranges = thresholds(measure(plain, list(tensors.values()), frames), method)
    path = tmp_path / "int8.onnx"
    quantize(plain, path, chosen, ranges)
    assert audit(onnx.load(path)) == []
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    reference = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    image = frames[0].image
    (found,) = session.run(None, {"image": image})
    (expected,) = reference.run(None, {"image": image})
    with OpenVinoRuntime(path, 2, "fp32") as runtime:
        other = runtime.infer_float(image)

    def db(first: np.ndarray, second: np.ndarray) -> float:
        return agreement(first.transpose(0, 2, 3, 1), second.transpose(0, 2, 3, 1)).psnr

    assert db(found, other) >= 45
    assert 30 < db(found, expected) < 100  # near, and really quantized


def test_only_dense_convolutions_are_offered(plain: Path) -> None:
    model = onnx.load(plain)
    names = dense_convolutions(model)
    # Head, two for each of two blocks, body, upsampler, reconstruction.
    assert len(names) == 1 + 2 * 2 + 1 + 1 + 1
    assert len([n for n in model.graph.node if n.op_type == "Conv"]) > len(names)


def test_a_missing_range_or_node_is_named(plain: Path, tmp_path: Path) -> None:
    name = dense_convolutions(onnx.load(plain))[2]
    with pytest.raises(ExportError, match="no range was measured"):
        quantize(plain, tmp_path / "x.onnx", [name], {})
    with pytest.raises(ExportError, match="no convolution nonsense"):
        quantize(plain, tmp_path / "x.onnx", ["nonsense"], {})
    assert not list(tmp_path.iterdir())
