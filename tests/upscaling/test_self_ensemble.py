from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ramedge.jobs.pipeline import UpscaleSettings, upscale_files
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.quality.evaluation import evaluate
from ramedge.samples import sample_clip
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.self_ensemble import TURNS, self_ensemble
from ramedge.upscaling.upscaler import Upscaler


def independent_mean(network: SRRAM, pixels: np.ndarray) -> np.ndarray:
    """Levels before rounding, of the 8 flips and transposes as EDSR's own code makes them."""
    peak = float(np.iinfo(pixels.dtype).max)
    image = torch.from_numpy(pixels.astype(np.float32) / peak).permute(2, 0, 1)[None]
    outputs = []
    for transposed in (False, True):
        for axes in ((), (2,), (3,), (2, 3)):
            turned = torch.flip(image.transpose(2, 3) if transposed else image, axes)
            with torch.no_grad():
                output = torch.flip(network(turned), axes)
            outputs.append((output.transpose(2, 3) if transposed else output).double())
    mean = torch.stack(outputs).mean(0)
    return (mean[0].permute(1, 2, 0) * peak).clamp(0, peak).numpy()


def assert_rounded(got: np.ndarray, levels: np.ndarray, slack: float) -> None:
    assert got.shape == levels.shape
    assert np.abs(got - levels).max() <= 0.5 + slack


def test_the_turns_are_the_eight_symmetries() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    turned = [turn.apply(images) for turn in TURNS]
    assert len({image.tobytes() + bytes(image.shape) for image in turned}) == 8
    for turn, image in zip(TURNS, turned, strict=True):
        np.testing.assert_array_equal(turn.undo(image), images)


@pytest.mark.parametrize(("dtype", "slack"), [(np.uint8, 0.001), (np.uint16, 0.2)])
def test_it_is_the_mean_that_pytorch_makes(
    small_network: SRRAM, small_weights: Path, photo: np.ndarray, dtype: type, slack: float
) -> None:
    pixels = photo if dtype is np.uint8 else photo.astype(np.uint16) * 257 + 3
    assert pixels.shape[0] != pixels.shape[1]
    settings = RuntimeSettings(runtime="torch", precision="fp32", model=small_weights, device="cpu")
    with Upscaler(settings, ensemble=True) as upscaler:
        got = upscaler.upscale(pixels)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    assert_rounded(got, independent_mean(small_network, pixels), slack)


@pytest.mark.parametrize("scale", [3, 4])
def test_other_scales(multi_weights: Path, photo: np.ndarray, scale: int) -> None:
    network = load_weights(multi_weights).network.take(scale)
    pixels = photo[:20, :31]
    settings = RuntimeSettings(scale=scale, precision="fp32", model=multi_weights, device="cpu")
    with Upscaler(settings, ensemble=True) as upscaler:
        assert_rounded(upscaler.upscale(pixels), independent_mean(network, pixels), 0.001)


def test_the_shipped_model_on_openvino(photo: np.ndarray) -> None:
    from ramedge.weights import shipped_weights

    network = load_weights(shipped_weights(2)).network.take(2)
    with Upscaler(RuntimeSettings(precision="fp32"), ensemble=True) as upscaler:
        got = upscaler.upscale(photo)
        assert upscaler.reason.endswith("mean over 8 flips and turns")
    assert_rounded(got, independent_mean(network, photo), 0.01)


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_picture_gives_the_turned_result(
    small_weights: Path, photo: np.ndarray, turn
) -> None:
    def turned(pixels: np.ndarray) -> np.ndarray:
        return turn.apply(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)

    settings = RuntimeSettings(model=small_weights, precision="fp32", device="cpu")
    with Upscaler(settings, ensemble=True) as upscaler:
        upright, other = upscaler.upscale(photo), upscaler.upscale(turned(photo))
    difference = turned(upright).astype(int) - other
    assert np.abs(difference).max() <= 1  # ties
    assert (difference != 0).mean() < 0.001


def test_without_it_a_turned_picture_gives_another(small_weights: Path, photo: np.ndarray) -> None:
    """So that the test above can fail."""
    settings = RuntimeSettings(model=small_weights, precision="fp32", device="cpu")
    with Upscaler(settings) as upscaler:
        turned = np.rot90(upscaler.upscale(photo)).astype(int)
        assert (turned != upscaler.upscale(np.rot90(photo))).mean() > 0.1


def test_outputs_beyond_white_are_clipped_after_the_mean() -> None:
    """Of 8 outputs four are 1.2 and four 0.6: the mean is 0.9, clipped ones would give 0.8."""
    outputs = iter([1.2, 0.6] * 4)

    def network(images: np.ndarray) -> np.ndarray:
        return np.full(images.shape, next(outputs), np.float32)

    mean = self_ensemble(network, np.zeros((1, 3, 2, 3), np.float32))
    np.testing.assert_allclose(mean, 0.9, atol=1e-6)


def test_tiles_are_turned_on_their_own(small_weights: Path, photo: np.ndarray) -> None:
    settings = RuntimeSettings(model=small_weights, precision="fp32", device="cpu")
    with (
        Upscaler(settings, TilingOptions(16), ensemble=True) as tiled,
        Upscaler(settings, ensemble=True) as whole,
    ):
        tiles, frame = tiled.upscale(photo), whole.upscale(photo)
        halo = tiled.model.halos.rendering("fast", bits=8)
        corner = whole.upscale(photo[: 16 + halo, : 16 + halo])[:32, :32]
    assert tiles.shape == frame.shape
    np.testing.assert_array_equal(tiles[:32, :32], corner)


def test_grey_is_measured_and_recorded(small_weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50)).astype(np.uint8)).save(tmp_path / "grey.png")
    settings = RuntimeSettings(model=small_weights, precision="fp32", device="cpu")
    with Upscaler(settings, ensemble=True) as upscaler:
        result = evaluate(tmp_path, upscaler)
    assert result.ensemble
    assert result.as_dict()["ensemble"] is True


def test_it_measures_better_on_photos(photo_folder: Path, tmp_path: Path) -> None:
    for path in photo_folder.iterdir():
        with Image.open(path) as opened:
            opened.crop((60, 40, 380, 280)).save(tmp_path / path.name)
    means = []
    for ensemble in (False, True):
        with Upscaler(RuntimeSettings(precision="fp32"), ensemble=ensemble) as upscaler:
            means.append(evaluate(tmp_path, upscaler).mean.psnr)
    assert means[1] > means[0] + 0.02


def test_files(small_weights: Path, photo: np.ndarray, tmp_path: Path) -> None:
    """An image is what `Upscaler` gives; a video's frames pass through it as well."""
    Image.fromarray(photo).save(tmp_path / "in.png")
    runtime = RuntimeSettings(model=small_weights, precision="fp32", device="cpu")
    settings = UpscaleSettings(output=tmp_path / "out", runtime=runtime, ensemble=True, frames=2)
    inputs = [str(tmp_path / "in.png"), str(sample_clip())]
    image, video = upscale_files(inputs, settings)
    assert (image.status, video.status) == ("done", "done"), (image.error, video.error)
    assert image.ensemble
    assert video.frames == 2
    assert image.target is not None
    with Image.open(image.target) as opened, Upscaler(runtime, ensemble=True) as upscaler:
        np.testing.assert_array_equal(np.asarray(opened), upscaler.upscale(photo))
