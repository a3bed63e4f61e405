from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ramedge.training.batches import DeviceBatches, HostBatches
from ramedge.training.photos import load_photos
from ramedge.training.sampler import PatchSampler


@pytest.mark.parametrize("channels_last", [False, True])
def test_patches_cut_on_the_device_are_those_cut_on_the_host(
    photo_folder: Path, channels_last: bool
) -> None:
    """Every turn and flip: two independent ways to the same pixels."""
    photos = load_photos(photo_folder, (2, 3, 4), patch=16)
    sampler = PatchSampler(photos.training, (2, 3, 4), patch=16, batch=12, seed=3)
    turns = {(int(t), bool(f)) for s in range(8) for t, f in zip(
        sampler.draw(s).turns, sampler.draw(s).flip, strict=True)}  # fmt: skip
    assert len(turns) == 8
    cpu = torch.device("cpu")
    host = HostBatches(sampler, cpu, channels_last).stream(0, 8)
    device = DeviceBatches(sampler, cpu, channels_last).stream(0, 8)
    for (step, expected), (same, found) in zip(host, device, strict=True):
        assert step == same
        assert expected.scale == found.scale
        assert torch.equal(expected.low, found.low)
        assert torch.equal(expected.high, found.high)
