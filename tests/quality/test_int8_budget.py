from __future__ import annotations

import math
import time

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from ramedge.errors import GateError
from ramedge.quality.int8_budget import Budget, CheckImage, Loss, check_speed, check_truth

SCALE = 2


def enlarge(images: np.ndarray) -> np.ndarray:
    return images.repeat(SCALE, axis=2).repeat(SCALE, axis=3)


@pytest.fixture
def picture(photo: np.ndarray) -> CheckImage:
    return CheckImage.of("cat", photo, SCALE)


def test_psnr_is_that_of_scikit_image(picture: CheckImage) -> None:
    made = np.rint(np.clip(enlarge(picture.low)[0], 0, 1) * 255).transpose(1, 2, 0)
    border = slice(SCALE, -SCALE)
    luma = [
        rgb2ycbcr(values.astype(np.uint8))[border, border, 0] for values in (made, picture.high)
    ]
    expected = peak_signal_noise_ratio(luma[1], luma[0], data_range=255)
    assert picture.psnr_y(enlarge(picture.low), SCALE) == pytest.approx(expected, abs=1e-6)


def test_a_network_as_good_as_the_reference_passes(picture: CheckImage) -> None:
    found = check_truth(enlarge, enlarge, [picture], SCALE, Budget())
    assert found["loss"] == {"mean": 0.0, "worst": 0.0}
    assert found["photos"] == ["cat"]


def test_noise_is_refused_with_the_picture_it_shows_on(picture: CheckImage) -> None:
    def noisy(images: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 0.03, enlarge(images).shape)
        return (enlarge(images) + noise).astype(np.float32)

    with pytest.raises(GateError, match=r"loses \d\.\d+ dB .*allowed\s+are 0\.050 dB"):
        check_truth(noisy, enlarge, [picture], SCALE, Budget())
    with pytest.raises(GateError, match="on cat, allowed are 0"):
        check_truth(noisy, enlarge, [picture], SCALE, Budget(mean=9.0, worst=0.01))


def test_nan_never_passes(picture: CheckImage) -> None:
    with pytest.raises(GateError):
        check_truth(
            lambda images: enlarge(images) * np.float32(math.nan),
            enlarge,
            [picture],
            SCALE,
            Budget(),
        )


def test_what_is_lost_beyond_the_visible_does_not_count() -> None:
    assert Loss.between([50.0, 40.0], [48.0, 39.0]).mean == pytest.approx(1.5)
    assert Loss.visible([50.0, 40.0], [48.0, 39.0]).mean == pytest.approx(0.5)
    assert Loss.visible([46.0], [44.0]).worst == pytest.approx(1.0)
    assert Loss.visible([30.0], [-math.inf]).worst == math.inf


def test_the_budget_of_one_picture_goes_with_the_mean() -> None:
    assert Budget.of(0.05) == Budget()
    assert Loss(0.05, 0.15).within(Budget())
    assert not Loss(0.01, 0.2).within(Budget())
    assert not Loss(0.01, 0.1, peak=9.0).within(Budget(peak=8.0))


def test_what_is_slower_is_refused(picture: CheckImage) -> None:
    def slow(images: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return images

    report = check_speed(lambda images: images, slow, picture.low, "bf16")
    assert report["speedup"] > 1
    assert report["baseline"] == "bf16"
    with pytest.raises(GateError, match=r"not faster here: \d+ ms, bf16 \d+ ms"):
        check_speed(slow, lambda images: images, picture.low, "bf16")
