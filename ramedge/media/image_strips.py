"""PNG and TIFF written strip by strip, so that large pictures never stand in memory whole.

Pillow writes what describes the pixels; it takes whole pictures only, and neither 16-bit colour
nor TIFF both compressed and with EXIF. Nor does `tifffile` (no EXIF) or `pypng` (no filters).
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from PIL import Image, TiffTags
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ramedge.media.images import ImageMetadata
    from ramedge.media.pixels import Pixels

STRIP_BYTES: Final = 1 << 20
"""Bytes of one strip of a TIFF, or one chunk of a PNG, before compression."""
BIG_TIFF_BYTES: Final = 4_000_000_000  # classic TIFF offsets have 32 bits
_TIFF_HEADER: Final = b"II\x2a\x00\x08\x00\x00\x00"
_BIG_TIFF_HEADER: Final = b"II\x2b\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00"
_PNG_COLOR: Final = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: grey, grey and alpha, RGB, RGBA
_PNG_PAETH: Final = 4
_PNG_OWN_CHUNKS: Final = (b"IHDR", b"IDAT", b"IEND")


@dataclass(frozen=True, slots=True)
class Layout:
    """What is stored: `height`×`width` pixels of 1 to 4 `channels`, `bits` 8 or 16 each."""

    height: int
    width: int
    channels: int
    bits: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.channels * self.bits // 8


def encode_tiff(
    strips: Iterable[Pixels], layout: Layout, metadata: ImageMetadata, target: BinaryIO
) -> None:
    """Deflated strips with horizontal prediction; BigTIFF where 4 GB may not do.

    `strips` are `[rows, W, channels]` from top to bottom, of any heights. `target` can seek.
    """
    rows = max(1, STRIP_BYTES // layout.row_bytes)
    count = -(-layout.height // rows)
    # The directory comes first with sizes to be filled in: it is as long with the true ones.
    target.write(_tiff_directory(layout, metadata, rows, [0] * count))
    sizes = []
    for strip in _of_rows(strips, rows):
        steps = np.diff(strip, axis=1, prepend=strip.dtype.type(0))
        sizes.append(
            target.write(zlib.compress(steps.astype(f"<u{layout.bits // 8}", copy=False).tobytes()))
        )
    target.seek(0)
    target.write(_tiff_directory(layout, metadata, rows, sizes))


def encode_png(
    strips: Iterable[Pixels], layout: Layout, metadata: ImageMetadata, target: BinaryIO
) -> None:
    """Rows with the Paeth filter, which suits photos; `strips` as for `encode_tiff`."""
    header = struct.pack(
        ">IIBBBBB", layout.width, layout.height, layout.bits, _PNG_COLOR[layout.channels], 0, 0, 0
    )
    target.write(b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header))
    target.writelines(_png_description(layout, metadata))
    deflate = zlib.compressobj()
    above = np.zeros((1, layout.row_bytes), np.uint8)
    for strip in _of_rows(strips, max(1, STRIP_BYTES // layout.row_bytes)):
        lines = strip.astype(f">u{layout.bits // 8}", order="C", copy=False)
        samples = lines.view(np.uint8).reshape(len(strip), layout.row_bytes)
        filtered = _paeth(np.concatenate([above, samples]), layout.row_bytes // layout.width)
        above = samples[-1:]
        if data := deflate.compress(filtered.tobytes()):
            target.write(_png_chunk(b"IDAT", data))
    target.write(_png_chunk(b"IDAT", deflate.flush()))
    target.write(_png_chunk(b"IEND", b""))


def png_text(metadata: ImageMetadata) -> PngInfo:
    """The text chunks as Pillow wants them."""
    info = PngInfo()
    for key, value in metadata.text:
        info.add_text(key, value)
    return info


def _of_rows(strips: Iterable[Pixels], rows: int) -> Iterator[Pixels]:
    """The same pixels in strips of `rows` rows, the last one perhaps smaller."""
    rest: Pixels | None = None
    for strip in strips:
        rest = strip if rest is None else np.concatenate([rest, strip])
        full = len(rest) // rows * rows
        for top in range(0, full, rows):
            yield rest[top : top + rows]
        rest = rest[full:]
    if rest is not None and len(rest):
        yield rest


# --- TIFF ---


def _tiff_directory(layout: Layout, metadata: ImageMetadata, rows: int, sizes: list[int]) -> bytes:
    """Header and directory, written by Pillow."""
    big = layout.height * layout.row_bytes >= BIG_TIFF_BYTES
    tags = ImageFileDirectory_v2(_BIG_TIFF_HEADER if big else _TIFF_HEADER)
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else exif[tag]
    tags[Base.ImageWidth], tags[Base.ImageLength] = layout.width, layout.height
    tags[Base.BitsPerSample] = (layout.bits,) * layout.channels
    tags[Base.SamplesPerPixel] = layout.channels
    tags[Base.PhotometricInterpretation] = 1 if layout.channels < 3 else 2  # black is zero, or RGB
    tags[Base.PlanarConfiguration] = 1  # interleaved
    if layout.channels in (2, 4):
        tags[Base.ExtraSamples] = 2  # straight alpha
    tags[Base.Compression] = 8  # deflate
    tags[Base.Predictor] = 2  # horizontal differences
    tags[Base.RowsPerStrip] = rows
    # Counted from the end of the directory: Pillow adds where that is. It would choose 16 bits.
    wide = TiffTags.LONG8 if big else TiffTags.LONG
    tags.tagtype[Base.StripOffsets] = tags.tagtype[Base.StripByteCounts] = wide
    tags[Base.StripOffsets] = tuple(itertools.accumulate([0, *sizes[:-1]]))
    tags[Base.StripByteCounts] = tuple(sizes)
    if metadata.dpi is not None:
        tags[Base.XResolution], tags[Base.YResolution] = metadata.dpi
        tags[Base.ResolutionUnit] = 2  # inches
    if metadata.icc_profile is not None:
        tags[Base.InterColorProfile] = metadata.icc_profile
    directory = io.BytesIO()
    tags.save(directory)
    return directory.getvalue()


# --- PNG ---


def _paeth(lines: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Filtered rows with their filter byte; the first of `lines` is only the row above.

    Each byte less whichever is nearest to left + above - upper left, of these three (PNG
    specification, third edition, 9.4); `pixel` is the distance in bytes to the left.
    """
    padded = np.pad(lines, ((0, 0), (pixel, 0))).astype(np.int16)
    above, left, corner = padded[:-1, pixel:], padded[1:, :-pixel], padded[:-1, :-pixel]
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(above + left - 2 * corner)
    guess = np.where(to_above <= to_corner, above, corner)
    np.copyto(guess, left, where=(to_left <= to_above) & (to_left <= to_corner))
    filtered = np.empty((len(lines) - 1, lines.shape[1] + 1), np.uint8)
    filtered[:, 0] = _PNG_PAETH
    filtered[:, 1:] = lines[1:] - guess.astype(np.uint8)
    return filtered


def _png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _png_description(layout: Layout, metadata: ImageMetadata) -> Iterator[bytes]:
    """The chunks that describe the pixels, as Pillow writes them for a small picture."""
    stand_in = io.BytesIO()
    Image.new("L" if layout.channels < 3 else "RGB", (1, 1)).save(
        stand_in,
        "PNG",
        icc_profile=metadata.icc_profile,
        exif=metadata.exif or b"",
        dpi=metadata.dpi,
        pnginfo=png_text(metadata),
    )
    data, start = stand_in.getvalue(), 8
    while start < len(data):
        (length,) = struct.unpack_from(">I", data, start)
        if data[start + 4 : start + 8] not in _PNG_OWN_CHUNKS:
            yield data[start : start + length + 12]
        start += length + 12
