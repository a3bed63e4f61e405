from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ramedge.errors import InputError
from ramedge.evaluation import evaluate
from ramedge.runtimes.select import RuntimeSettings
from ramedge.upscale import Upscaler

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
def test_bicubic_reproduces_the_published_figures(shared: Path, name: str) -> None:
    with Bicubic() as upscaler:
        result = evaluate(shared / "data" / "eval" / name, upscaler)
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


def test_an_image_too_small_to_measure_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (12, 12)).save(tmp_path / "dot.png")
    with Upscaler() as upscaler, pytest.raises(InputError, match=r"dot\.png is too small"):
        evaluate(tmp_path, upscaler)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    with Upscaler() as upscaler, pytest.raises(InputError, match=r"bad\.png"):
        evaluate(tmp_path, upscaler)
