from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ramedge.network.collapse import CollapsedNetwork, CollapsedTail, collapse
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM, Tail

SCALES = (2, 3, 4)
CHANNELS = 5


@pytest.fixture(scope="module", params=SCALES)
def collapsed(request: pytest.FixtureRequest) -> CollapsedTail:
    torch.manual_seed(request.param)
    tail = Tail(CHANNELS, request.param)
    for parameter in tail.parameters():
        torch.nn.init.normal_(parameter)  # biases as well, which begin as zero
    return CollapsedTail(tail)


@given(height=st.integers(1, 9), width=st.integers(1, 9), count=st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_it_is_the_tail_for_every_size(
    collapsed: CollapsedTail, height: int, width: int, count: int
) -> None:
    features = torch.randn(count, CHANNELS, height, width)
    with torch.no_grad():
        expected = collapsed.tail(features)
        found = collapsed(features)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_the_rim_is_where_one_convolution_would_differ(collapsed: CollapsedTail) -> None:
    """Without the strips, nothing but the outermost features' pixels would be wrong."""
    s = collapsed.tail.scale
    features = torch.randn(1, CHANNELS, 8, 9)
    with torch.no_grad():
        alone = torch.nn.functional.pixel_shuffle(collapsed.merged(features), s)
        wrong = (alone - collapsed.tail(features)).abs().amax(dim=(0, 1)) > 1e-3
    assert bool(wrong[0].any())
    assert bool(wrong[:, 0].any())
    assert not bool(wrong[s:-s, s:-s].any())


@pytest.mark.parametrize("scale", SCALES)
def test_multiply_adds_are_what_pytorch_counts_but_for_the_rim(scale: int) -> None:
    network = collapse(SRRAM(NetworkConfig(scales=(scale,))))
    counts = []
    for height in (40, 41):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 3, height, 40))
        counts.append(counter.get_total_flops() / 2)
    strips = collapsed_strips(scale)
    expected = network.config.collapsed_multiply_adds(scale)
    assert expected is not None
    # One row more: its own, and three features of it in the strips on the left and on the right.
    assert counts[1] - counts[0] == expected * 40 + 2 * 3 * strips


def collapsed_strips(scale: int) -> int:
    """Multiply-adds of the tail's own layers for a feature."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Tail(64, scale)(torch.zeros(1, 64, 1, 1))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("scale", SCALES)
def test_training_sees_the_same_function_and_the_same_gradients(scale: int) -> None:
    torch.manual_seed(scale)
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4, scales=SCALES))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    image, wanted = torch.rand(2, 3, 7, 6), torch.rand(2, 3, 7 * scale, 6 * scale)
    gradients = []
    for way in (network, CollapsedNetwork(network)):
        network.zero_grad()
        (way(image, scale) - wanted).pow(2).sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        largest = float(gradient.abs().max())
        assert float((gradients[1][name] - gradient).abs().max()) <= 1e-4 * largest, name


def test_the_network_that_was_given_stays_as_it_was() -> None:
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collapsed = collapse(network)
    assert isinstance(network.tails["x2"], Tail)
    assert isinstance(collapsed.tails["x2"], CollapsedTail)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
