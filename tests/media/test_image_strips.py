from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from ramedge.errors import OutputError, UsageError
from ramedge.media import image_strips
from ramedge.media.image_writer import takes_strips, write_strips
from ramedge.media.images import ImageMetadata, Picture, read_image


def random_picture(
    height: int, width: int, grey: bool, alpha: bool, deep: bool, metadata: ImageMetadata
) -> Picture:
    rng = np.random.default_rng(height)
    dtype, top = (np.uint16, 65536) if deep else (np.uint8, 256)
    color = rng.integers(0, top, (height, width, 1 if grey else 3)).astype(dtype)
    # Smooth in part: every branch of a prediction is taken.
    color[: height // 2] = np.linspace(0, top - 1, width, dtype=dtype)[None, :, None]
    plane = rng.integers(0, top, (height, width)).astype(dtype) if alpha else None
    return Picture(np.repeat(color, 3, axis=2) if grey else color, plane, grey, metadata)


def cut(picture: Picture, heights: list[int]) -> Iterator[Picture]:
    top = 0
    for height in heights:
        rows = slice(top, top + height)
        yield Picture(
            picture.color[rows],
            None if picture.alpha is None else picture.alpha[rows],
            picture.grey,
            picture.metadata,
        )
        top += height


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heights=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    width=st.integers(1, 12),
    grey=st.booleans(),
    alpha=st.booleans(),
    deep=st.booleans(),
    suffix=st.sampled_from([".png", ".tif"]),
    strip_bytes=st.sampled_from([1, 100, 1 << 20]),
)
def test_strips_of_any_heights_are_the_picture(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heights: list[int],
    width: int,
    grey: bool,
    alpha: bool,
    deep: bool,
    suffix: str,
    strip_bytes: int,
) -> None:
    monkeypatch.setattr(image_strips, "STRIP_BYTES", strip_bytes)
    picture = random_picture(sum(heights), width, grey, alpha, deep, ImageMetadata())
    path = tmp_path / f"x{suffix}"
    notes = write_strips(cut(picture, heights), sum(heights), path)
    found = read_image(path)
    np.testing.assert_array_equal(found.color, picture.color)
    assert (found.alpha is None) == (not alpha)
    if picture.alpha is not None and found.alpha is not None:
        np.testing.assert_array_equal(found.alpha, picture.alpha)
    assert found.grey == (grey and not notes)
    if suffix == ".tif" and not deep and not alpha:
        stored = tifffile.imread(path)  # another reader
        np.testing.assert_array_equal(stored.reshape(picture.color[..., : 1 if grey else 3].shape),
                                      picture.color[..., : 1 if grey else 3])  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("deep", [False, True])
def test_profile_exif_dpi_and_text_are_kept(tmp_path: Path, suffix: str, deep: bool) -> None:
    exif = Image.Exif()
    exif[Base.Artist] = "Somebody"
    metadata = ImageMetadata(
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        exif=exif.tobytes(),
        dpi=(300.0, 300.0),
        text=(("Title", "a thing"),),
    )
    path = tmp_path / f"x{suffix}"
    picture = random_picture(20, 9, False, True, deep, metadata)
    notes = write_strips(cut(picture, [7, 13]), 20, path)
    found = read_image(path).metadata
    assert found.icc_profile == metadata.icc_profile
    kept = Image.Exif()
    kept.load(found.exif)
    assert kept[Base.Artist] == "Somebody"
    assert found.dpi == pytest.approx((300, 300), abs=0.1)
    if suffix == ".png":
        assert ("Title", "a thing") in found.text
    else:
        assert any("Title" in note for note in notes)


def test_big_tiff_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_strips, "BIG_TIFF_BYTES", 0)
    monkeypatch.setattr(image_strips, "STRIP_BYTES", 50)
    picture = random_picture(20, 9, False, False, True, ImageMetadata())
    write_strips(cut(picture, [7, 13]), 20, tmp_path / "x.tif")
    with tifffile.TiffFile(tmp_path / "x.tif") as opened:
        assert opened.is_bigtiff
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").color, picture.color)


def test_only_formats_with_strips(tmp_path: Path) -> None:
    names = ["x.png", "x.tif", "x.tiff", "x.jpg", "x.webp", "x.bmp"]
    assert [takes_strips(Path(name)) for name in names] == [True] * 3 + [False] * 3
    picture = random_picture(4, 4, False, False, False, ImageMetadata())
    with pytest.raises(UsageError, match=r"\.png or \.tif"):
        write_strips(iter([picture]), 4, tmp_path / "x.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_breaks_off_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    picture = random_picture(4, 4, False, False, False, ImageMetadata())

    def broken(failure: Exception) -> Iterator[Picture]:
        yield picture
        raise failure

    path = tmp_path / f"x{suffix}"
    with pytest.raises(MemoryError):
        write_strips(broken(MemoryError()), 8, path)
    with pytest.raises(OutputError, match="No space left"):
        write_strips(broken(OSError(28, "No space left on device")), 8, path)
    assert not list(tmp_path.iterdir())
