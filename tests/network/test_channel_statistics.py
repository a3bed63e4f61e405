from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ramedge.errors import WeightsError
from ramedge.network.channel_statistics import (
    Statistic,
    attention_change,
    load_excitation,
    merge,
    save_excitation,
)
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import excitation_of
from ramedge.tiling.grid import TilePlan


def statistic(values: np.ndarray) -> Statistic:
    """Of `[C, pixels]`, by numpy."""
    mean = values.mean(axis=1)
    return Statistic(values.shape[1], mean[None], ((values.T - mean).T ** 2).sum(axis=1)[None])


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 20),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_merged_tiles_are_the_statistic_of_the_whole(
    height: int, width: int, tile: int, offset: float
) -> None:
    rng = np.random.default_rng(height * width + tile)
    frame = rng.normal(offset, 3.0, (2, height, width)) * np.array([1, 50])[:, None, None]
    parts = []
    for part in TilePlan(height, width, tile, 2):
        rows, columns = part.interior.slices
        parts.append(statistic(frame[:, rows, columns].reshape(2, -1)))
    whole = merge(parts)
    assert whole.count == height * width
    np.testing.assert_allclose(whole.mean[0], frame.mean(axis=(1, 2)), rtol=1e-10)
    np.testing.assert_allclose(whole.variance[0], frame.var(axis=(1, 2)), rtol=1e-6, atol=1e-9)


def test_the_variance_between_tiles_counts() -> None:
    flat = [Statistic(10, np.array([[level]]), np.array([[0.0]])) for level in (0.0, 8.0)]
    assert merge(flat).variance == pytest.approx(16.0)


def test_logits_are_pytorchs(small_network: SRRAM, tmp_path: Path) -> None:
    excitation = excitation_of(small_network)
    save_excitation(excitation, tmp_path / "attention.safetensors")
    loaded = load_excitation(tmp_path / "attention.safetensors")
    variance = np.random.default_rng(0).random(excitation.shape) * 1000
    found = loaded.logits(variance)
    for index, block in enumerate(small_network.blocks):
        given_ = torch.from_numpy(variance[index]).float()[None, :, None, None]
        with torch.no_grad():
            expected = block.attention.excitation(given_)[0, :, 0, 0]  # type: ignore[union-attr,operator]
        np.testing.assert_allclose(found[index], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_change_is_that_of_the_sigmoid() -> None:
    first, second = np.array([[0.0, 900.0]]), np.array([[1.0, -900.0]])
    assert attention_change(first, second) == 1.0
    assert attention_change(first[:, :1], second[:, :1]) == pytest.approx(0.2310585786)


def test_a_damaged_excitation_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        load_excitation(tmp_path / "a.safetensors")
