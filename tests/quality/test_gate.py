from __future__ import annotations

import numpy as np
import pytest
import torch

from ramedge.errors import GateError
from ramedge.network.srram import SRRAM
from ramedge.quality.gate import GATE_CROP, THRESHOLDS, check, gate_photos
from ramedge.runtimes.torch.session import open_torch


def double(images: np.ndarray) -> np.ndarray:
    """A stand-in network: nearest neighbour."""
    return images.repeat(2, axis=2).repeat(2, axis=3)


def test_the_photos_are_real_and_large_enough() -> None:
    photos = gate_photos()
    assert len(photos) >= 2
    for image in photos.values():
        assert image.shape == (1, 3, GATE_CROP, GATE_CROP)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
        assert image.std() > 0.05


def test_the_same_network_passes() -> None:
    report = check(double, double, "fp32", "test")
    assert report.psnr == np.inf
    assert report.max_error == 0
    assert report.photos == tuple(gate_photos())


def test_the_report_holds_the_worst_figures() -> None:
    def noisy(images: np.ndarray) -> np.ndarray:
        output = double(images)
        output[0, 0, 0, 0] += 0.001
        return output

    report = check(noisy, double, "fp32", "test")
    assert report.max_error == pytest.approx(0.001, rel=1e-3)
    assert report.as_dict()["thresholds"]["min_psnr"] == THRESHOLDS["fp32"].min_psnr


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_tint_of_one_level_is_refused(precision: str) -> None:
    def tinted(images: np.ndarray) -> np.ndarray:
        return double(images) + np.array([0, 1 / 255, 0], np.float32).reshape(1, 3, 1, 1)

    with pytest.raises(GateError, match="tint"):
        check(tinted, double, precision, "test")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused(value: float) -> None:
    def broken(images: np.ndarray) -> np.ndarray:
        output = double(images)
        output[0, 1, 5, 5] = value
        return output

    with pytest.raises(GateError, match="NaN or infinity"):
        check(broken, double, "fp16", "test")


def test_a_nan_weight_is_refused(small_network: SRRAM) -> None:
    import copy

    broken = copy.deepcopy(small_network)
    with torch.no_grad():
        broken.body.weight[0, 0, 0, 0] = float("nan")
    candidate = open_torch(broken, "fp32", "cpu").infer_float
    with pytest.raises(GateError, match="NaN"):
        check(candidate, open_torch(small_network, "fp32", "cpu").infer_float, "fp16", "test")


def test_noise_is_refused() -> None:
    def noisy(images: np.ndarray) -> np.ndarray:
        output = double(images)
        return output + np.random.default_rng(0).normal(0, 0.01, output.shape).astype(np.float32)

    with pytest.raises(GateError, match=r"needed are 50 dB"):
        check(noisy, double, "fp16", "test")


def test_one_wild_pixel_is_refused() -> None:
    def spot(images: np.ndarray) -> np.ndarray:
        output = double(images)
        output[0, 0, 7, 7] += 0.1
        return output

    with pytest.raises(GateError, match="One value"):
        check(spot, double, "fp16", "test")


def test_another_size_is_refused() -> None:
    with pytest.raises(GateError, match="shape"):
        check(lambda images: double(images)[:, :, 1:], double, "fp32", "test")


def test_no_photos_is_no_check() -> None:
    with pytest.raises(GateError, match="no photos"):
        check(double, double, "fp32", "test", photos={})
