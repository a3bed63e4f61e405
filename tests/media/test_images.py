"""Pictures in and out, checked against Pillow, PyAV (FFmpeg) and hand-made files."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ramedge.errors import InputError, OutputError, UsageError
from ramedge.media import image_strips
from ramedge.media.image_writer import WRITABLE_SUFFIXES, check_output, write_image
from ramedge.media.images import (
    READABLE_SUFFIXES,
    ImageMetadata,
    Picture,
    is_image_name,
    read_image,
)

# Pillow warns of damaged tags before it, or our own check, refuses the file.
pytestmark = [pytest.mark.base, pytest.mark.filterwarnings("ignore:Corrupt EXIF data")]

Array = NDArray[Any]


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def smooth(height: int = 48, width: int = 64) -> Array:
    """Gentle colours that survive lossy codecs."""
    down, across = np.mgrid[0:height, 0:width]
    return (
        np.stack((40 + 2 * across, 60 + 3 * down, 120 + across + down), axis=2)
        .clip(0, 255)
        .astype(np.uint8)
    )


def equal(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bytes(
    width: int, height: int, depth: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def unfiltered(rows: Array) -> bytes:
    """PNG rows with filter 0, big-endian."""
    wide = rows.astype(rows.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in wide)


def tiff_bytes(
    planes: list[bytes], size: tuple[int, int], bits: tuple[int, ...], **tags: Any
) -> bytes:
    """A TIFF of one strip per plane; `tags` are t262=..., and `order` is II or MM."""
    order = tags.pop("order", b"II")
    start = b"II\x2a\0\x08\0\0\0" if order == b"II" else b"MM\0\x2a\0\0\0\x08"
    directory = ImageFileDirectory_v2(start)
    directory[256], directory[257] = size
    directory[258], directory[277] = bits, len(bits)
    directory[259], directory[262], directory[278] = 1, 1 if len(bits) == 1 else 2, size[1]
    for name, value in tags.items():
        directory[int(name[1:])] = value
    directory.tagtype[273] = directory.tagtype[279] = 4
    directory[279] = tuple(len(plane) for plane in planes)
    directory[273] = tuple(sum(len(plane) for plane in planes[:i]) for i in range(len(planes)))
    target = io.BytesIO()
    directory.save(target)
    return target.getvalue() + b"".join(planes)


def ffmpeg_decoded(path: Path, layout: str) -> Array:
    """The pixels as FFmpeg decodes them, native byte order."""
    codec = av.CodecContext.create({".png": "png", ".tif": "tiff"}[path.suffix], "r")
    frame = codec.decode(av.Packet(path.read_bytes()))[0]
    assert frame.format.name == layout
    channels = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}[layout[:-2]]
    plane = frame.planes[0]
    lines = np.frombuffer(bytes(plane), np.uint8).reshape(frame.height, plane.line_size)
    order = "<u2" if layout.endswith("le") else ">u2"
    samples = np.ascontiguousarray(lines[:, : frame.width * channels * 2]).view(order)
    return samples.reshape(frame.height, frame.width, channels).astype(np.uint16)


def ffmpeg_encoded(samples: Array, codec_name: str, layout: str) -> bytes:
    codec = av.CodecContext.create(codec_name, "w")
    codec.height, codec.width = samples.shape[:2]
    codec.pix_fmt = layout
    codec.time_base = 1
    frame = av.VideoFrame.from_ndarray(samples, format=layout)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_bytes(space: bytes, kind: bytes, connection: bytes, tag: bytes, body: bytes) -> bytes:
    head = struct.pack(
        ">I4sI4s4s4s12s4s24s4s3I48s",
        128 + 16 + len(body), b"\0" * 4, 0x02400000, kind, space, connection, b"\0" * 12,
        b"acsp", b"\0" * 24, b"\0" * 4, 0xF6D6, 0x10000, 0xD32D, b"\0" * 48,
    )[:128]  # fmt: skip
    return head + struct.pack(">I4sII", 1, tag, 144, len(body)) + body


def black_only_profile() -> bytes:
    """A CMYK profile of a press whose C, M and Y inks are invisible: L* = 100 - K."""
    ramp = bytes(range(256))
    grid = b"".join(
        bytes((0 if index & 1 else 255, 128, 128)) for index in range(16)
    )  # K varies fastest
    matrix = struct.pack(">9I", *(0x10000 if i % 4 == 0 else 0 for i in range(9)))
    body = b"mft1" + b"\0" * 4 + bytes((4, 3, 2, 0)) + matrix + ramp * 4 + grid + ramp * 3
    return icc_bytes(b"CMYK", b"prtr", b"Lab ", b"A2B0", body)


def grey_profile() -> bytes:
    return icc_bytes(b"GRAY", b"mntr", b"XYZ ", b"kTRC", b"curv" + b"\0" * 4 + b"\0" * 4)


def exif_bytes(orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    exif[271] = "Maker"
    if orientation is not None:
        exif[274] = orientation
    exif.get_ifd(34665)[36867] = "2020:02:03 04:05:06"
    exif.get_ifd(34665)[40962] = 1234  # the width before upscaling
    exif.get_ifd(34853)[1] = "N"
    return exif.tobytes()


def assert_exif(path: Path) -> None:
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[271] == "Maker"
        assert 274 not in exif
        assert exif.get_ifd(34665)[36867] == "2020:02:03 04:05:06"
        assert 40962 not in exif.get_ifd(34665)
        assert exif.get_ifd(34853)[1] == "N"


# --- lossless round trips against independent decoders ---

KINDS = [(grey, alpha) for grey in (False, True) for alpha in (False, True)]
SIZES = [(1, 1), (3, 5), (40, 33)]


def picture_of(dtype: type, grey: bool, alpha: bool, size: tuple[int, int]) -> Picture:
    color = noise(*size, 3, dtype=dtype)
    if grey:
        color = np.repeat(color[..., :1], 3, axis=2)
    return Picture(color, noise(*size, dtype=dtype, seed=1) if alpha else None, grey)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("grey", "alpha"), KINDS)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
def test_lossless_8_bit(
    tmp_path: Path, suffix: str, grey: bool, alpha: bool, size: tuple[int, int]
) -> None:
    picture = picture_of(np.uint8, grey, alpha, size)
    path = tmp_path / f"x{suffix}"
    assert write_image(picture, path) == ()
    with Image.open(path) as image:
        assert image.mode == ("L" if grey else "RGB") + ("A" if alpha else "")[: 1 + (not grey)]
        decoded = np.array(image.convert("RGBA"))
    assert np.array_equal(decoded[..., :3], picture.color)
    if picture.alpha is not None:
        assert np.array_equal(decoded[..., 3], picture.alpha)
    again = read_image(path)
    assert equal(again.color, picture.color)
    assert equal(again.alpha, picture.alpha)
    assert (again.grey, again.notes) == (grey, ())


LAYOUTS = {
    ".png": {1: "gray16be", 2: "ya16be", 3: "rgb48be", 4: "rgba64be"},
    ".tif": {1: "gray16le", 3: "rgb48le", 4: "rgba64le"},
}


@pytest.mark.parametrize("size", [*SIZES, (700, 300)])
@pytest.mark.parametrize(("grey", "alpha"), KINDS)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_16_bit(
    tmp_path: Path, suffix: str, grey: bool, alpha: bool, size: tuple[int, int]
) -> None:
    picture = picture_of(np.uint16, grey, alpha, size)
    path = tmp_path / f"x{suffix}"
    notes = write_image(picture, path)
    as_color = suffix == ".tif" and grey and alpha
    assert bool(notes) == as_color
    channels = (1 if grey and not as_color else 3) + alpha
    decoded = ffmpeg_decoded(path, LAYOUTS[suffix][channels])
    stored = picture.color if channels > 2 else picture.color[..., :1]
    assert np.array_equal(decoded[..., : channels - alpha], stored)
    if picture.alpha is not None:
        assert np.array_equal(decoded[..., -1], picture.alpha)
    again = read_image(path)
    assert equal(again.color, picture.color)
    assert equal(again.alpha, picture.alpha)
    assert again.grey == (grey and not as_color)


@pytest.mark.parametrize(
    ("codec", "suffix", "layout", "channels"),
    [
        ("png", ".png", "rgb48be", 3),
        ("png", ".png", "rgba64be", 4),
        ("tiff", ".tif", "rgb48le", 3),
        ("tiff", ".tif", "rgba64le", 4),
    ],
)
def test_reads_16_bit_of_ffmpeg(
    tmp_path: Path, codec: str, suffix: str, layout: str, channels: int
) -> None:
    samples = noise(21, 34, channels, dtype=np.uint16)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(ffmpeg_encoded(samples, codec, layout))
    picture = read_image(path)
    assert equal(picture.color, samples[..., :3])
    assert equal(picture.alpha, samples[..., 3] if channels == 4 else None)


def test_big_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_strips, "BIG_TIFF_BYTES", 0)
    monkeypatch.setattr(image_strips, "STRIP_BYTES", 200)
    picture = picture_of(np.uint16, False, True, (30, 20))
    write_image(picture, tmp_path / "x.tif")
    assert (tmp_path / "x.tif").read_bytes()[:4] == b"II\x2b\0"
    assert equal(read_image(tmp_path / "x.tif").color, picture.color)
    with Image.open(tmp_path / "x.tif") as image:
        assert np.array_equal(np.array(image)[..., 3], picture.alpha >> 8)  # type: ignore[operator]


def test_bmp(tmp_path: Path) -> None:
    for grey in (False, True):
        picture = picture_of(np.uint8, grey, False, (3, 5))
        assert write_image(picture, tmp_path / "x.bmp") == ()
        with Image.open(tmp_path / "x.bmp") as image:
            assert image.format == "BMP"
            assert np.array_equal(np.array(image.convert("RGB")), picture.color)
        assert equal(read_image(tmp_path / "x.bmp").color, picture.color)
        assert read_image(tmp_path / "x.bmp").grey == grey


def test_bmp_32_bit_alpha_and_palette(tmp_path: Path) -> None:
    palette = Image.fromarray(smooth()).quantize(16)
    palette.save(tmp_path / "p.bmp")
    assert equal(read_image(tmp_path / "p.bmp").color, np.array(palette.convert("RGB")))
    rgba = noise(2, 2, 4)
    header = struct.pack("<2sIHHI", b"BM", 70 + 16 + 54, 0, 0, 14 + 56)
    info = struct.pack("<IiiHHIIiiII", 56, 2, -2, 1, 32, 3, 16, 0, 0, 0, 0)
    masks = struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    (tmp_path / "a.bmp").write_bytes(header + info + masks + rgba.tobytes())
    picture = read_image(tmp_path / "a.bmp")
    assert equal(picture.color, rgba[..., :3])
    assert equal(picture.alpha, rgba[..., 3])


# --- lossy formats ---


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jpg", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")]
)
def test_lossy_close_and_named_right(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x{suffix}"
    assert write_image(Picture(smooth()), path) == ()
    with Image.open(path) as image:
        assert image.format == kind
        assert np.abs(np.array(image).astype(int) - smooth()).max() <= 6
    fine = path.stat().st_size
    write_image(Picture(smooth()), path, quality=40)
    assert path.stat().st_size < fine


def test_jpeg_is_444_at_95(tmp_path: Path) -> None:
    write_image(Picture(noise(16, 16, 3)), tmp_path / "x.jpg")
    Image.fromarray(noise(16, 16, 3)).save(tmp_path / "r.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "x.jpg") as ours, Image.open(tmp_path / "r.jpg") as reference:
        assert [layer[1:3] for layer in ours.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
        assert ours.quantization == reference.quantization  # type: ignore[attr-defined]


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    grey = np.repeat(smooth()[..., :1], 3, axis=2)
    write_image(Picture(grey, grey=True), tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.mode == "L"
    assert read_image(tmp_path / "x.jpg").grey


def test_webp_keeps_alpha(tmp_path: Path) -> None:
    alpha = smooth()[..., 0]
    assert write_image(Picture(smooth(), alpha), tmp_path / "x.webp") == ()
    with Image.open(tmp_path / "x.webp") as image:
        assert np.array_equal(np.array(image)[..., 3], alpha)
    assert equal(read_image(tmp_path / "x.webp").alpha, alpha)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_16_bit_falls_to_8_aloud(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    deep = np.stack((ramp, ramp, ramp), axis=2)
    notes = write_image(Picture(deep, grey=suffix != ".webp"), tmp_path / f"x{suffix}")
    assert len(notes) == 1
    assert "8 bits" in notes[0]
    read = read_image(tmp_path / f"x{suffix}").color.astype(int)
    expected = np.round(deep / 257).astype(int)
    assert np.abs(read - expected).max() <= (0 if suffix == ".bmp" else 4)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_laid_on_white_aloud(tmp_path: Path, suffix: str, grey: bool) -> None:
    color = np.full((16, 16, 3), 40, np.uint8)
    alpha = np.full((16, 16), 102, np.uint8)
    notes = write_image(Picture(color, alpha, grey), tmp_path / f"x{suffix}")
    assert "transparency" in notes[0]
    with Image.open(tmp_path / f"x{suffix}") as image:
        assert image.mode == ("L" if grey else "RGB")
        decoded = np.array(image).astype(int)
    assert np.abs(decoded - (40 * 0.4 + 255 * 0.6)).max() <= 1
    opaque = Picture(color, np.full((16, 16), 255, np.uint8), grey)
    assert write_image(opaque, tmp_path / f"x{suffix}") == ()


# --- what the files may hold ---


def test_bilevel_and_low_bit_grey(tmp_path: Path) -> None:
    bits = noise(5, 9) > 127
    for name in ("b.png", "b.tif", "b.bmp"):
        Image.fromarray(bits).save(tmp_path / name)
        picture = read_image(tmp_path / name)
        assert equal(picture.color, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))
    # 4-bit grey, samples 0 and 15, the latter transparent; then 2-bit: 1 and 3
    (tmp_path / "4.png").write_bytes(png_bytes(2, 1, 4, 0, b"\0\x0f", (b"tRNS", b"\0\x0f")))
    picture = read_image(tmp_path / "4.png")
    assert picture.color[0, :, 0].tolist() == [0, 255]
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [255, 0]
    (tmp_path / "2.png").write_bytes(png_bytes(2, 1, 2, 0, b"\0\x70", (b"tRNS", b"\0\x01")))
    picture = read_image(tmp_path / "2.png")
    assert picture.color[0, :, 0].tolist() == [85, 255]
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [0, 255]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_png_transparent_color(tmp_path: Path, depth: int, grey: bool) -> None:
    dtype = np.uint8 if depth == 8 else np.uint16
    samples = noise(4, 5, 1 if grey else 3, dtype=dtype)
    samples[2, 3] = samples[0, 0]
    # Same high bytes, so that a comparison at 8 bits would be caught.
    samples[1, 1] = samples[0, 0] ^ 1
    key = samples[0, 0].astype(">u2").tobytes()
    rows = unfiltered(samples.reshape(4, -1))
    data = png_bytes(5, 4, depth, 0 if grey else 2, rows, (b"tRNS", key))
    (tmp_path / "x.png").write_bytes(data)
    picture = read_image(tmp_path / "x.png")
    clear = (samples == samples[0, 0]).all(axis=2)
    assert clear.sum() == 2 or grey
    assert equal(picture.color, samples if not grey else np.repeat(samples, 3, axis=2))
    assert equal(picture.alpha, np.where(clear, 0, np.iinfo(dtype).max).astype(dtype))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(smooth()).quantize(32)
    image.save(tmp_path / f"x{suffix}")
    picture = read_image(tmp_path / f"x{suffix}")
    assert equal(picture.color, np.array(image.convert("RGB")))
    assert picture.alpha is None
    assert not picture.grey


@pytest.mark.parametrize("transparency", [3, bytes([0, 100, 200, 255])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(smooth()).quantize(4)
    image.save(tmp_path / "x.png", transparency=transparency)
    indices = np.array(image)
    table = np.array([255, 255, 255, 0] if isinstance(transparency, int) else list(transparency))
    picture = read_image(tmp_path / "x.png")
    assert equal(picture.color, np.array(image.convert("RGB")))
    assert equal(picture.alpha, table[indices].astype(np.uint8))


def test_palette_with_alpha_plane(tmp_path: Path) -> None:
    image = Image.fromarray(smooth()).convert("RGBA").convert("PA")
    image.save(tmp_path / "x.tif")
    assert equal(read_image(tmp_path / "x.tif").color, np.array(image.convert("RGB")))


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_tiff_16_bit_orders(tmp_path: Path, order: bytes) -> None:
    kind = "<u2" if order == b"II" else ">u2"
    samples = noise(4, 6, 3, dtype=np.uint16)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_bytes([samples.astype(kind).tobytes()], (6, 4), (16,) * 3, order=order))
    assert equal(read_image(path).color, samples)
    grey = samples[..., 0]
    path.write_bytes(tiff_bytes([grey.astype(kind).tobytes()], (6, 4), (16,), order=order))
    assert equal(read_image(path).color, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_tiff_16_bit_deflated_of_either_order(tmp_path: Path, order: bytes) -> None:
    samples = noise(4, 6, 4, dtype=np.uint16)
    packed = zlib.compress(samples.astype("<u2" if order == b"II" else ">u2").tobytes())
    data = tiff_bytes([packed], (6, 4), (16,) * 4, order=order, t259=8, t338=2)
    (tmp_path / "x.tif").write_bytes(data)
    picture = read_image(tmp_path / "x.tif")
    assert equal(picture.color, samples[..., :3])
    assert equal(picture.alpha, samples[..., 3])


def test_tiff_16_bit_premultiplied_extra_and_white_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    straight = np.array([[[60000, 30000, 7, 65535], [40000, 20000, 0, 32768], [0, 0, 0, 0]]])
    held = straight.astype(np.float64)
    held[..., :3] *= held[..., 3:] / 65535
    data = np.round(held).astype("<u2").tobytes()
    path.write_bytes(tiff_bytes([data], (3, 1), (16,) * 4, t338=1))
    picture = read_image(path)
    assert picture.color.dtype == np.uint16
    assert np.abs(picture.color.astype(int) - straight[..., :3]).max() <= 1
    assert picture.alpha is not None
    assert picture.alpha.tolist() == straight[..., 3].tolist()
    path.write_bytes(tiff_bytes([data], (3, 1), (16,) * 4, t338=0))
    picture = read_image(path)  # the fourth channel is nothing in particular
    assert equal(picture.color, np.round(held[..., :3]).astype(np.uint16))
    assert picture.alpha is None
    grey = np.array([[0, 1000, 65535]], "<u2")
    path.write_bytes(tiff_bytes([grey.tobytes()], (3, 1), (16,), t262=0))
    assert read_image(path).color[0, :, 0].tolist() == [65535, 64535, 0]


def test_tiff_12_bit_grey_is_spread(tmp_path: Path) -> None:
    packed = bytes((0x00, 0x0F, 0xFF))  # 0x000, 0xFFF
    (tmp_path / "x.tif").write_bytes(tiff_bytes([packed], (2, 1), (12,)))
    picture = read_image(tmp_path / "x.tif")
    assert picture.color[0, :, 0].tolist() == [0, 65535]
    assert "12-bit" in picture.notes[0]


def test_tiff_16_bit_planes_are_refused(tmp_path: Path) -> None:
    samples = noise(4, 6, 3, dtype=np.uint16)
    planes = [np.ascontiguousarray(samples[..., i]).astype("<u2").tobytes() for i in range(3)]
    path = tmp_path / "x.tif"
    packed = [zlib.compress(plane) for plane in planes]
    # Pillow decodes the former to high bytes only, the latter to rubbish.
    for kind, strips in ((8, packed), (1, planes)):
        path.write_bytes(tiff_bytes(strips, (6, 4), (16,) * 3, t259=kind, t284=2))
        with pytest.raises(InputError, match="16-bit samples in separate planes"):
            read_image(path)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_exotic_modes_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match="not supported") as refused:
        read_image(tmp_path / "x.tif")
    assert "\n" not in str(refused.value)


def test_several_frames_are_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(4, 4, 3, seed=seed)) for seed in range(2)]
    for name in ("x.tif", "x.png", "x.webp", "x.mpo"):
        options: dict[str, Any] = {"lossless": True} if name == "x.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        picture = read_image(tmp_path / name)
        assert picture.notes == ("holds several pictures or frames: only the first is used",)
        if name != "x.mpo":
            assert equal(picture.color, np.array(frames[0]))


# --- CMYK ---


def test_cmyk_through_its_profile(tmp_path: Path) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 255, 128))
    for name in ("x.tif", "x.jpg"):
        inks.save(tmp_path / name, icc_profile=black_only_profile(), **quality_for(name))
        picture = read_image(tmp_path / name)
        lightness = 100 * (1 - 128 / 255)
        linear = ((lightness + 16) / 116) ** 3
        grey = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
        assert np.abs(picture.color - grey).max() <= 3, name
        assert picture.metadata.icc_profile is None
        assert picture.notes == ("CMYK converted to sRGB through its colour profile",)


def quality_for(name: str) -> dict[str, int]:
    return {"quality": 100} if name.endswith("jpg") else {}


@pytest.mark.parametrize("profile", [None, b"not a profile" * 20])
def test_cmyk_without_usable_profile(tmp_path: Path, profile: bytes | None) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for name in ("x.tif", "x.jpg"):
        inks.save(tmp_path / name, icc_profile=profile, **quality_for(name))
        picture = read_image(tmp_path / name)
        assert np.abs(picture.color.astype(int) - (0, 255, 255)).max() <= 2
        assert "colour profile" in picture.notes[0]
        assert picture.metadata.icc_profile is None


def test_adobe_ycck_jpeg(tmp_path: Path) -> None:
    """Cyan and some black as Photoshop stores them: black inverted, the inks as YCC of RGB."""
    stored = Image.new("RGB", (16, 16), (200, 0, 0)).convert("YCbCr").getpixel((0, 0))
    assert isinstance(stored, tuple)
    # Pillow inverts on saving, so what is handed in is the inverse of what is to be stored.
    planes = (*(255 - value for value in stored), 30)
    target = io.BytesIO()
    Image.new("CMYK", (16, 16), planes).save(target, "JPEG", quality=100)
    data = bytearray(target.getvalue())
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0  # the transform: none
    data[adobe + 11] = 2  # YCCK
    (tmp_path / "x.jpg").write_bytes(data)
    picture = read_image(tmp_path / "x.jpg")
    black = 1 - 30 / 255
    assert np.abs(picture.color - np.array([55, 255, 255]) * black).max() <= 3


# --- metadata ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "raw.tif", "deep.png"])
def test_orientation_is_applied_once(tmp_path: Path, name: str, orientation: int) -> None:
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :24] = 250  # top left
    corners[:16, 24:] = 160  # top right
    turned = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.transpose(1, 0, 2),
        6: np.rot90(corners, -1),
        7: corners[::-1, ::-1].transpose(1, 0, 2),  # over the other diagonal
        8: np.rot90(corners, 1),
    }[orientation]
    source = tmp_path / name
    exif = exif_bytes(orientation)
    if name == "deep.png":
        rows = unfiltered((corners.astype(np.uint16) * 257).reshape(32, -1))
        source.write_bytes(png_bytes(48, 32, 16, 2, rows, (b"eXIf", exif[6:])))
    elif name == "x.tif":  # libtiff cannot write Pillow's EXIF, its own decoder is used anyway
        packed = zlib.compress(corners.tobytes())
        source.write_bytes(tiff_bytes([packed], (48, 32), (8,) * 3, t259=8, t274=orientation))
    else:
        Image.fromarray(corners).save(source, exif=exif)
    picture = read_image(source)
    assert picture.color.shape == turned.shape
    read = picture.color if picture.color.dtype == np.uint8 else picture.color >> 8
    assert np.abs(read.astype(int) - turned).max() <= 12
    if name == "x.tif":
        assert picture.metadata.exif is None
        return
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_image(picture, tmp_path / f"out{suffix}")
        assert_exif(tmp_path / f"out{suffix}")
        assert read_image(tmp_path / f"out{suffix}").color.shape == turned.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_exif_and_dpi_are_kept(tmp_path: Path, suffix: str, dtype: type) -> None:
    profile = srgb_profile()
    Image.fromarray(smooth()).save(
        tmp_path / "in.png", icc_profile=profile, exif=exif_bytes(), dpi=(300, 150)
    )
    metadata = read_image(tmp_path / "in.png").metadata
    color = smooth() if dtype == np.uint8 else smooth().astype(np.uint16) * 257
    path = tmp_path / f"x{suffix}"
    write_image(Picture(color, metadata=metadata), path)
    assert_exif(path)
    with Image.open(path) as image:
        assert image.info["icc_profile"] == profile
        if suffix != ".webp":  # which has no such field
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.1)
    assert read_image(path).metadata.icc_profile == profile
    assert read_image(path).notes == ()
    assert read_image(path).metadata.exif is not None


def test_grey_profile_with_grey_and_a_misfit(tmp_path: Path) -> None:
    grey = np.repeat(smooth()[..., :1], 3, axis=2)
    for name in ("x.png", "x.jpg", "x.tif"):
        fitting = ImageMetadata(icc_profile=grey_profile())
        assert write_image(Picture(grey, None, True, fitting), tmp_path / name) == ()
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == grey_profile()
        notes = write_image(Picture(grey, metadata=fitting), tmp_path / name)
        assert "profile" in notes[0]
        assert read_image(tmp_path / name).metadata.icc_profile is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_text_and_jpeg_comment(tmp_path: Path, dtype: type) -> None:
    text = (("Title", "Grüße"), ("Note", "雪"))
    picture = Picture(noise(4, 4, 3, dtype=dtype), metadata=ImageMetadata(text=text))
    assert write_image(picture, tmp_path / "x.png") == ()
    with Image.open(tmp_path / "x.png") as image:
        assert dict(image.text) == dict(text)  # type: ignore[attr-defined]
    assert read_image(tmp_path / "x.png").metadata.text == text
    assert "Title, Note" in write_image(picture, tmp_path / "x.jpg")[-1]
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "c.jpg", comment="Grüße".encode())
    commented = read_image(tmp_path / "c.jpg")
    assert commented.metadata.text == (("Comment", "Grüße"),)
    assert write_image(commented, tmp_path / "d.jpg") == ()
    with Image.open(tmp_path / "d.jpg") as image:
        assert image.info["comment"] == "Grüße".encode()


def test_metadata_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    everything = ImageMetadata(srgb_profile(), exif_bytes(), (72, 72), (("Title", "x"),))
    notes = write_image(Picture(smooth(), metadata=everything), tmp_path / "x.bmp")
    assert len(notes) == 3
    exif = Image.Exif()
    exif[270] = "x" * 70000
    long = ImageMetadata(exif=exif.tobytes())
    assert "EXIF" in write_image(Picture(smooth(), metadata=long), tmp_path / "x.jpg")[0]


def test_damaged_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "x.png", exif=b"Exif\0\0II\x2a\0" + b"\xff" * 30)
    picture = read_image(tmp_path / "x.png")
    assert equal(picture.color, smooth())
    assert picture.metadata.exif is None
    assert picture.notes == ("EXIF is damaged: not kept",)


# --- refused inputs ---


def bomb(width: int = 30000, height: int = 30000) -> bytes:
    return png_bytes(width, height, 8, 2, b"\0" * 100)


def test_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=r"30000x30000 = 900\.0 megapixels.*178.*--max-meg"):
            read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_limit_is_exact_for_every_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    Image.fromarray(noise(10, 10, 3)).save(path, kind)
    assert read_image(path, max_pixels=100).color.shape == (10, 10, 3)
    with pytest.raises(InputError, match="--max-megapixels"):
        read_image(path, max_pixels=99)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pillows_own_limit_neither_warns_nor_stays_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    Image.fromarray(noise(10, 10, 3)).save(tmp_path / "x", kind)
    for limit in (1, 60):  # Pillow would refuse, would warn
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_image(tmp_path / "x", max_pixels=100)
            with pytest.raises(InputError):
                read_image(tmp_path / "x", max_pixels=99)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_reading_in_threads(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "x.png")
    before = Image.MAX_IMAGE_PIXELS
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert equal(read_image(tmp_path / "x.png").color, smooth())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert before == Image.MAX_IMAGE_PIXELS


def test_giant_tiff_tile_is_refused(tmp_path: Path) -> None:
    data = tiff_bytes([b"x"], (4, 4), (8,), t259=8, t322=65536, t323=65536)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match="tiles of 65536x65536"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is text, not a picture\n" * 9, "is not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "is not a PNG|damaged"),
        (b"GIF89a" + b"\0" * 50, "is not a PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a PNG"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_image(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_missing_folder_and_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    path = tmp_path / "x.png"
    Image.new("L", (1, 1)).save(path)

    def forbidden(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InputError, match="Permission denied"):
        read_image(path)


TRUNCATED: list[tuple[str, dict[str, Any]]] = [
    ("x.png", {}),
    ("x.jpg", {}),
    ("x.jpg", {"progressive": True}),
    ("x.webp", {}),
    ("x.webp", {"lossless": True}),
    ("x.tif", {}),
    ("x.tif", {"compression": "tiff_adobe_deflate"}),
    ("x.tif", {"compression": "tiff_lzw"}),
    ("x.bmp", {}),
]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("name", "options"), TRUNCATED)
def test_truncated_pictures_are_refused(
    tmp_path: Path, name: str, options: dict[str, Any], share: float
) -> None:
    path = tmp_path / name
    Image.fromarray(noise(64, 64, 3)).save(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError) as refused:
        read_image(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_truncated_16_bit_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x{suffix}"
    write_image(picture_of(np.uint16, False, False, (64, 64)), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError):
        read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "deep.png", "deep.tif"])
def test_damage_never_escapes_as_another_error(tmp_path: Path, kind: str) -> None:
    """Bytes overwritten at random: a picture or an `InputError`, nothing else."""
    path = tmp_path / "x"
    if kind.startswith("deep"):
        deep = tmp_path / kind
        metadata = ImageMetadata(srgb_profile(), exif_bytes(), (72, 72), (("a", "b"),))
        write_image(Picture(noise(9, 9, 3, dtype=np.uint16), metadata=metadata), deep)
        whole = deep.read_bytes()
    else:
        Image.fromarray(noise(9, 9, 3)).save(path, kind, exif=exif_bytes(3))
        whole = path.read_bytes()
    generator = np.random.default_rng(7)
    for _ in range(120):
        data = bytearray(whole)
        for at in generator.integers(0, min(len(data), 400), 3):
            data[at] = generator.integers(0, 256)
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(InputError):
                read_image(path, max_pixels=1_000_000)


def test_suffix_may_lie(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "x.jpg", "PNG")
    assert equal(read_image(tmp_path / "x.jpg").color, smooth())


# --- refused outputs ---


def test_unknown_suffix_lists_the_known(tmp_path: Path) -> None:
    for name in ("x.gif", "x", "x.png.partial"):
        with pytest.raises(UsageError, match=r"\.png.*\.tif.*\.webp"):
            write_image(Picture(smooth()), tmp_path / name)


@pytest.mark.parametrize("quality", [0, -1, 101])
def test_quality_out_of_range(tmp_path: Path, quality: int) -> None:
    with pytest.raises(UsageError, match="1 to 100"):
        write_image(Picture(smooth()), tmp_path / "x.jpg", quality)


def test_quality_of_lossless_is_said(tmp_path: Path) -> None:
    assert "lossless" in write_image(Picture(smooth()), tmp_path / "x.png", 80)[0]


@pytest.mark.parametrize(("suffix", "longest"), [(".webp", 16383), (".jpg", 65500)])
def test_longest_side(tmp_path: Path, suffix: str, longest: int) -> None:
    path = tmp_path / f"x{suffix}"
    line = np.zeros((1, longest, 3), np.uint8)
    write_image(Picture(line), path)
    with Image.open(path) as image:
        assert image.size == (longest, 1)
    path.unlink()
    for shape in ((1, longest + 1, 3), (longest + 1, 1, 3)):
        with pytest.raises(UsageError, match=r"choose \.png"):
            write_image(Picture(np.zeros(shape, np.uint8)), path)
    with pytest.raises(UsageError):
        check_output(path, longest + 1, 1)
    check_output(tmp_path / "x.png", 200_000, 200_000)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: Any) -> int:
        assert isinstance(data, bytes)  # a view left in the traceback can end older Pythons
        with path.open("wb") as opened:
            opened.write(bytes(data)[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_image(Picture(smooth()), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_disk_that_refuses_midway(tmp_path: Path, suffix: str) -> None:
    """The kernel itself refuses to let the file grow; what stood there before stays."""
    resource = pytest.importorskip("resource")
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match="File too large"):
            write_image(Picture(noise(128, 128, 3)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_encoder_failure_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("encoder error -2\nwhen writing image file")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OutputError, match="as PNG: encoder error -2 when") as refused:
        write_image(Picture(smooth()), tmp_path / "x.png")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="Cannot write"):
        write_image(Picture(smooth()), tmp_path / "file" / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="Cannot write"):
        write_image(Picture(smooth()), tmp_path / "folder.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


# --- the rest ---


def test_names() -> None:
    assert WRITABLE_SUFFIXES <= READABLE_SUFFIXES
    assert is_image_name(Path("a/B.JPG"))
    assert is_image_name(Path("x.tiff"))
    assert not is_image_name(Path("x.mp4"))
    assert not is_image_name(Path("png"))


@pytest.mark.parametrize(
    ("color", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_picture_checks_its_parts(color: Any, alpha: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        Picture(color, alpha)
