from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ramedge.errors import InputError, MissingExtraError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.weights import save_weights
from ramedge.study import features, figures
from ramedge.study.features import channel_variances, find_examples, low_resolution, watch
from ramedge.study.figures import draw_network, draw_study, figure_photos


def by_hand(network: SRRAM, pixels: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """X and X̂ of each block, from the definition: F_r = F_{r-1} + attention(f_trans(F_{r-1}))."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    found = []
    with torch.no_grad():
        now = network.head(image * 255 - network.mean)
        for block in network.blocks:
            x = block.transform(now)
            found.append((x[0], block.attention(x)[0]))
            now = now + found[-1][1]
    return found


def assert_drawn(path: Path, width: int, height: int) -> None:
    with Image.open(path) as opened:
        assert opened.size == (width, height)
        colours = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 20


@pytest.mark.parametrize("attention", ["ram", "csar", "none"])
def test_features_are_those_of_the_definition(photo: np.ndarray, attention: str) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(blocks=2, channels=16, reduction=4, attention=attention)
    network = SRRAM(config).eval()
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    watch(network, photo, lambda block, x, y: seen.update({block: (x[0], y[0])}))
    for block, pair in enumerate(by_hand(network, photo)):
        for one, two in zip(seen[block], pair, strict=True):
            torch.testing.assert_close(one, two)
    assert not any(block.attention._forward_hooks for block in network.blocks)


def test_variances_are_the_mean_over_photos(small_network: SRRAM, photo: np.ndarray) -> None:
    photos = [photo, photo[:, ::-1].copy() // 2]
    found = channel_variances(small_network, photos)
    pairs = [by_hand(small_network, pixels) for pixels in photos]
    for index, values in ((0, found.before), (1, found.after)):
        expected = np.mean(
            [[block[index].numpy().var(axis=(1, 2)) for block in blocks] for blocks in pairs],
            axis=0,
        )
        np.testing.assert_allclose(values, expected, rtol=1e-4)
    with pytest.raises(InputError, match="at least one photo"):
        channel_variances(small_network, [])


def test_examples_are_of_their_kind(
    small_network: SRRAM, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attention made by hand: what it does to each channel is known."""

    class ByHand(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = 0.5 * x
            y[:, 3] = x[:, 3]  # kept
            y[:, 5] = 0  # suppressed
            y[:, 7, :, ::2] = 0.9 * x[:, 7, :, ::2]  # the pattern changes
            y[:, 7, :, 1::2] = -0.9 * x[:, 7, :, 1::2]
            return y

    with torch.no_grad():
        network = SRRAM(NetworkConfig(blocks=1, channels=16, reduction=4))
        network.load_state_dict(small_network.state_dict(), strict=False)
        block = network.blocks[0]
        for channel in (3, 7):  # strong, however the weights fell
            block.conv2.weight[channel] *= 100
            block.conv2.bias[channel] += 1
        block.attention = ByHand()
    found = find_examples(network, photo, 1)
    assert [example.channel for example in found.recalibrated] == [7]
    assert [example.channel for example in found.kept] == [3]
    assert [example.channel for example in found.suppressed] == [5]
    assert found.kept[0].energy_kept == pytest.approx(1)
    assert found.suppressed[0].energy_kept == 0
    expected = by_hand(network, photo)[0]
    np.testing.assert_allclose(found.recalibrated[0].before, expected[0][7].numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.recalibrated[0].after, expected[1][7].numpy(), rtol=1e-4)


def test_no_channel_is_shown_twice(small_network: SRRAM, photo: np.ndarray) -> None:
    found = find_examples(small_network, photo, 2)
    places = [
        (example.block, example.channel)
        for kind in (found.recalibrated, found.kept, found.suppressed)
        for example in kind
    ]
    assert len(set(places)) == 6
    with pytest.raises(InputError, match="too few"):
        find_examples(small_network, photo, 11)


def test_pictures_of_a_network(small_weights: Path, tmp_path: Path) -> None:
    paths = draw_network(small_weights, tmp_path)
    assert paths == [tmp_path / "variances_ram.png", tmp_path / "features_ram.png"]
    assert_drawn(paths[0], 10 * figures.DPI, int(4.2 * figures.DPI))
    with Image.open(paths[1]) as opened:
        width, height = opened.size
    assert width == int(11.4 * figures.DPI)
    assert_drawn(paths[1], width, height)


def test_pictures_of_a_study(tmp_path: Path, photo: np.ndarray) -> None:
    weights = {}
    for attention in ("none", "ram", "cbam"):
        config = NetworkConfig(blocks=1, channels=16, attention=attention)
        weights[attention] = tmp_path / f"{attention}.safetensors"
        save_weights(SRRAM(config), weights[attention])
    paths = draw_study(weights, "ram", tmp_path / "out")
    assert [path.name for path in paths] == [
        "variances.png", "variances_ram.png", "features_ram.png",
    ]  # fmt: skip
    assert_drawn(paths[0], 10 * figures.DPI, int(2.7 * figures.DPI))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in paths}


def test_silent_features_can_be_drawn(tmp_path: Path) -> None:
    """A network of zeros has no variance and no energy at all."""
    network = SRRAM(NetworkConfig(blocks=1, channels=16))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    save_weights(network, tmp_path / "zero.safetensors")
    for path in draw_network(tmp_path / "zero.safetensors", tmp_path):
        assert path.stat().st_size > 0


def test_large_photos_are_cut_to_their_centre(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "MAX_SIDE", 10)
    pixels = np.zeros((60, 30, 3), np.uint8)
    pixels[20:40, 5:25] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        low_resolution(tmp_path / "a.png"), np.full((10, 10, 3), 200, np.uint8)
    )


def test_photos_of_a_folder(photo_folder: Path, tmp_path: Path) -> None:
    assert [pixels.shape for pixels in figure_photos(photo_folder)] == [(120, 160, 3)] * 2
    with pytest.raises(InputError, match="No such folder"):
        figure_photos(tmp_path / "no")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="Cannot read the photo"):
        figure_photos(tmp_path)
    Image.new("RGB", (1, 9)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="too small"):
        figure_photos(tmp_path)


def test_a_missing_matplotlib_names_the_extra(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*ramedge\[train\]"):
        draw_network(small_weights, tmp_path)
