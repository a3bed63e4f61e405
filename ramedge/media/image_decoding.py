"""Decoding picture files with Pillow into samples: colour, alpha, and whether it is grey."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, TypeAlias, cast

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from ramedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ramedge.media.pixels import Pixels

    Samples: TypeAlias = tuple[Pixels, Pixels | None, bool]

# Nothing else: Pillow would hand EPS to Ghostscript, for one.
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")

# What Pillow's decoders raise for damaged files, found by fuzzing them.
DECODER_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_SWAPPED_ORDER: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def open_image(path: Path, stream: BinaryIO) -> ImageFile.ImageFile:
    """Identify a file by its first bytes, one of the five formats only; decode nothing.

    Raises:
        InputError: the file is empty, damaged, or of another kind.
    """
    stream.seek(0)
    if not stream.read(1):
        raise InputError(f"{path} is empty: fetch or save it again.")
    try:
        return Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not a PNG, JPEG, WebP, TIFF or BMP picture, or is damaged, or has a"
            " layout that is not supported: save it as PNG with an image editor."
        ) from None
    except DECODER_ERRORS as error:
        _damaged(path, error)


def _load(path: Path, image: ImageFile.ImageFile) -> None:
    """Decode, and turn as EXIF says. The turn is not worth failing for."""
    try:
        image.load()
    except DECODER_ERRORS as error:
        _damaged(path, error)
    with contextlib.suppress(*DECODER_ERRORS):  # `_exif` says that EXIF is damaged
        ImageOps.exif_transpose(image, in_place=True)


def _damaged(path: Path, error: BaseException) -> NoReturn:
    if isinstance(error, MemoryError):
        raise InputError(f"Not enough memory to decode {path}: close other programs.") from None
    reason = one_line(error) or type(error).__name__
    raise InputError(
        f"{path} is damaged or incomplete ({reason}): fetch or save it again."
    ) from None


def _unsupported(path: Path, what: str) -> NoReturn:
    raise InputError(
        f"{path} is {what}, which is not supported: save it as 8- or 16-bit RGB PNG or TIFF."
    )


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks and without its full stop."""
    return " ".join(str(error).split()).rstrip(".")


def decode(path: Path, stream: BinaryIO, image: ImageFile.ImageFile, notes: list[str]) -> Samples:
    """Decode what `open_image` opened, turned as EXIF says, and leave `image` loaded.

    Returns colour `[H, W, 3]`, alpha `[H, W]` or None, both uint8 or both uint16, and whether
    the source is grey. What had to be changed on the way is appended to `notes`.

    Raises:
        InputError: the file is damaged, or its samples are of an unsupported kind.
    """
    rawmodes = _rawmodes(image)
    bits = _bits(image)
    deep = any(";16" in mode for mode in rawmodes)
    if bits > 8 and image.mode in ("RGB", "RGBA", "CMYK") and (not deep or _planar(image)):
        # Pillow would silently decode these wrong, or to the high bytes only.
        _unsupported(path, f"a TIFF that stores {bits}-bit samples in separate planes")
    if deep and image.mode in ("RGB", "RGBA"):
        return _decode_deep(path, stream, image, rawmodes)
    _load(path, image)
    if deep and image.mode == "CMYK":
        notes.append("16-bit CMYK is read at 8 bits")
    return _split(path, image, rawmodes, bits, notes)


# --- 8-bit pictures, and 16-bit grey, as Pillow decodes them ---


def _split(
    path: Path, image: Image.Image, rawmodes: frozenset[str], bits: int, notes: list[str]
) -> Samples:
    """Colour, alpha and whether it is grey, of a loaded picture."""
    transparency = image.info.get("transparency")
    mode = image.mode
    if mode.startswith("I;16"):
        grey = _grey_deep(image, bits, notes)
        # Pillow resolves the transparent value of 8-bit greys only.
        clear = isinstance(transparency, int)
        alpha = np.where(grey == transparency, 0, 65535).astype(np.uint16) if clear else None
        return _three(grey), alpha, True
    if mode == "CMYK":
        image = _srgb_from_cmyk(image, notes)
    elif mode in ("1", "L"):
        # Pillow scales 2- and 4-bit greys to 8 bits, but not their transparent value.
        if isinstance(transparency, int) and mode == "L":
            scale = 85 if "L;2" in rawmodes else 17 if "L;4" in rawmodes else 1
            image.info["transparency"] = min(transparency * scale, 255)
        image = image.convert("L" if transparency is None else "LA")
    elif mode in ("P", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA" if mode != "P" or image.has_transparency_data else "RGB")
    elif mode in ("RGB", "RGBX", "YCbCr"):
        image = image.convert("RGB" if transparency is None else "RGBA")
    elif mode != "LA":
        _unsupported(path, f"of Pillow's mode {mode!r} (floats, 32-bit integers or the like)")
    pixels: NDArray[np.uint8] = np.array(image)
    if image.mode == "L":
        return _three(pixels), None, True
    if image.mode == "LA":
        return _three(pixels[..., 0]), np.ascontiguousarray(pixels[..., 1]), True
    if image.mode == "RGBA":
        return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]), False
    return pixels, None, False


