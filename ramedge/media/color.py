"""Colour of video: what its numbers mean, and exact conversion from and to RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ramedge.errors import InputError

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from numpy.typing import NDArray

    from ramedge.media.pixels import Pixels

# FFmpeg's numbers: AVColorSpace, AVColorRange and their kin never change (they are H.273's).
MATRIX_RGB: Final = 0
MATRIX_BT709: Final = 1
UNSPECIFIED: Final = 2
MATRIX_BT601: Final = 6
MATRIX_BT2020: Final = 9
RANGE_LIMITED: Final = 1
RANGE_FULL: Final = 2

_MATRIX_NAMES: Final = {
    MATRIX_RGB: "RGB",
    MATRIX_BT709: "BT.709",
    4: "FCC",
    5: "BT.601",
    MATRIX_BT601: "BT.601",
    7: "SMPTE 240M",
    MATRIX_BT2020: "BT.2020",
}
_KR_KB: Final = {
    MATRIX_BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    MATRIX_BT601: (0.299, 0.114),
    7: (0.212, 0.087),
    MATRIX_BT2020: (0.2627, 0.0593),
}
_HD_HEIGHT: Final = 720

# Bicubic chroma, accurate rounding, full chroma on both sides. swscale's defaults shift luma by
# a whole level; PyAV before 17 has no names for these flags, so they are spelt as numbers.
_SWS_FLAGS: Final = 0x4 | 0x40000 | 0x2000 | 0x4000

_ROWS_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Color:
    """What a video's numbers mean, in FFmpeg's (H.273's) integers.

    `matrix` and `range` are always resolved; `primaries` and `transfer` stay 2
    ("unspecified") where the file does not say. `guessed`: the matrix is not in the file.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    guessed: bool

    @property
    def matrix_name(self) -> str:
        """The matrix in words, e.g. `BT.709`."""
        return _MATRIX_NAMES[self.matrix]

    @property
    def range_name(self) -> str:
        """`full` or `limited`."""
        return "full" if self.range == RANGE_FULL else "limited"

    def for_format(self, pixel_format: VideoFormat, height: int) -> Color:
        """The same colour as it is stored in `pixel_format`, RGB or YUV."""
        if pixel_format.is_rgb:
            return Color(MATRIX_RGB, RANGE_FULL, self.primaries, self.transfer, self.guessed)
        if self.matrix == MATRIX_RGB:
            matrix = MATRIX_BT709 if height >= _HD_HEIGHT else MATRIX_BT601
            limited = RANGE_FULL if pixel_format.name.startswith("yuvj") else RANGE_LIMITED
            return Color(matrix, limited, self.primaries, self.transfer, self.guessed)
        return self


def resolve_color(
    frame: av.VideoFrame, primaries: int, transfer: int
) -> tuple[Color, tuple[str, ...]]:
    """Read a decoded frame's colour; guess by its height what is missing, and say so.

    `primaries` and `transfer` are the decoder's (PyAV before 17 does not give the frame's).

    Raises:
        InputError: the matrix is one that cannot be converted exactly (YCgCo, ICtCp, ...).
    """
    if frame.format.is_rgb or frame.format.name == "pal8":
        return Color(MATRIX_RGB, RANGE_FULL, primaries, transfer, guessed=False), ()
    notes: list[str] = []
    matrix, color_range = int(frame.colorspace), int(frame.color_range)
    guessed = matrix in (MATRIX_RGB, UNSPECIFIED, 3)
    if guessed:
        matrix = MATRIX_BT709 if frame.height >= _HD_HEIGHT else MATRIX_BT601
        notes.append(f"no colour matrix in the file: {_MATRIX_NAMES[matrix]} assumed by its height")
    elif matrix not in _KR_KB:
        raise InputError(
            f"The video's colour matrix (H.273 number {matrix}) is not supported; "
            "convert it to BT.709 or BT.2020 first."
        )
    if frame.format.name.startswith("yuvj"):
        color_range = RANGE_FULL
    elif color_range not in (RANGE_LIMITED, RANGE_FULL):
        color_range = RANGE_LIMITED
    return Color(matrix, color_range, primaries, transfer, guessed), tuple(notes)


class ColorConverter:
    """Converts between decoded frames and RGB pixels; one per thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: av.VideoFrame, color: Color, deep: bool) -> Pixels:
        """Turn a decoded frame into RGB.

        Args:
            frame: any software pixel format.
            color: what its numbers mean.
            deep: more than 8 bits are wanted.

        Returns:
            `[H, W, 3]`, C-contiguous: uint8 0–255, or uint16 0–65535 where `deep`.
        """
        frame.color_range = color.range
        if color.matrix != MATRIX_RGB:
            frame.colorspace = color.matrix
        converted = self._reformatter.reformat(
            frame,
            format="rgb48le" if deep else "rgb24",
            interpolation=_SWS_FLAGS,
            # RGB has no matrix; but PyAV before 17 passes the range on to swscale only where
            # the two matrices or the two ranges differ.
            src_colorspace=color.matrix or None,
            dst_colorspace=MATRIX_BT2020 if color.matrix == MATRIX_BT709 else MATRIX_BT709,
            src_color_range=color.range,
            dst_color_range=RANGE_FULL,
        )
        return cast("Pixels", np.ascontiguousarray(converted.to_ndarray()))

    def from_rgb(self, pixels: Pixels, color: Color, pixel_format: str) -> av.VideoFrame:
        """Turn RGB into a tagged frame to encode.

        Args:
            pixels: `[H, W, 3]`, uint8 0–255 or uint16 0–65535.
            color: what the frame's numbers are to mean.
            pixel_format: FFmpeg's name of the wanted format.
        """
        deep = pixels.dtype == np.uint16
        if color.range == RANGE_FULL and color.matrix != MATRIX_RGB:
            # swscale's way to full range is half a level off in chroma: do the matrix here,
            # and leave it only the subsampling.
            yuv = _full_range_yuv(pixels, color.matrix)
            if deep:  # PyAV takes these planes interleaved, and those of 8 bits one by one
                yuv = cast("Pixels", np.ascontiguousarray(yuv.transpose(1, 2, 0)))
            source = av.VideoFrame.from_ndarray(yuv, "yuv444p16le" if deep else "yuv444p")
            source.colorspace = color.matrix
        else:
            source = av.VideoFrame.from_ndarray(
                cast("Pixels", np.ascontiguousarray(pixels)), "rgb48le" if deep else "rgb24"
            )
        source.color_range = RANGE_FULL
        frame = self._reformatter.reformat(
            source,
            format=pixel_format,
            interpolation=_SWS_FLAGS,
            dst_colorspace=color.matrix or None,
            src_color_range=RANGE_FULL,
            dst_color_range=color.range,
        )
        frame.colorspace = color.matrix
        frame.color_range = color.range
        return frame


def _full_range_yuv(pixels: Pixels, matrix: int) -> Pixels:
    """RGB `[H, W, 3]` to planar full-range YUV `[3, H, W]` of the same dtype, exactly rounded."""
    kr, kb = _KR_KB[matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    weights = np.stack(
        [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 * (1 - kb)),
            (np.array([1, 0, 0]) - luma) / (2 * (1 - kr)),
        ]
    ).astype(np.float32)
    top = int(np.iinfo(pixels.dtype).max)
    middle = np.array([0, (top + 1) // 2, (top + 1) // 2], np.float32)[:, None, None]
    height, width = pixels.shape[:2]
    planes: NDArray[np.uint8] | NDArray[np.uint16] = np.empty((3, height, width), pixels.dtype)
    for row in range(0, height, _ROWS_AT_ONCE):  # float32 of a whole 4K frame is 100 MB
        part = pixels[row : row + _ROWS_AT_ONCE].reshape(-1, 3).astype(np.float32)
        converted = (weights @ part.T).reshape(3, -1, width) + middle
        planes[:, row : row + _ROWS_AT_ONCE] = np.rint(np.clip(converted, 0, top))
    return planes
