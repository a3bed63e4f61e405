from __future__ import annotations

import numpy as np
import pytest
import torch

from ramedge.calibration.equalize import LARGEST_FACTOR, equalize
from ramedge.errors import ExportError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM


def network(scale: int, attention: str = "ram") -> SRRAM:
    torch.manual_seed(scale)
    config = NetworkConfig(blocks=2, channels=16, reduction=4, scales=(scale,), attention=attention)
    made = SRRAM(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            # Biases and blocks that count, so that a factor left out shows.
            parameter.add_(torch.randn_like(parameter) * 0.05)
        made.head.weight[3] *= 30.0
    return made


def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.random((1, 3, 24, 20), dtype=np.float32) for _ in range(2)]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_equalized_network_computes_the_same(scale: int) -> None:
    before = network(scale)
    after = equalize(before, images())
    assert not torch.equal(after.head.weight, before.head.weight)
    picture = torch.rand(1, 3, 17, 13)
    with torch.no_grad():
        expected = before(picture)
        peak = float(expected.abs().max())
        torch.testing.assert_close(after(picture), expected, rtol=0, atol=1e-5 * peak)


def test_ranges_of_channels_come_closer() -> None:
    """The stream had a channel 30 times as wide as the others."""

    def spread(made: SRRAM) -> float:
        seen: list[torch.Tensor] = []
        handle = made.body.register_forward_pre_hook(
            lambda _layer, given: seen.append(given[0].abs().amax(dim=(0, 2, 3)))
        )
        with torch.no_grad():
            made(torch.from_numpy(images()[0]))
        handle.remove()
        return float(seen[0].max() / seen[0].median())

    plain = network(2)
    assert spread(equalize(plain, images())) < spread(plain) / 2
    assert LARGEST_FACTOR > 1


def test_what_cannot_be_equalized_is_refused() -> None:
    with pytest.raises(ExportError, match="attention ram"):
        equalize(network(2, attention="cbam"), images())
    several = SRRAM(NetworkConfig(blocks=1, channels=16, reduction=4, scales=(2, 3)))
    with pytest.raises(ExportError, match="one scale"):
        equalize(several, images())
