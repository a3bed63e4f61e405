"""Large images in strips: the same pixels as in memory, and never whole."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ramedge.cli import console
from ramedge.media import image_mapping, images
from ramedge.media.images import read_image
from ramedge.upscaling import frame_planner


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image counts as large."""
    monkeypatch.setattr(frame_planner, "STREAMED_PIXELS", 1)
    monkeypatch.setattr(images, "MAPPED_PIXELS", 1)
    monkeypatch.setattr(image_mapping, "PART_PIXELS", 1000)


def make(kind: str, photo: np.ndarray) -> tuple[Image.Image, str]:
    frame = np.tile(photo, (2, 2, 1))  # 128×144
    grey = frame[..., 1]
    alpha = np.linspace(0, 255, grey.size).astype(np.uint8).reshape(grey.shape)
    if kind == "RGB":
        return Image.fromarray(frame), ".png"
    if kind == "RGBA":
        return Image.fromarray(np.dstack([frame, alpha])), ".tif"
    if kind == "grey with alpha":
        return Image.fromarray(np.dstack([grey, alpha])), ".png"
    return Image.fromarray(grey.astype(np.uint16) * 257), ".tif"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("RGB", "fast"), ("RGBA", "exact"), ("grey with alpha", "exact"), ("16-bit grey", "exact")],
)
def test_strips_equal_the_picture_in_memory(
    ramedge,
    tmp_path: Path,
    photo: np.ndarray,
    streamed: None,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    mode: str,
) -> None:
    image, suffix = make(kind, photo)
    source = tmp_path / f"a{suffix}"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(source, icc_profile=None if "grey" in kind else profile, dpi=(300, 300))
    options = ("--tile", 48, "--tile-mode", mode, "--precision", "fp32")
    strips, whole = tmp_path / f"strips{suffix}", tmp_path / f"whole{suffix}"
    ended = ramedge("upscale", source, "-o", strips, *options)
    assert ended.code == 0
    assert "Written while it was made" in " ".join(ended.err.split())
    monkeypatch.setattr(frame_planner, "STREAMED_PIXELS", 10**9)
    assert ramedge("upscale", source, "-o", whole, *options).code == 0
    found, expected = read_image(strips), read_image(whole)
    assert (found.grey, found.metadata) == (expected.grey, expected.metadata)
    for name in ("color", "alpha"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape[:2] == (256, 288)
            # Colour and alpha share what was learned of the iterations in another order.
            assert np.abs(one.astype(int) - other).max() <= 1


def test_exhausted_memory_begins_again(
    ramedge, tmp_path: Path, photo: np.ndarray, streamed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ramedge.runtimes.runtime import Runtime

    Image.fromarray(np.tile(photo, (2, 2, 1))).save(tmp_path / "a.png")
    real, calls = Runtime.begin, []

    def limited(self, pixels, *rest):
        calls.append(max(pixels.shape[:2]))
        if len(calls) > 3 and calls[-1] > 70:
            raise MemoryError("no")
        return real(self, pixels, *rest)

    monkeypatch.setattr(Runtime, "begin", limited)
    ended = ramedge("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile", 80)
    assert ended.code == 0
    said = re.search(r"same frame again in tiles of (\d+) pixels", " ".join(ended.err.split()))
    assert said is not None
    assert int(said[1]) < 80
    assert read_image(tmp_path / "b.png").color.shape == (256, 288, 3)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("mode", "how", "later_frames"),
    [
        ("exact", "one block after another", False),
        ("temporal", "one block after another", True),
        ("fast", "each with its own channel statistics", False),
    ],
)
def test_tiles_are_announced_with_their_cost(
    ramedge,
    tmp_path: Path,
    photo: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    how: str,
    later_frames: bool,
) -> None:
    """On a terminal: elsewhere nobody watches, and the network is not run for an estimate."""
    monkeypatch.setattr(console.stderr, "_force_terminal", True)
    Image.fromarray(np.tile(photo, (2, 2, 1))).save(tmp_path / "a.png")
    ended = ramedge(
        "upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile", 32, "--tile-mode", mode,
        "--precision", "fp32",
    )  # fmt: skip
    text = " ".join(ended.err.split())
    assert "20 tiles of 32×32 pixels with a halo of" in text
    assert f"{how}: about" in text
    assert ("with the attention of the previous frame" in text) == later_frames
    assert "MiB for the network" in text


def test_without_a_terminal_nothing_is_estimated(
    ramedge, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> str:
        raise AssertionError("the network runs for nobody")

    monkeypatch.setattr("ramedge.upscaling.frame_runner.describe_tiles", refuse)
    Image.fromarray(photo).save(tmp_path / "a.png")
    ended = ramedge("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile", 16)
    assert ended.code == 0
    assert "Tiles of 16 pixels" in ended.err


def test_follow_is_the_former_name_of_temporal(ramedge, tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    options = ("--tile", 16, "--tile-mode", "follow")
    ended = ramedge("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", *options)
    assert ended.code == 0
    assert "--tile-mode follow is called temporal." in ended.err
    assert "attention of the previous frame" in " ".join(ended.err.split())
    assert "No tile mode 'foo'" in ramedge("upscale", "a.png", "--tile-mode", "foo").error


@pytest.mark.parametrize("text", ["whole", "0"])
def test_whole_frames_by_either_name(ramedge, tmp_path: Path, photo: np.ndarray, text: str) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    ended = ramedge("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile", text)
    assert ended.code == 0
    assert "Tiles of" not in ended.err
