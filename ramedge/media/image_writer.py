"""Writing pictures: the format is chosen by suffix, and every loss is said."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import av
import numpy as np
from PIL import Image, TiffTags
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ramedge.errors import OutputError, UsageError
from ramedge.files import atomic_path
from ramedge.media.images import ImageMetadata, Picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ramedge.media.frames import Pixels

_FORMATS: Final = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WebP",
}
WRITABLE_SUFFIXES: Final = frozenset(_FORMATS)
"""Suffixes, lower case with the dot, that `write_image` knows."""

DEFAULT_QUALITY: Final = 95
"""JPEG and WebP quality: little to see, at about half the bytes of 100."""

_LONGEST_SIDE: Final = {"JPEG": 65500, "WebP": 16383}  # libjpeg's and libwebp's limits
_MOST_JPEG_BYTES: Final = 65533  # in one marker
_PROFILE_SPACE: Final = {True: b"GRAY", False: b"RGB "}  # by whether grey is stored
_STRIP_BYTES: Final = 1 << 20
_BIG_TIFF_BYTES: Final = 4_000_000_000  # classic TIFF offsets have 32 bits
_TIFF_HEADER: Final = b"II\x2a\x00\x08\x00\x00\x00"
_BIG_TIFF_HEADER: Final = b"II\x2b\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00"
_DEEP_PNG: Final = {1: "gray16be", 2: "ya16be", 3: "rgb48be", 4: "rgba64be"}


def check_output(path: Path, height: int, width: int) -> None:
    """Refuse, before any work is done, what `write_image` could not write.

    Raises:
        UsageError: the suffix is unknown, or its format cannot hold `height` x `width` pixels.
    """
    kind = _kind(path)
    longest = _LONGEST_SIDE.get(kind)
    if longest is not None and max(height, width) > longest:
        raise UsageError(
            f"{kind} holds at most {longest} pixels a side, and {path} would be"
            f" {width}x{height}: choose .png or .tif."
        )


def write_image(picture: Picture, path: Path, quality: int | None = None) -> tuple[str, ...]:
    """Write a picture atomically, in the format that the suffix of `path` names.

    PNG and TIFF are lossless, 16-bit pictures included. `quality`, 1 to 100, is for JPEG
    (always 4:4:4) and WebP; None stands for `DEFAULT_QUALITY`. An existing file is replaced.
    Returned are notes on what the format could not keep.

    Raises:
        UsageError: `path` or `quality` is not acceptable.
        OutputError: the file cannot be encoded or written.
    """
    kind = _kind(path)
    height, width = picture.color.shape[:2]
    check_output(path, height, width)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"The quality must be from 1 to 100, not {quality}.")
    notes: list[str] = []
    if quality is not None and kind not in ("JPEG", "WebP"):
        notes.append(f"{kind} is lossless: the quality is not used")
    buffer = io.BytesIO()
    try:
        _encode(picture, kind, quality or DEFAULT_QUALITY, buffer, notes)
    except (OSError, ValueError, OverflowError, MemoryError, RuntimeError, struct.error) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise OutputError(f"Cannot encode {path} as {kind}: {reason}.") from None
    # Written from memory: Pillow's encoders hide why the disk refused.
    with atomic_path(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return tuple(notes)


def _kind(path: Path) -> str:
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(sorted(_FORMATS))
        raise UsageError(f"{path} needs a suffix that names its format, one of {known}.")
    return kind


def _encode(
    picture: Picture, kind: str, quality: int, target: io.BytesIO, notes: list[str]
) -> None:
    color, alpha = picture.color, picture.alpha
    if color.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        notes.append(f"{kind} has no 16-bit samples: reduced to 8 bits")
        color, alpha = _to_8_bit(color), None if alpha is None else _to_8_bit(alpha)
    deep = color.dtype == np.uint16
    if alpha is not None and kind in ("JPEG", "BMP"):
        color, alpha = _on_white(color, alpha, kind, notes), None
    grey = picture.grey and kind != "WebP"  # WebP has no grey: equal channels do
    if grey and deep and alpha is not None and kind == "TIFF":
        notes.append("16-bit grey with transparency is stored as RGBA: few programs read it else")
        grey = False
    samples: Pixels = color[..., :1] if grey else color
    if alpha is not None:
        samples = cast("Pixels", np.dstack((samples, alpha)))
    metadata = _kept(picture.metadata, kind, grey, notes)
    if kind == "TIFF":
        _encode_tiff(samples, metadata, target)
    elif kind == "PNG" and deep:
        _encode_deep_png(samples, metadata, target)
    else:
        image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        _save(image, kind, quality, metadata, target)


def _to_8_bit(samples: Pixels) -> NDArray[np.uint8]:
    """Nearest of `samples / 257`, without leaving 16 bits."""
    return (samples // 257 + (samples % 257 > 128)).astype(np.uint8)


def _on_white(color: Pixels, alpha: Pixels, kind: str, notes: list[str]) -> NDArray[np.uint8]:
    if alpha.min() == 255:
        return color.astype(np.uint8, copy=False)
    notes.append(f"{kind} has no transparency: laid on white")
    image = Image.fromarray(np.dstack((color, alpha)))
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def _kept(metadata: ImageMetadata, kind: str, grey: bool, notes: list[str]) -> ImageMetadata:
    """The part of the metadata that the format can keep."""
    profile, exif, text = metadata.icc_profile, metadata.exif, metadata.text
    if profile is not None and kind == "BMP":
        notes.append("BMP keeps no colour profile: colours may shift")
        profile = None
    elif profile is not None and profile[16:20] != _PROFILE_SPACE[grey]:
        notes.append("the colour profile does not fit the stored channels: dropped")
        profile = None
    if exif is not None and (kind == "BMP" or (kind == "JPEG" and len(exif) > _MOST_JPEG_BYTES)):
        notes.append(f"{kind} cannot keep this EXIF: dropped")
        exif = None
    if kind == "JPEG":
        fits = [len(value.encode()) <= _MOST_JPEG_BYTES for _, value in text]
        keep = tuple(pair for pair, fit in zip(text, fits, strict=True) if fit)
        text = tuple(pair for pair in keep if pair[0] == "Comment")[:1]
    elif kind != "PNG":
        text = ()
    if lost := [key for key, value in metadata.text if (key, value) not in text]:
        notes.append(f"{kind} keeps no such text: {', '.join(lost)} dropped")
    return ImageMetadata(profile, exif, metadata.dpi, text)


def _save(
    image: Image.Image, kind: str, quality: int, metadata: ImageMetadata, target: io.BytesIO
) -> None:
    profile, exif, dpi = metadata.icc_profile, metadata.exif or b"", metadata.dpi
    if kind == "PNG":
        image.save(
            target, "PNG", icc_profile=profile, exif=exif, dpi=dpi, pnginfo=_png_text(metadata)
        )
    elif kind == "JPEG":
        image.save(
            target,
            "JPEG",
            quality=quality,
            subsampling=0,
            icc_profile=profile,
            exif=exif,
            dpi=dpi or (0, 0),
            comment=metadata.text[0][1].encode() if metadata.text else None,
        )
    elif kind == "WebP":
        image.save(
            target, "WEBP", quality=quality, use_sharp_yuv=True, icc_profile=profile, exif=exif
        )
    else:
        image.save(target, "BMP", dpi=dpi or (96, 96))


def _png_text(metadata: ImageMetadata) -> PngInfo:
    info = PngInfo()
    for key, value in metadata.text:
        info.add_text(key, value)
    return info


# --- what Pillow cannot write: 16-bit colour, and TIFF both compressed and with EXIF ---


def _encode_deep_png(samples: Pixels, metadata: ImageMetadata, target: io.BytesIO) -> None:
    """FFmpeg encodes the pixels; the chunks that describe them come from Pillow."""
    height, width, channels = samples.shape
    frame = av.VideoFrame(width, height, _DEEP_PNG[channels])
    plane = frame.planes[0]
    lines = np.zeros((height, plane.line_size), np.uint8)
    lines[:, : width * channels * 2] = (
        samples.astype(">u2").reshape(height, width * channels).view(np.uint8)
    )
    plane.update(lines.tobytes())
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, _DEEP_PNG[channels]
    codec.time_base = Fraction(1)
    codec.options = {"pred": "paeth"}
    encoded = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    stand_in = io.BytesIO()
    _save(Image.new("L" if channels < 3 else "RGB", (1, 1)), "PNG", 0, metadata, stand_in)
    described = [
        chunk for name, chunk in _png_chunks(stand_in.getvalue()) if name not in _PIXEL_CHUNKS
    ]
    pixels = [(name, chunk) for name, chunk in _png_chunks(encoded) if name in _PIXEL_CHUNKS]
    target.write(encoded[:8])
    for name, chunk in pixels:
        target.write(chunk)
        if name == b"IHDR":
            for extra in described:
                target.write(extra)


_PIXEL_CHUNKS: Final = (b"IHDR", b"IDAT", b"IEND")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and whole chunk (length, name, content, checksum), in order."""
    view, start = memoryview(data), 8
    while start < len(data):
        (length,) = struct.unpack_from(">I", data, start)
        yield data[start + 4 : start + 8], view[start : start + length + 12]
        start += length + 12


