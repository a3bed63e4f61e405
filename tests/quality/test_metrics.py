from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ramedge.errors import UsageError
from ramedge.quality.metrics import agreement, luma, psnr, psnr_y, shave, ssim, ssim_y


@pytest.fixture
def pair(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).normal(0, 9, photo.shape)
    return photo, np.clip(photo + noise, 0, 255).astype(np.uint8)


def test_luma_is_matlabs(photo: np.ndarray) -> None:
    np.testing.assert_allclose(luma(photo), rgb2ycbcr(photo)[..., 0], atol=1e-6)


def test_grey_is_its_own_luma() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(luma(grey), grey)


def test_psnr_agrees_with_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (shave(luma(p), 2) for p in pair)
    expected = peak_signal_noise_ratio(first, second, data_range=255)
    assert psnr_y(*pair, scale=2) == pytest.approx(expected, abs=1e-9)


def test_ssim_agrees_with_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (shave(luma(p), 3) for p in pair)
    expected = structural_similarity(
        first,
        second,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim_y(*pair, scale=3) == pytest.approx(expected, abs=1e-6)


def test_equal_pictures() -> None:
    plane = np.random.default_rng(1).random((20, 20)) * 255
    assert psnr(plane, plane) == math.inf
    assert ssim(plane, plane) == pytest.approx(1.0)


def test_one_level_of_difference_is_48_db() -> None:
    assert psnr(np.zeros((3, 3)), np.ones((3, 3))) == pytest.approx(20 * math.log10(255))


@pytest.mark.parametrize("border", [2, 3])
def test_nothing_left_is_refused(border: int) -> None:
    with pytest.raises(UsageError, match="nothing left"):
        shave(np.zeros((4, 9)), border)


def test_too_small_for_ssim() -> None:
    with pytest.raises(UsageError, match="11×11"):
        ssim(np.zeros((10, 30)), np.zeros((10, 30)))


def test_luma_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="Expected"):
        luma(np.zeros((4, 4, 4), np.uint8))


def test_agreement_of_a_tint() -> None:
    reference = np.full((1, 4, 5, 3), 0.5, np.float32)
    output = reference + np.array([0.01, 0.0, -0.02], np.float32)
    found = agreement(output, reference)
    assert found.channel_bias == pytest.approx((0.01, 0.0, -0.02), abs=1e-7)
    assert found.max_error == pytest.approx(0.02, abs=1e-7)
    assert found.psnr == pytest.approx(-10 * math.log10((0.0001 + 0.0004) / 3), abs=1e-3)


def test_agreement_with_itself_is_infinite() -> None:
    image = np.zeros((2, 2, 3), np.float32)
    assert agreement(image, image).psnr == math.inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_agreement_sees_what_is_not_finite(value: float) -> None:
    output = np.zeros((2, 2, 3), np.float32)
    output[0, 0, 0] = value
    assert not agreement(output, np.zeros_like(output)).finite


def test_agreement_of_other_shapes_is_refused() -> None:
    with pytest.raises(UsageError, match="Cannot compare"):
        agreement(np.zeros((2, 2, 3), np.float32), np.zeros((2, 3, 3), np.float32))
