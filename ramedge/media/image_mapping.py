"""Large pictures decoded into a temporary file that is mapped into memory.

The system keeps of such a file what it has room for, so the samples do not count against memory.
A TIFF file in strips is decoded some strips at a time; what Pillow decodes only whole stands in
memory for that moment.
"""

from __future__ import annotations

import io
import itertools
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import numpy as np
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from ramedge.errors import OutputError
from ramedge.media.image_decoding import decode, one_line, open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import ImageFile

    from ramedge.media.image_decoding import Samples
    from ramedge.media.pixels import Pixels

MAPPED_PIXELS: Final = 16_000_000
"""Pictures of this many pixels are mapped: 48 MB as 8-bit RGB."""

PART_PIXELS: Final = 4_000_000
"""Pixels that are decoded at a time."""
_OLD_JPEG: Final = 6
_TILE_WIDTH: Final = 322
# What says how a strip is to be decoded; every other tag is about the whole picture.
_STRIP_TAGS: Final = (
    Base.ImageWidth,
    Base.BitsPerSample,
    Base.Compression,
    Base.PhotometricInterpretation,
    Base.FillOrder,
    Base.SamplesPerPixel,
    Base.RowsPerStrip,
    Base.T4Options,
    Base.Predictor,
    Base.ColorMap,
    Base.ExtraSamples,
    Base.SampleFormat,
    Base.JPEGTables,
    Base.YCbCrCoefficients,
    Base.YCbCrSubSampling,
    Base.YCbCrPositioning,
    Base.ReferenceBlackWhite,
    Base.InterColorProfile,
)
_HEADERS: Final = {b"II": b"II\x2a\x00\x08\x00\x00\x00", b"MM": b"MM\x00\x2a\x00\x00\x00\x08"}


def decode_mapped(
    path: Path, stream: BinaryIO, image: ImageFile.ImageFile, notes: list[str]
) -> Samples:
    """As `decode`, but colour and alpha stand in temporary files.

    Raises:
        InputError: the file is damaged, or its samples are of an unsupported kind.
        OutputError: the temporary file cannot be written.
    """
    strips = _strips(image)
    if strips is None:
        parts = iter([decode(path, stream, image, notes)])
    else:
        parts = _decoded_strips(path, stream, strips, notes)
    how = "whole" if strips is None else "strip by strip"
    notes.append(f"decoded {how}, then kept in a temporary file")
    try:
        return _mapped(parts)
    except OSError as error:
        raise OutputError(
            f"Cannot write a temporary file for {path} in {tempfile.gettempdir()} "
            f"({error.strerror or one_line(error)}): make room, or set TMPDIR."
        ) from None


def _mapped(parts: Iterator[Samples]) -> Samples:
    with tempfile.TemporaryFile() as color_file, tempfile.TemporaryFile() as alpha_file:
        rows, grey = 0, False
        for color, alpha, grey in parts:  # noqa: B007  # all parts are alike
            color.tofile(color_file)
            if alpha is not None:
                alpha.tofile(alpha_file)
            rows += len(color)
        mapped = np.memmap(color_file, color.dtype, "r", shape=(rows, *color.shape[1:]))
        if alpha is None:
            return cast("Pixels", mapped), None, grey
        plane = np.memmap(alpha_file, alpha.dtype, "r", shape=(rows, alpha.shape[1]))
        return cast("Pixels", mapped), cast("Pixels", plane), grey


class _Strips:
    """Where the strips of a TIFF file are."""

    def __init__(self, tags: ImageFileDirectory_v2) -> None:
        self.tags = tags
        self.offsets: tuple[int, ...] = tags[Base.StripOffsets]
        self.sizes: tuple[int, ...] = tags[Base.StripByteCounts]
        self.rows: int = tags[Base.RowsPerStrip]
        self.height: int = tags[Base.ImageLength]

    @property
    def usable(self) -> bool:
        """Whether they are as the specification has them."""
        count = -(-self.height // self.rows) if self.rows else 0
        return 1 < count == len(self.offsets) == len(self.sizes)

    def as_files(self, stream: BinaryIO) -> Iterator[bytes]:
        """Some strips at a time, each time as a TIFF file of its own."""
        each = max(1, PART_PIXELS // (self.rows * self.tags[Base.ImageWidth]))
        for first in range(0, len(self.offsets), each):
            part = slice(first, first + each)
            strips = []
            for offset, size in zip(self.offsets[part], self.sizes[part], strict=True):
                stream.seek(offset)
                strips.append(stream.read(size))
            rows = min(self.rows * len(strips), self.height - first * self.rows)
            yield self._file(strips, rows)

    def _file(self, strips: list[bytes], rows: int) -> bytes:
        tags = ImageFileDirectory_v2(_HEADERS[self.tags.prefix])
        for tag in _STRIP_TAGS:
            if tag in self.tags:
                tags.tagtype[tag] = self.tags.tagtype[tag]
                tags[tag] = self.tags[tag]
        tags[Base.ImageLength] = rows
        tags.tagtype[Base.StripOffsets] = tags.tagtype[Base.StripByteCounts] = 4  # 32 bits
        sizes = tuple(len(strip) for strip in strips)
        # Counted from the end of the directory: Pillow adds where that is.
        tags[Base.StripOffsets] = tuple(itertools.accumulate(sizes[:-1], initial=0))
        tags[Base.StripByteCounts] = sizes
        file = io.BytesIO()
        tags.save(file)
        file.writelines(strips)
        return file.getvalue()


def _strips(image: ImageFile.ImageFile) -> _Strips | None:
    """The strips of a picture that can be decoded by them."""
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    needed = (Base.StripOffsets, Base.StripByteCounts, Base.RowsPerStrip)
    plain = (
        all(tag in tags for tag in needed)
        and _TILE_WIDTH not in tags
        and tags.get(Base.PlanarConfiguration, 1) == 1
        and tags.get(Base.Orientation, 1) == 1
        and tags.get(Base.Compression, 1) != _OLD_JPEG
    )
    strips = _Strips(tags) if plain else None
    return strips if strips is not None and strips.usable else None


def _decoded_strips(
    path: Path, stream: BinaryIO, strips: _Strips, notes: list[str]
) -> Iterator[Samples]:
    for index, data in enumerate(strips.as_files(stream)):
        file = io.BytesIO(data)
        yield decode(path, file, open_image(path, file), notes if index == 0 else [])
