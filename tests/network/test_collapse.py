from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ramedge.network.collapse import RIM, CollapsedNetwork, CollapsedTail, collapse
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM, Tail

SCALES = (2, 3, 4)
CHANNELS = 5


Parts = tuple[nn.Conv2d, CollapsedTail]


@pytest.fixture(scope="module", params=SCALES)
def parts(request: pytest.FixtureRequest) -> Parts:
    torch.manual_seed(request.param)
    head, tail = nn.Conv2d(3, CHANNELS, 3, padding=1), Tail(CHANNELS, request.param)
    for parameter in (*head.parameters(), *tail.parameters()):
        torch.nn.init.normal_(parameter)  # biases as well, which begin as zero
    return head, CollapsedTail(tail, head)


@given(height=st.integers(1, 9), width=st.integers(1, 9), count=st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_it_is_head_and_tail_for_every_size(
    parts: Parts, height: int, width: int, count: int
) -> None:
    head, collapsed = parts
    image = torch.randn(count, 3, height, width)
    residual = torch.randn(count, CHANNELS, height, width)
    with torch.no_grad():
        first = head(image)
        expected = collapsed.tail(first + residual)
        found = collapsed(image, first, residual)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_the_rim_is_where_single_convolutions_would_differ(parts: Parts) -> None:
    """One feature deep for the tail alone, two with the head: no strip is wider than it must be."""
    head, collapsed = parts
    s = collapsed.tail.scale
    image, residual = torch.randn(1, 3, 9, 10), torch.randn(1, CHANNELS, 9, 10)
    shuffle = torch.nn.functional.pixel_shuffle
    with torch.no_grad():
        tail = collapsed.tail(residual)
        both = collapsed.tail(head(image) + residual)
        pairs = (
            (1, shuffle(collapsed.merged(residual), s), tail),
            (2, shuffle(collapsed.merged(residual) + collapsed.picture(image), s), both),
        )
    for width, found, expected in pairs:
        least = 1e-5 * float(expected.abs().max())
        wrong, rim = (found - expected).abs().amax(dim=(0, 1)) > least, width * s
        assert bool(wrong[rim - s : rim].any())
        assert bool(wrong[:, rim - s : rim].any())
        assert not bool(wrong[rim:-rim, rim:-rim].any())


@pytest.mark.parametrize("scale", SCALES)
def test_multiply_adds_are_what_pytorch_counts_but_for_the_rim(scale: int) -> None:
    network = collapse(SRRAM(NetworkConfig(scales=(scale,))))
    counts = []
    for height in (40, 41):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 3, height, 40))
        counts.append(counter.get_total_flops() / 2)
    expected = network.config.collapsed_multiply_adds(scale)
    assert expected is not None
    # One row more: its own, and in the strips on the left and on the right three features of it
    # through the tail's own layers and four through the one convolution.
    strips = 3 * own_layers(scale) + 4 * 25 * 64 * 3 * scale**2
    assert counts[1] - counts[0] == expected * 40 + 2 * strips


def own_layers(scale: int) -> int:
    """Multiply-adds of the tail's own layers for a feature."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Tail(64, scale)(torch.zeros(1, 64, 1, 1))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("rim", [True, False])
@pytest.mark.parametrize("scale", SCALES)
def test_training_sees_the_same_function_and_the_same_gradients(scale: int, rim: bool) -> None:
    torch.manual_seed(scale)
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4, scales=SCALES))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    image, wanted = torch.rand(2, 3, 7, 6), torch.rand(2, 3, 7 * scale, 6 * scale)
    gradients = []
    own = slice(None) if rim else slice(RIM * scale, -RIM * scale)
    collapsed = CollapsedNetwork(network)
    for output in (network(image, scale)[..., own, own], collapsed(image, scale, rim)):
        network.zero_grad()
        (output - wanted[..., own, own]).pow(2).sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        largest = float(gradient.abs().max())
        assert float((gradients[1][name] - gradient).abs().max()) <= 1e-4 * largest, name


def test_training_in_bfloat16_does_not_round_the_picture() -> None:
    """An output of 8 bits would be off by half a level near white; the picture is most of it."""
    torch.manual_seed(0)
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4))
    torch.nn.init.zeros_(network.body.weight)  # what is left is the picture's own way
    image = torch.rand(1, 3, 12, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = CollapsedNetwork(network)(image, 2, False)
    with torch.no_grad():
        expected = network(image, 2)[..., 4:-4, 4:-4]
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_training_in_bfloat16_does_not_round_what_the_head_reads() -> None:
    """A pixel near white less the mean has steps of a whole level in bfloat16."""
    torch.manual_seed(0)
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4))
    heads: list[torch.Tensor] = []
    blocks: list[torch.Tensor] = []
    network.head.register_forward_hook(lambda module, given, output: heads.append(output))
    network.blocks[0].register_forward_hook(lambda module, given, output: blocks.append(given[0]))
    image = torch.rand(1, 3, 12, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        CollapsedNetwork(network)(image, 2)
    with torch.no_grad():
        expected = network.enter(image)
    torch.testing.assert_close(heads[0], expected)
    assert blocks[0].dtype == torch.bfloat16  # the features behind it are half as large


def test_the_network_that_was_given_stays_as_it_was() -> None:
    network = SRRAM(NetworkConfig(blocks=1, channels=8, reduction=4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collapsed = collapse(network)
    assert isinstance(network.tails["x2"], Tail)
    assert isinstance(collapsed.tails["x2"], CollapsedTail)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
