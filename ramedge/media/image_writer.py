"""Writing pictures: the format is chosen by suffix, and every loss is said."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from PIL import Image

from ramedge.errors import OutputError, UsageError
from ramedge.files import atomic_path
from ramedge.media.image_strips import Layout, encode_png, encode_tiff, png_text
from ramedge.media.images import ImageMetadata, Picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ramedge.media.pixels import Pixels

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
_ENCODERS: Final = {"PNG": encode_png, "TIFF": encode_tiff}


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
        # Not a view of the buffer: Python before 3.12.3 may end with a segmentation fault when it
        # collects one that a failed write left in a traceback. It is no copy either.
        partial.write_bytes(buffer.getvalue())
    return tuple(notes)


def write_strips(strips: Iterable[Picture], height: int, path: Path) -> tuple[str, ...]:
    """As `write_image`, for a picture that is made strip by strip, from top to bottom.

    For the formats that `takes_strips` names. The first strip's metadata is the picture's; `height`
    is that of all strips together.

    Raises:
        UsageError: the format of `path` cannot be written so.
        OutputError: the file cannot be written.
    """
    kind = _kind(path)
    if kind not in _ENCODERS:
        raise UsageError(f"{kind} cannot be written in strips: choose .png or .tif for {path}.")
    remaining = iter(strips)
    first = next(remaining)
    notes: list[str] = []
    samples, grey = _stored(first, kind, notes)
    metadata = _kept(first.metadata, kind, grey, notes)
    rest = (_stored(strip, kind, [])[0] for strip in remaining)
    with atomic_path(path) as partial, partial.open("wb") as target:
        layout = _layout(samples, height)
        _ENCODERS[kind](itertools.chain([samples], rest), layout, metadata, target)
    return tuple(notes)


def takes_strips(path: Path) -> bool:
    """Whether the format that `path` names is written by `write_strips`."""
    return _kind(path) in _ENCODERS


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
    if alpha is not None and kind in ("JPEG", "BMP"):
        color, alpha = _on_white(color, alpha, kind, notes), None
    samples, grey = _stored(Picture(color, alpha, picture.grey), kind, notes)
    metadata = _kept(picture.metadata, kind, grey, notes)
    if kind == "TIFF" or (kind == "PNG" and samples.dtype == np.uint16):
        _ENCODERS[kind]([samples], _layout(samples, len(samples)), metadata, target)
    else:
        image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        _save(image, kind, quality, metadata, target)


def _stored(picture: Picture, kind: str, notes: list[str]) -> tuple[Pixels, bool]:
    """Samples `[H, W, 1 to 4]` as the format stores them, and whether they are grey."""
    color, alpha = picture.color, picture.alpha
    grey = picture.grey and kind != "WebP"  # WebP has no grey: equal channels do
    if grey and color.dtype == np.uint16 and alpha is not None and kind == "TIFF":
        notes.append("16-bit grey with transparency is stored as RGBA: few programs read it else")
        grey = False
    samples: Pixels = color[..., :1] if grey else color
    if alpha is not None:
        samples = cast("Pixels", np.dstack((samples, alpha)))
    return samples, grey


def _layout(samples: Pixels, height: int) -> Layout:
    _, width, channels = samples.shape
    return Layout(height, width, channels, 8 * samples.dtype.itemsize)


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
            target, "PNG", icc_profile=profile, exif=exif, dpi=dpi, pnginfo=png_text(metadata)
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
