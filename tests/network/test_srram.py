from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ramedge.errors import UsageError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import PEAK, RGB_MEAN, SRRAM, ResidualAttentionBlock

# Table 2 of the paper, in thousands, and the exact counts that its description gives.
TABLE_2 = {
    "none": (1_369_859, "1370"),
    "ram-ca": (1_379_139, "1379"),
    "ram-sa": (1_380_099, "1380"),
    "ram": (1_389_379, "1389"),
    "rcab": (1_379_139, "1379"),
    "cbam-ca": (1_379_139, "1379"),
    "cbam-sa": (1_371_443, "1371"),
    "cbam": (1_380_723, "1381"),
    "csar-ca": (1_379_139, "1379"),
    "csar-sa": (1_505_043, "1505"),
    "csar": (1_646_419, "1646"),
}


@pytest.mark.parametrize(("attention", "counts"), TABLE_2.items())
def test_parameter_counts_of_table_2(attention: str, counts: tuple[int, str]) -> None:
    exact, thousands = counts
    count = SRRAM(NetworkConfig(blocks=16, attention=attention)).parameter_count()
    assert count == exact
    assert f"{count / 1000:.0f}" == thousands


@pytest.mark.parametrize(("scale", "count"), [(2, 938_923), (3, 1_123_563), (4, 1_086_635)])
def test_parameter_counts_of_one_scale(scale: int, count: int) -> None:
    assert SRRAM(NetworkConfig(scales=(scale,))).parameter_count() == count


@pytest.mark.parametrize(("scale", "count"), [(2, 942_385), (3, 1_127_025), (4, 1_090_097)])
def test_parameter_counts_of_table_4(scale: int, count: int) -> None:
    assert SRRAM(NetworkConfig(scales=(2, 3, 4))).scale_parameter_count(scale) == count


def test_parameter_count_of_the_large_network() -> None:
    assert SRRAM(NetworkConfig(blocks=64)).parameter_count() == 4_993_027


def test_a_block_is_equation_5() -> None:
    block = ResidualAttentionBlock(16, 4, "ram")
    x = torch.randn(1, 16, 6, 7)
    transformed = F.conv2d(
        torch.relu(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)),
        block.conv2.weight,
        block.conv2.bias,
        padding=1,
    )
    variance = transformed.var(dim=(2, 3), correction=0, keepdim=True)
    attention = block.attention
    logits = attention.excitation.fc2(torch.relu(attention.excitation.fc1(variance)))
    gate = torch.sigmoid(logits + attention.depthwise(transformed))
    torch.testing.assert_close(block(x), x + gate * transformed)


def test_the_network_is_equations_2_to_4(small_network: SRRAM) -> None:
    image = torch.rand(1, 3, 6, 7)
    mean = torch.tensor(RGB_MEAN).view(1, 3, 1, 1) * 255
    first = small_network.head(image * 255 - mean)
    features = first
    for block in small_network.blocks:
        features = block(features)
    features = first + small_network.body(features)
    tail = small_network.tails["x2"]
    upsampled = F.pixel_shuffle(tail.upsampler[0](features), 2)
    expected = (tail.reconstruction(upsampled) + mean) / 255
    torch.testing.assert_close(small_network(image), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 6)])
def test_output_is_scale_times_as_large(scale: int, size: tuple[int, int]) -> None:
    network = SRRAM(NetworkConfig(blocks=1, channels=16, scales=(scale,)))
    output = network(torch.rand(2, 3, *size))
    assert output.shape == (2, 3, scale * size[0], scale * size[1])
    assert output.dtype == torch.float32


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_scale_taken_out_gives_the_same_output(scale: int) -> None:
    network = SRRAM(NetworkConfig(blocks=2, channels=16, reduction=4, scales=(2, 3, 4)))
    image = torch.rand(1, 3, 9, 8)
    assert torch.equal(network(image, scale), network.take(scale)(image))


def test_attention_is_alive_at_the_inner_range(small_network: SRRAM) -> None:
    """At 0–255 the channel logits differ between images; at [0, 1] they would hardly."""
    assert PEAK == 255.0
    flat, busy = torch.full((1, 3, 16, 16), 0.5), torch.rand(1, 3, 16, 16)
    block = small_network.blocks[0]
    mean = small_network.mean

    def logits(image: torch.Tensor) -> torch.Tensor:
        return block.attention.channel_logits(
            block.transform(small_network.head(image * 255 - mean))
        )

    assert (logits(flat) - logits(busy)).abs().max() > 0.01


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_receptive_field_by_impulse(scale: int) -> None:
    """A changed pixel reaches exactly as far as computed, once attention sees no variance."""
    config = NetworkConfig(blocks=2, channels=16, reduction=4, scales=(scale,), attention="ram-sa")
    torch.manual_seed(0)
    network = SRRAM(config).double()
    size = 41
    centre = size // 2
    image = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    # FP32 inside would hide the far, faint end of the field.
    features = network.head(image * 255 - network.mean)
    first = features
    for block in network.blocks:
        features = block(features)
    output = network.tails[f"x{scale}"](first + network.body(features))
    output[
        :, :, centre * scale : (centre + 1) * scale, centre * scale : (centre + 1) * scale
    ].abs().sum().backward()
    assert image.grad is not None
    reached = image.grad.abs().sum(dim=(0, 1)) > 0
    rows = reached.any(dim=1).nonzero().flatten()
    radius = max(centre - int(rows.min()), int(rows.max()) - centre)
    assert radius == config.receptive_field(scale)


def test_receptive_field_of_the_light_network() -> None:
    assert NetworkConfig().receptive_field(2) == 34


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": (5,)}, "Scale 5"),
        ({"scales": ()}, "each scale once"),
        ({"scales": (2, 2)}, "each scale once"),
        ({"attention": "senet"}, "Unknown attention"),
        ({"blocks": 0}, "at least one block"),
        ({"channels": 8}, "at least 16"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NetworkConfig(**settings)


def test_a_scale_the_network_lacks_is_refused(small_network: SRRAM) -> None:
    with pytest.raises(UsageError, match="not 3"):
        small_network(torch.rand(1, 3, 4, 4), 3)
    with pytest.raises(UsageError, match="not 3"):
        small_network.take(3)


def test_several_scales_want_one_named() -> None:
    network = SRRAM(NetworkConfig(blocks=1, channels=16, scales=(2, 3)))
    with pytest.raises(UsageError, match="name one"):
        network(torch.rand(1, 3, 4, 4))