def _encode_tiff(samples: Pixels, metadata: ImageMetadata, target: io.BytesIO) -> None:
    """Deflated strips with horizontal prediction; Pillow writes the directory."""
    height, width, channels = samples.shape
    bytes_each = samples.dtype.itemsize
    rows = max(1, _STRIP_BYTES // (width * channels * bytes_each))
    strips = []
    for top in range(0, height, rows):
        strip = samples[top : top + rows]
        steps = np.diff(strip, axis=1, prepend=strip.dtype.type(0))
        strips.append(zlib.compress(steps.astype(f"<u{bytes_each}", copy=False).tobytes()))
    sizes = [len(strip) for strip in strips]
    header = _TIFF_HEADER if sum(sizes) < _BIG_TIFF_BYTES else _BIG_TIFF_HEADER
    tags = ImageFileDirectory_v2(header)
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else exif[tag]
    tags[Base.ImageWidth], tags[Base.ImageLength] = width, height
    tags[Base.BitsPerSample] = (8 * bytes_each,) * channels
    tags[Base.SamplesPerPixel] = channels
    tags[Base.PhotometricInterpretation] = 1 if channels < 3 else 2  # black is zero, or RGB
    tags[Base.PlanarConfiguration] = 1  # interleaved
    if channels in (2, 4):
        tags[Base.ExtraSamples] = 2  # straight alpha
    tags[Base.Compression] = 8  # deflate
    tags[Base.Predictor] = 2  # horizontal differences
    tags[Base.RowsPerStrip] = rows
    # Counted from the end of the directory: Pillow adds where that is. It would choose 16 bits.
    wide = TiffTags.LONG if header == _TIFF_HEADER else TiffTags.LONG8
    tags.tagtype[Base.StripOffsets] = tags.tagtype[Base.StripByteCounts] = wide
    tags[Base.StripOffsets] = tuple(itertools.accumulate([0, *sizes[:-1]]))
    tags[Base.StripByteCounts] = tuple(sizes)
    if metadata.dpi is not None:
        tags[Base.XResolution], tags[Base.YResolution] = metadata.dpi
        tags[Base.ResolutionUnit] = 2  # inches
    if metadata.icc_profile is not None:
        tags[Base.InterColorProfile] = metadata.icc_profile
    tags.save(target)
    target.writelines(strips)