def _grey_deep(image: Image.Image, bits: int, notes: list[str]) -> NDArray[np.uint16]:
    grey: NDArray[np.uint16] = np.array(image).astype(np.uint16)
    if bits == 12:
        notes.append("12-bit grey is spread to 16 bits")
        grey = (grey * np.uint16(16) + grey // np.uint16(256)).astype(np.uint16)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(Base.PhotometricInterpretation) == 0:
        grey = ~grey  # white is zero, which Pillow undoes for 8-bit greys only
    return grey


def _three(grey: Pixels) -> Pixels:
    return cast("Pixels", np.repeat(grey[..., None], 3, axis=2))


def _srgb_from_cmyk(image: Image.Image, notes: list[str]) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        notes.append("CMYK without a colour profile converted to sRGB: colours are approximate")
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        converted = None
    if converted is None:
        notes.append("CMYK with an unusable colour profile converted to sRGB: approximate")
        return image.convert("RGB")
    notes.append("CMYK converted to sRGB through its colour profile")
    return converted


# --- 16-bit colour, which Pillow decodes to the high bytes only ---


def _decode_deep(
    path: Path, stream: BinaryIO, image: ImageFile.ImageFile, rawmodes: frozenset[str]
) -> Samples:
    """16-bit RGB and RGBA, by decoding twice: Pillow's raw modes pick one byte per sample.

    A raw mode of the other byte order picks the low byte. So every compression and layout
    that Pillow reads works, with its checks for damage. `image` is left loaded.
    """
    if "LA;16B" in rawmodes:
        _retile(image, lambda _: "RGBA")  # four bytes a pixel: both of L, both of A
        _load(path, image)
        pairs: NDArray[np.uint16] = np.asarray(image).view(">u2").astype(np.uint16)
        return _three(pairs[..., 0]), np.ascontiguousarray(pairs[..., 1]), True
    _retile(image, lambda mode: mode.replace("RGBa", "RGBA"))
    _load(path, image)
    samples: NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
    samples <<= 8
    lower = open_image(path, stream)
    _retile(lower, lambda mode: mode.replace("RGBa", "RGBA")[:-1] + _SWAPPED_ORDER[mode[-1]])
    _load(path, lower)
    samples |= np.asarray(lower)
    if samples.shape[2] == 3:
        transparency = image.info.get("transparency")
        if transparency is None:
            return samples, None, False
        clear = (samples == np.array(transparency)).all(axis=2)
        return samples, np.where(clear, 0, 65535).astype(np.uint16), False
    color, alpha = samples[..., :3], samples[..., 3]
    if any(mode.startswith("RGBa") for mode in rawmodes):
        color = _unmultiplied(color, alpha)
    return np.ascontiguousarray(color), np.ascontiguousarray(alpha), False


def _unmultiplied(color: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    share = np.maximum(alpha, 1)[..., None].astype(np.uint64)
    straight = (color.astype(np.uint64) * 65535 + share // 2) // share
    bounded: NDArray[np.uint16] = np.minimum(straight, 65535).astype(np.uint16)
    return bounded


def _rawmodes(image: ImageFile.ImageFile) -> frozenset[str]:
    """How Pillow is about to unpack the samples of a picture not yet loaded."""
    args = [tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in image.tile]
    return frozenset(arg for arg in args if isinstance(arg, str))


def _retile(image: ImageFile.ImageFile, change: Callable[[str], str]) -> None:
    image.tile = [
        tile._replace(
            args=(change(tile.args[0]), *tile.args[1:])
            if isinstance(tile.args, tuple)
            else change(str(tile.args))
        )
        for tile in image.tile
    ]


def _planar(image: ImageFile.ImageFile) -> bool:
    return isinstance(image, TiffImageFile) and image.tag_v2.get(Base.PlanarConfiguration) == 2


def _bits(image: ImageFile.ImageFile) -> int:
    """Bits of the deepest sample where the file is a TIFF, else 0."""
    if not isinstance(image, TiffImageFile):
        return 0
    bits = image.tag_v2.get(Base.BitsPerSample, (1,))
    return max(bits) if isinstance(bits, tuple) else int(bits)
