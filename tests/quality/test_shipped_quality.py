"""The shipped weights on the benchmark sets, where these are at hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.half import to_half
from ramedge.network.weights import load_weights
from ramedge.quality.evaluation import evaluate
from ramedge.quality.metrics import Agreement, agreement
from ramedge.quality.photos import downscale, find_photos
from ramedge.runtimes.backend import PrecisionName
from ramedge.runtimes.onnxruntime import session as onnxruntime
from ramedge.runtimes.openvino import session as openvino
from ramedge.runtimes.torch.session import open_torch
from ramedge.samples import PHOTOS, sample_photo
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler
from ramedge.weights import FOLDER, NETWORK, shipped_artifact, shipped_weights


def test_the_model_card_says_what_is_measured(benchmark_sets: Path) -> None:
    card = (FOLDER / f"{NETWORK}_x2.md").read_text(encoding="utf-8")
    found = re.search(r"\| ×2 \| ours \| ([\d.]+) / ([\d.]+) \|", card)  # Set5 comes first
    assert found is not None
    with Upscaler() as upscaler:
        mean = evaluate(benchmark_sets / "Set5", upscaler).mean
    assert mean.psnr == pytest.approx(float(found[1]), abs=0.01)
    assert mean.ssim == pytest.approx(float(found[2]), abs=0.0005)


def patterns(side: int) -> dict[str, np.ndarray]:
    """Pictures of one-pixel detail, harder than any photo; `[side, side, 3]` uint8."""
    rows, columns = np.mgrid[:side, :side]
    ramp = columns / side
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16
    grey = {
        "checkers": (rows + columns) % 2,
        "stripes": columns % 2,
        "dots": (rows % 3 == 0) & (columns % 3 == 0),
        "ordered dithering": ramp > bayer[rows % 4, columns % 4],
        "random dithering": ramp > np.random.default_rng(0).random((side, side)),
    }
    return {
        name: np.repeat(np.where(values, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
        for name, values in grey.items()
    }


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patterns_keep_their_brightness_and_grey(scale: int, precision: PrecisionName) -> None:
    """Beside Pillow's bicubic: a network trained on photos alone leaves its range on them."""
    side = 96
    with Upscaler(
        RuntimeSettings(scale=scale, precision=precision), tiling=TilingOptions("whole")
    ) as upscaler:
        for name, pixels in patterns(side).items():
            size = (side * scale, side * scale)
            smooth = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
            tint = upscaler.upscale(pixels).mean(axis=(0, 1)) - smooth.mean(axis=(0, 1))
            assert np.abs(tint).max() < 10, (name, tint)


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_tiles_of_less_than_fp32_agree_with_the_whole_frame(precision: PrecisionName) -> None:
    """Half precision and INT8 round tiles as they round the frame: the attention is the same."""
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB"))[90:240, 120:320]
    settings = RuntimeSettings(precision=precision)
    with (
        Upscaler(settings, tiling=TilingOptions(64)) as tiled,
        Upscaler(settings, tiling=TilingOptions("whole")) as whole,
    ):
        difference = tiled.upscale(pixels).astype(float) - whole.upscale(pixels)
    assert -10 * np.log10(max((difference**2).mean(), 1e-9) / 255**2) >= 60


def test_exports_agree_with_pytorch_on_set14(benchmark_sets: Path, tmp_path: Path) -> None:
    model = load_artifact(shipped_artifact(2, "fp32")).model
    onnx.save(to_half(onnx.load(model)), tmp_path / "half.onnx")
    reference = open_torch(load_weights(shipped_weights(2)).network.take(2), "fp32", "cpu")
    candidates = {
        "openvino fp32": (
            openvino.open_onnx(model, 2, "fp32").infer_float,
            80.0,
        ),
        "openvino half": (
            openvino.open_onnx(model, 2, "auto").infer_float,
            60.0,
        ),
        "fp16": (onnxruntime.open_onnx(tmp_path / "half.onnx", 2).infer_float, 50.0),
    }
    worst: dict[str, list[Agreement]] = {}
    for path in find_photos(benchmark_sets / "Set14"):
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        # The middle of a large one: twice the receptive field and more, in a fifth of the time.
        left, top = (max(0, (side - 300) // 2) for side in photo.size)
        low, _ = downscale(photo.crop((left, top, photo.width - left, photo.height - top)), 2)
        image = np.asarray(low, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        image = np.ascontiguousarray(image)
        expected = reference.infer_float(image).transpose(0, 2, 3, 1)
        for name, (infer, _) in candidates.items():
            found = agreement(infer(image).transpose(0, 2, 3, 1), expected)
            worst.setdefault(name, []).append(found)
    for name, (_, least) in candidates.items():
        assert min(found.psnr for found in worst[name]) >= least, name
        bias = max(abs(b) for found in worst[name] for b in found.channel_bias)
        assert bias < 0.25 / 255, name
