from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch

from ramedge.network.attention import (
    ATTENTIONS,
    ChannelAttention,
    CSARAttention,
    FusedAttention,
    average_pool,
    max_pool,
    variance_pool,
)
from ramedge.network.config import ATTENTION_NAMES


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def test_variance_of_a_ramp_is_its_closed_form() -> None:
    """The population variance of 0 … n-1 is (n² - 1) / 12."""
    n = 37
    ramp = torch.arange(n, dtype=torch.float32).repeat(5, 1)[None, None]
    assert variance_pool(ramp).item() == pytest.approx((n * n - 1) / 12, rel=1e-6)


def test_variance_of_a_sine_is_half_its_squared_amplitude() -> None:
    amplitude, n = 50.0, 64
    wave = amplitude * torch.sin(torch.arange(n) * (2 * math.pi * 3 / n))
    pooled = variance_pool((wave + 400.0).repeat(8, 1)[None, None])
    assert pooled.item() == pytest.approx(amplitude**2 / 2, rel=1e-5)


def test_variance_is_population_variance_of_each_channel() -> None:
    x = torch.randn(2, 3, 4, 5)
    expected = np.var(x.numpy(), axis=(2, 3), ddof=0)
    np.testing.assert_allclose(variance_pool(x)[:, :, 0, 0].numpy(), expected, rtol=1e-5)


def test_variance_of_one_pixel_is_zero() -> None:
    assert variance_pool(torch.full((1, 2, 1, 1), 7.0)).abs().max().item() == 0.0


def test_variance_of_half_precision_does_not_overflow() -> None:
    x = torch.tensor([-300.0, 300.0], dtype=torch.float16).view(1, 1, 1, 2)
    pooled = variance_pool(x)
    assert pooled.dtype == torch.float32
    assert pooled.item() == 90_000.0


def test_channel_logits_and_recalibration_are_equation_8() -> None:
    """σ(fc2(relu(fc1(var(X)))) ⊕ depthwise(X)) ⊗ X, written out in numpy."""
    torch.manual_seed(1)
    channels, reduction, height, width = 8, 2, 5, 6
    attention = FusedAttention(channels, reduction).double()
    # Excitation is FP32 by contract; double precision lets the comparison be exact.
    attention.excitation.float()
    x = torch.randn(1, channels, height, width, dtype=torch.float64)
    got = attention(x)[0].detach().numpy()

    weights = {k: v.detach().numpy().astype(np.float64) for k, v in attention.state_dict().items()}
    image = x[0].numpy()
    statistic = image.var(axis=(1, 2))
    hidden = weights["excitation.fc1.weight"][:, :, 0, 0] @ statistic
    hidden = np.maximum(hidden + weights["excitation.fc1.bias"], 0)
    logits = weights["excitation.fc2.weight"][:, :, 0, 0] @ hidden + weights["excitation.fc2.bias"]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    spatial = np.zeros_like(image)
    for dy in range(3):
        for dx in range(3):
            kernel = weights["depthwise.weight"][:, 0, dy, dx][:, None, None]
            spatial += kernel * padded[:, dy : dy + height, dx : dx + width]
    spatial += weights["depthwise.bias"][:, None, None]
    expected = sigmoid(logits[:, None, None] + spatial) * image
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_fused_attention_is_its_two_halves() -> None:
    attention = FusedAttention(16, 4)
    x = torch.randn(2, 16, 7, 9)
    halves = attention.recalibrate(x, attention.channel_logits(x))
    assert torch.equal(attention(x), halves)


def test_recalibration_of_a_crop_with_the_frames_logits_is_the_frames_crop() -> None:
    attention = FusedAttention(16, 4)
    x = torch.randn(1, 16, 20, 20) * 20
    whole = attention(x)
    part = attention.recalibrate(x[:, :, 2:12, 3:13], attention.channel_logits(x))
    torch.testing.assert_close(part[:, :, 1:-1, 1:-1], whole[:, :, 3:11, 4:12])


@pytest.mark.parametrize(
    ("pools", "reduce"),
    [
        ((average_pool,), lambda x, f: f(x.mean((2, 3), keepdim=True))),
        (
            (average_pool, max_pool),
            lambda x, f: f(x.mean((2, 3), keepdim=True)) + f(x.amax((2, 3), keepdim=True)),
        ),
    ],
    ids=["rcab", "cbam"],
)
def test_channel_attention_with_other_pools(pools: tuple, reduce) -> None:
    attention = ChannelAttention(16, 4, pools)
    x = torch.randn(2, 16, 5, 6)
    layers = torch.nn.Sequential(
        attention.excitation.fc1, torch.nn.ReLU(), attention.excitation.fc2
    )
    expected = torch.sigmoid(reduce(x, layers)) * x
    torch.testing.assert_close(attention(x), expected)


def test_csar_concatenates_both_and_fuses_them() -> None:
    attention = CSARAttention(16, 4)
    x = torch.randn(1, 16, 5, 6)
    both = torch.cat([attention.channel(x), attention.spatial(x)], 1)
    assert torch.equal(attention(x), attention.fuse(both))
    assert attention.spatial.conv1.out_channels == 32


@pytest.mark.parametrize("name", ATTENTION_NAMES)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 12)])
def test_every_attention_keeps_the_shape(name: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 16, *size)
    output = ATTENTIONS[name](16, 4)(x)
    assert output.shape == x.shape
    assert bool(torch.isfinite(output).all())


def test_the_names_of_the_settings_are_the_mechanisms_built() -> None:
    assert set(ATTENTION_NAMES) == set(ATTENTIONS)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
def test_cbam_compiled_in_bfloat16_has_a_gradient() -> None:
    """The gradient of a maximum must not hang on finding the value again after rounding."""
    torch.manual_seed(0)
    attention = ATTENTIONS["cbam"](16, 4)
    compiled = torch.compile(attention)
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        compiled(x.bfloat16()).float().square().sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in attention.parameters())
