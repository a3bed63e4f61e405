"""The frames that are upscaled: real pictures, since nobody upscales noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ramedge.bench.settings import BenchSettings, Size
from ramedge.errors import InputError
from ramedge.jobs.output_paths import Job
from ramedge.media.images import read_image
from ramedge.media.pixels import Pixels
from ramedge.media.video import VideoReader
from ramedge.samples import PHOTOS, sample_photo

DEFAULT_SIZE = Size(180, 320)


def chosen_sizes(settings: BenchSettings) -> tuple[Size, ...]:
    """Those asked for, or the input's.

    Raises:
        InputError: the input cannot be read.
    """
    if settings.input is not None:
        height, width = first_frame(settings.input).shape[:2]
        return (Size(height, width),)
    return settings.sizes or (DEFAULT_SIZE,)


def frame_of(settings: BenchSettings, size: Size) -> Pixels:
    """What is upscaled, `[H, W, 3]`: the input's first frame, or a shipped photo.

    Raises:
        InputError: the input cannot be read.
    """
    return _photo(size) if settings.input is None else first_frame(settings.input)


def first_frame(source: Path) -> Pixels:
    """`[H, W, 3]` of an image, or of a video's first frame.

    Raises:
        InputError: it cannot be read.
    """
    if Job(source, source).is_image:
        return read_image(source).color
    with VideoReader(source, frames=1) as reader:
        for frame in reader:
            return frame.pixels
    raise InputError(f"{source} has no frame.")


def _photo(size: Size) -> Pixels:
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        photo = opened.convert("RGB")
    fitted = ImageOps.fit(photo, (size.width, size.height), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8)
