from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ramedge.errors import InputError
from ramedge.quality.evaluation import Evaluation, Failure, evaluate
from ramedge.samples import FOLDER
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler

# Published figures of bicubic, ×2: as in the paper's Table 4 and the field's.
PUBLISHED_BICUBIC = {"Set5": 33.66, "Set14": 30.24, "BSD100": 29.56}


class Bicubic(Upscaler):
    """Bicubic in the place of the network, so that only the protocol is measured."""

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        size = (pixels.shape[1] * self.scale, pixels.shape[0] * self.scale)
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    def upscale_plane(self, plane: np.ndarray) -> np.ndarray:
        return self.upscale(plane)


@pytest.mark.parametrize("name", PUBLISHED_BICUBIC)
def test_bicubic_reproduces_the_published_figures(benchmark_sets: Path, name: str) -> None:
    with Bicubic() as upscaler:
        result = evaluate(benchmark_sets / name, upscaler)
    assert result.mean.bicubic_psnr == pytest.approx(PUBLISHED_BICUBIC[name], abs=0.03)
    assert result.mean.psnr == pytest.approx(result.mean.bicubic_psnr, abs=1e-9)


def test_scores_agree_with_scikit_image(photo_folder: Path) -> None:
    with Upscaler(RuntimeSettings(precision="fp32")) as upscaler:
        result = evaluate(photo_folder, upscaler)
        for score in result.images:
            high = np.asarray(Image.open(photo_folder / score.name).convert("RGB"))
            height, width = (side // 2 * 2 for side in high.shape[:2])
            high = high[:height, :width]
            low = Image.fromarray(high).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
            output = upscaler.upscale(np.asarray(low))
            one, two = (rgb2ycbcr(p)[2:-2, 2:-2, 0] for p in (output, high))
            assert score.psnr == pytest.approx(
                peak_signal_noise_ratio(two, one, data_range=255), abs=0.001
            )
            expected = structural_similarity(
                one, two, data_range=255, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )  # fmt: skip
            assert score.ssim == pytest.approx(expected, abs=0.0001)
    assert result.mean.psnr == pytest.approx(np.mean([s.psnr for s in result.images]))


def test_grey_images_are_measured_on_their_own_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 255, (60, 60)).astype(np.uint8))
    grey.save(tmp_path / "grey.png")
    with Bicubic() as upscaler:
        score = evaluate(tmp_path, upscaler).images[0]
    low = grey.resize((30, 30), Image.Resampling.BICUBIC)
    cubic = np.asarray(low.resize((60, 60), Image.Resampling.BICUBIC))
    expected = peak_signal_noise_ratio(
        np.asarray(grey)[2:-2, 2:-2], cubic[2:-2, 2:-2], data_range=255
    )
    assert score.bicubic_psnr == pytest.approx(expected, abs=1e-6)


def test_the_shipped_network_is_better_than_bicubic(photo_folder: Path) -> None:
    with Upscaler() as upscaler:
        result = evaluate(photo_folder, upscaler)
    for score in result.images:
        assert score.psnr > score.bicubic_psnr + 0.5


def studio_luma(pixels: np.ndarray, border: int) -> np.ndarray:
    """Y of ITU-R BT.601 in 16–235 of 8-bit RGB, in the standard's own words: 219 steps."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64) / 255, 2, 0)
    plane = 16 + 219 * (0.299 * red + 0.587 * green + 0.114 * blue)
    return plane[border:-border, border:-border]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_whole_results_agree_with_scikit_image(multi_weights: Path, scale: int) -> None:
    """Nothing of ours but the network: photos, luma and both measures are made here anew."""
    model = None if scale == 2 else multi_weights
    figures = []
    with Upscaler(RuntimeSettings(precision="fp32", scale=scale, model=model)) as upscaler:
        result = evaluate(FOLDER, upscaler)
        for path in sorted(FOLDER.glob("*.png")):
            photo = Image.open(path).convert("RGB")
            width, height = (side - side % scale for side in photo.size)
            high = photo.crop((0, 0, width, height))
            low = high.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
            truth = studio_luma(np.asarray(high), scale)
            row = []
            for output in (
                upscaler.upscale(np.asarray(low)),
                np.asarray(low.resize(high.size, Image.Resampling.BICUBIC)),
            ):
                plane = studio_luma(output, scale)
                row.append(peak_signal_noise_ratio(truth, plane, data_range=255))
                row.append(structural_similarity(
                    truth, plane, data_range=255, gaussian_weights=True, sigma=1.5,
                    use_sample_covariance=False,
                ))  # fmt: skip
            figures.append(row)
    figures.append(np.mean(figures, axis=0))
    for score, row in zip((*result.images, result.mean), figures, strict=True):
        assert (score.psnr, score.bicubic_psnr) == pytest.approx(row[::2], abs=0.01)
        assert (score.ssim, score.bicubic_ssim) == pytest.approx(row[1::2], abs=0.0005)


def test_what_cannot_be_measured_is_recorded_and_left_out(
    photo_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Set5"
    shutil.copytree(photo_folder, folder / "sub")
    (folder / "bad.png").write_bytes(b"bad")
    Image.new("RGB", (14, 200)).save(folder / "thin.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    seen: list[tuple[int, int]] = []
    with Bicubic() as upscaler:
        whole = evaluate(photo_folder, upscaler)
        result = evaluate(folder, upscaler, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]
    assert [failure.name for failure in result.failed] == ["bad.png", "dot.png", "thin.png"]
    assert "Cannot read" in result.failed[0].error
    assert "too small to measure: 1×1" in result.failed[1].error
    assert [score.name for score in result.images] == [f"sub/{s.name}" for s in whole.images]
    assert result.mean == whole.mean
    assert result.name == "Set5"


def test_one_image_that_takes_too_much_memory_is_recorded(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bicubic() as upscaler:
        upscale, calls = upscaler.upscale, []

        def short_of_memory(pixels: np.ndarray) -> np.ndarray:
            calls.append(pixels.shape)
            if len(calls) == 1:
                raise MemoryError
            return upscale(pixels)

        monkeypatch.setattr(upscaler, "upscale", short_of_memory)
        result = evaluate(photo_folder, upscaler)
    assert len(result.images) == 1
    assert result.failed[0].error.startswith("Not enough memory for")


def test_results_survive_json(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    with Upscaler() as upscaler:
        result = evaluate(tmp_path, upscaler)
    assert result.mean.bicubic_psnr == math.inf
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["mean"]["bicubic_psnr"] is None
    assert Evaluation.from_dict(json.loads(text)) == result
    assert result.failed == (Failure("bad.png", result.failed[0].error),)
    with pytest.raises(InputError, match="Measure again"):
        Evaluation.from_dict({"folder": "Set5"})


def test_none_of_several_images(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"bad")
    with Bicubic() as upscaler, pytest.raises(InputError, match=r"None of the 2 .*1\.png"):
        evaluate(tmp_path, upscaler)


def test_an_image_too_small_to_measure_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (12, 12)).save(tmp_path / "dot.png")
    with Upscaler() as upscaler, pytest.raises(InputError, match=r"dot\.png is too small"):
        evaluate(tmp_path, upscaler)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    with Upscaler() as upscaler, pytest.raises(InputError, match=r"bad\.png"):
        evaluate(tmp_path, upscaler)
