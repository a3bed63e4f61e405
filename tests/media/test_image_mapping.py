from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ramedge.errors import InputError, OutputError
from ramedge.media import image_mapping, images
from ramedge.media.images import Picture, read_image

KINDS = {
    "raw RGB": ("RGB", {}),
    "LZW RGB": ("RGB", {"compression": "tiff_lzw"}),
    "deflated RGBA": ("RGBA", {"compression": "tiff_adobe_deflate"}),
    "JPEG": ("RGB", {"compression": "jpeg", "quality": 95, "tiffinfo": {278: 16}}),
    "packed grey": ("L", {"compression": "packbits"}),
    "grey and alpha": ("LA", {}),
    "palette": ("P", {"compression": "tiff_lzw"}),
    "CMYK": ("CMYK", {"compression": "tiff_lzw"}),
    "two colours": ("1", {"compression": "group4"}),
    "16-bit grey": ("I;16", {"compression": "tiff_adobe_deflate"}),
}


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAPPED_PIXELS", 1)
    monkeypatch.setattr(image_mapping, "PART_PIXELS", 500)


def check(path: Path, monkeypatch: pytest.MonkeyPatch) -> Picture:
    """Mapped is as read at once, and says so."""
    with monkeypatch.context() as patch:
        patch.setattr(images, "MAPPED_PIXELS", 10**9)
        expected = read_image(path)
    picture = read_image(path)
    assert isinstance(picture.color, np.memmap)
    np.testing.assert_array_equal(picture.color, expected.color)
    assert (picture.alpha is None) == (expected.alpha is None)
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, expected.alpha)
    assert picture.color.dtype == expected.color.dtype
    assert (picture.grey, picture.metadata) == (expected.grey, expected.metadata)
    kept = [note for note in picture.notes if "in a temporary file" in note]
    assert len(kept) == 1
    assert sorted(picture.notes) == sorted([*expected.notes, *kept])
    return picture


@pytest.mark.parametrize("kind", KINDS)
def test_tiff_by_strips(
    tmp_path: Path, photo: np.ndarray, mapped: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mode, options = KINDS[kind]
    image = Image.fromarray(photo)
    image = (
        Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert(mode)
    )
    path = tmp_path / "x.tif"
    image.save(path, **({"tiffinfo": {278: 5}, "dpi": (300, 300)} | options))
    with Image.open(path) as opened:
        assert len(opened.tag_v2[273]) > 2  # type: ignore[attr-defined]
    decoded = 0
    decode = image_mapping.decode

    def count(*arguments):
        nonlocal decoded
        decoded += 1
        return decode(*arguments)

    monkeypatch.setattr(image_mapping, "decode", count)
    check(path, monkeypatch)
    assert decoded > 2


@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_tiff_by_strips(
    tmp_path: Path,
    mapped: None,
    monkeypatch: pytest.MonkeyPatch,
    byteorder: str,
    alpha: bool,
    bigtiff: bool,
) -> None:
    """Written by tifffile, and as it wrote them."""
    samples = np.random.default_rng(0).integers(0, 65536, (41, 30, 4 if alpha else 3))
    samples = samples.astype(np.uint16)
    path = tmp_path / "x.tif"
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    tifffile.imwrite(
        path,
        samples,
        photometric="rgb",
        rowsperstrip=7,
        compression="zlib",
        byteorder=byteorder,
        bigtiff=bigtiff,
        **extra,
    )
    picture = check(path, monkeypatch)
    np.testing.assert_array_equal(picture.color, samples[..., :3])
    if alpha:
        np.testing.assert_array_equal(picture.alpha, samples[..., 3])


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp"])
def test_others_are_mapped_whole(
    tmp_path: Path, photo: np.ndarray, mapped: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Image.fromarray(photo).save(tmp_path / name)
    check(tmp_path / name, monkeypatch)


def test_a_turned_tiff_is_mapped_turned(
    tmp_path: Path, photo: np.ndarray, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photo).save(tmp_path / "x.tif", tiffinfo={278: 5, 274: 6})
    assert check(tmp_path / "x.tif", monkeypatch).color.shape == (72, 64, 3)


def test_a_damaged_strip_is_an_input_error(tmp_path: Path, photo: np.ndarray, mapped: None) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(photo).save(path, compression="tiff_adobe_deflate", tiffinfo={278: 5})
    data = bytearray(path.read_bytes())
    with Image.open(path) as opened:
        offset = opened.tag_v2[273][5]  # type: ignore[attr-defined]
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


def test_no_room_for_the_temporary_file(
    tmp_path: Path, photo: np.ndarray, mapped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photo).save(tmp_path / "x.png")

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
        read_image(tmp_path / "x.png")
