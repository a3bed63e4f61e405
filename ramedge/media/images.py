"""Reading pictures, whatever they hold, as plain RGB pixels plus what must survive.

`read_image` turns PNG, JPEG, WebP, TIFF and BMP files into a `Picture`; the writer is
`ramedge.media.image_writer.write_image`.
"""

from __future__ import annotations

import contextlib
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from PIL import Image, ImageFile
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ramedge.errors import InputError
from ramedge.media.image_decoding import DECODER_ERRORS, decode, one_line, open_image
from ramedge.media.image_mapping import MAPPED_PIXELS, decode_mapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramedge.media.pixels import Pixels

READABLE_SUFFIXES: Final = frozenset(
    {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
"""Suffixes, lower case with the dot, that name pictures. Reading itself goes by content."""

DEFAULT_MAX_PIXELS: Final = 178_000_000
"""Pixels (width times height) read unless the caller says otherwise.

About where Pillow refuses by default: more than any camera makes, and 0.5 GB as 8-bit RGB,
which a machine still holds several times over while it upscales.
"""

# The first directory of a TIFF file describes its pixels too, so only these are EXIF.
_DESCRIPTIVE_TAGS: Final = frozenset(
    {
        Base.ImageDescription,
        Base.Make,
        Base.Model,
        Base.Software,
        Base.DateTime,
        Base.Artist,
        Base.HostComputer,
        Base.Copyright,
        Base.Rating,
        Base.RatingPercent,
        Base.XPTitle,
        Base.XPComment,
        Base.XPAuthor,
        Base.XPKeywords,
        Base.XPSubject,
        IFD.Exif,
        IFD.GPSInfo,
    }
)
_EMPTY_EXIF_BYTES: Final = len(Image.Exif().tobytes())
_TILE_TAGS: Final = (322, 323)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    r"""What a picture file says beside its pixels.

    `icc_profile` and `exif` are the raw blocks (`exif` starts with `Exif\0\0` and holds no
    orientation: it has been applied). `dpi` is dots per inch, horizontal and vertical. `text`
    holds PNG text chunks as (keyword, text), and a JPEG comment under `Comment`.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture.

    `color` is `[H, W, 3]` RGB, uint8 0–255 or uint16 0–65535, in the colour space of
    `metadata.icc_profile` (sRGB where there is none). `alpha` is `[H, W]` of the same dtype,
    0 transparent, not multiplied into `color`; None where the picture has none. `grey` says
    that the three channels are equal and are to be stored as one. `notes` say what reading
    had to change or leave out.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """

    color: Pixels
    alpha: Pixels | None = None
    grey: bool = False
    metadata: ImageMetadata = ImageMetadata()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.color.ndim != 3 or self.color.shape[2] != 3 or 0 in self.color.shape:
            raise ValueError(f"color must be [H, W, 3], not {list(self.color.shape)}")
        if self.color.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"color must be uint8 or uint16, not {self.color.dtype}")
        if self.alpha is not None and (
            self.alpha.shape != self.color.shape[:2] or self.alpha.dtype != self.color.dtype
        ):
            raise ValueError("alpha must be [H, W] of the dtype of color")


def is_image_name(path: Path) -> bool:
    """Whether the suffix of `path` names a picture that `read_image` reads."""
    return path.suffix.lower() in READABLE_SUFFIXES


def read_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode the (first) picture of a PNG, JPEG, WebP, TIFF or BMP file, going by content.

    The EXIF orientation is applied, palettes are resolved, CMYK becomes sRGB; 16-bit PNG and
    TIFF stay 16-bit. `max_pixels` (width times height) is checked before pixels are decoded.
    Pictures of `MAPPED_PIXELS` or more stand in a temporary file: `ramedge.media.image_mapping`.

    Raises:
        InputError: the file cannot be read, is damaged, too large, or of another kind.
        OutputError: a large picture's temporary file cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a picture file.")
    try:
        with path.open("rb") as stream, _PILLOW_LIMIT.lifted():
            return _read(path, stream, max_pixels)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the name.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or one_line(error)}.") from None


class _PillowLimit:
    """Pillow's own pixel limit is global and below ours: off while pictures are read here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if self._readers == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    Image.MAX_IMAGE_PIXELS = self._limit


_PILLOW_LIMIT: Final = _PillowLimit()


def _read(path: Path, stream: BinaryIO, max_pixels: int) -> Picture:
    notes: list[str] = []
    image = open_image(path, stream)
    _check_size(path, image, max_pixels)
    if getattr(image, "is_animated", False):
        notes.append("holds several pictures or frames: only the first is used")
    large = image.width * image.height >= MAPPED_PIXELS
    color, alpha, grey = (decode_mapped if large else decode)(path, stream, image, notes)
    profile = image.info.get("icc_profile")
    keep_profile = isinstance(profile, bytes) and profile and image.mode != "CMYK"
    metadata = ImageMetadata(
        icc_profile=profile if keep_profile else None,
        exif=_exif(image, notes),
        dpi=_dpi(image.info.get("dpi")),
        text=_text(image),
    )
    return Picture(color, alpha, grey, metadata, tuple(notes))


def _check_size(path: Path, image: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"{path} is damaged: it says it is {width}x{height} pixels.")
    if width * height > max_pixels:
        raise InputError(
            f"{path} is {width}x{height} = {width * height / 1e6:.1f} megapixels, over the"
            f" limit of {max_pixels / 1e6:g}: raise the limit with --max-megapixels if the"
            " file is to be trusted and memory suffices."
        )
    if isinstance(image, TiffImageFile):
        # A small picture may still claim a giant tile, which libtiff would allocate.
        sides = [image.tag_v2.get(tag, 0) for tag in _TILE_TAGS]
        if math.prod(side if isinstance(side, int) else 0 for side in sides) > DEFAULT_MAX_PIXELS:
            raise InputError(f"{path} has tiles of {sides[0]}x{sides[1]} pixels: save it again.")


# --- what goes with the pixels ---


def _exif(image: Image.Image, notes: list[str]) -> bytes | None:
    try:
        exif = image.getexif()
        if not len(exif) and len(image.info.get("exif") or b"") > _EMPTY_EXIF_BYTES:
            raise ValueError("Pillow could not read a thing")
        for tag in list(exif):
            if tag not in _DESCRIPTIVE_TAGS:
                del exif[tag]
        details = exif.get_ifd(IFD.Exif)
        for tag in (Base.ExifImageWidth, Base.ExifImageHeight):
            details.pop(tag, None)  # wrong as soon as the picture is upscaled
        return exif.tobytes() if len(exif) else None
    except DECODER_ERRORS:
        notes.append("EXIF is damaged: not kept")
        return None


def _dpi(value: object) -> tuple[float, float] | None:
    # Pillow answers 1 for a TIFF that does not say.
    try:
        across, down = (float(part) for part in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 < across < 65535 and 1 < down < 65535 else None


def _text(image: Image.Image) -> tuple[tuple[str, str], ...]:
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and comment:
        return (("Comment", comment.decode("utf-8", "replace")),)
    if not isinstance(image, PngImageFile):
        return ()
    # XMP and ImageMagick's profiles repeat what is kept elsewhere, orientation included.
    return tuple(
        (key, str(text))
        for key, text in image.text.items()
        if key != "XML:com.adobe.xmp" and not key.startswith("Raw profile type")
    )
