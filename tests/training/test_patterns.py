from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ramedge.training.patterns import Patterns

SIDE = 24


def photos(batch: int, scale: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    # No pattern has these values: what is a pattern can be told by its pixels.
    low = 0.25 + 0.5 * torch.rand(batch, 3, SIDE, SIDE, generator=generator)
    high = 0.25 + 0.5 * torch.rand(batch, 3, SIDE * scale, SIDE * scale, generator=generator)
    return low, high


def applied(patterns: Patterns, step: int, scale: int = 2) -> tuple[Tensor, Tensor]:
    """Patterns in the part of a batch that this process holds."""
    own = slice(patterns.rank, None, patterns.world)
    low, high = (part[own].clone() for part in photos(patterns.batch, scale))
    patterns.apply(step, low, high)
    return low, high


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_rectangle_changes_and_the_same_one_in_high_resolution(scale: int) -> None:
    before_low, before_high = photos(64, scale)
    low, high = applied(Patterns(1.0, 64, seed=5), 3, scale)
    whole = 0
    for index in range(64):
        changed = (low[index] != before_low[index]).any(dim=0)
        rows, columns = np.nonzero(changed.numpy())
        box = np.zeros((SIDE, SIDE), bool)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        whole += bool(box.all())
        wide = torch.from_numpy(np.kron(box, np.ones((scale, scale), bool)))
        assert torch.equal(low[index][:, ~box], before_low[index][:, ~box])
        assert torch.equal(high[index][:, ~wide], before_high[index][:, ~wide])
        assert (high[index][:, wide] != before_high[index][:, wide]).float().mean() > 0.99
        assert 0.0 <= high[index].min() <= high[index].max() <= 1.0
        # Interpolation keeps the mean, but for the rectangle's rim and what is clipped.
        if box.all():
            assert high[index].mean() == pytest.approx(float(low[index].mean()), abs=0.08)
    assert 4 < whole < 40


def test_checkers_and_plain_saturated_colours_occur() -> None:
    """A cell of random bits is a one-pixel checkerboard hardly once in a hundred times."""
    checkers = saturated = 0
    rows, columns = np.mgrid[:SIDE, :SIDE]
    odd = torch.from_numpy((rows + columns) % 2 == 1)
    for step in range(20):
        for low in applied(Patterns(1.0, 64, seed=1), step)[0]:
            one, other = low[:, ~odd], low[:, odd]
            flat = bool((one == one[:, :1]).all() and (other == other[:, :1]).all())
            same = flat and bool((one[:, 0] == other[:, 0]).all())
            checkers += flat and not same
            colour = one[:, 0].tolist()
            saturated += same and set(colour) == {0.0, 1.0}
    # Of 1,280 patches a quarter are covered whole, and a sixteenth of those are checkers: 20.
    assert checkers >= 8
    assert saturated >= 3


def test_the_share_is_kept_and_zero_is_none() -> None:
    before, _ = photos(1000, 2)
    for share in (0.0, 0.02, 0.5):
        low, _ = applied(Patterns(share, 1000, seed=0), 0)
        changed = (low != before).flatten(1).any(dim=1).float().mean()
        assert float(changed) == pytest.approx(share, abs=0.04 if share else 0)


def test_a_step_is_the_same_whenever_it_is_drawn() -> None:
    patterns = Patterns(0.5, 8, seed=2)
    first, again, other = (applied(patterns, step)[0] for step in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_processes_share_a_batch() -> None:
    whole = applied(Patterns(0.7, 12, seed=4), 9)
    parts = [applied(Patterns(0.7, 12, 4, rank, 3), 9) for rank in range(3)]
    for rank, part in enumerate(parts):
        for found, expected in zip(part, whole, strict=True):
            assert torch.equal(found, expected[rank::3])
