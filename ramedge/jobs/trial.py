"""A tiny picture and a video of two frames, upscaled from file to file, to see that it works."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from PIL import Image

from ramedge.errors import InputError
from ramedge.jobs.pipeline import UpscaleSettings, upscale_files
from ramedge.media.video import VideoReader

_COLOR: Final = (200, 120, 60)
_HEIGHT: Final = 24
_WIDTH: Final = 32
_FRAMES: Final = 2
_TOLERANCE: Final = 6.0
"""In levels: of a plain colour through the network, and through an encoder."""


def try_picture() -> None:
    """Write a picture, upscale it, and read the result.

    Raises:
        RamedgeError: it fails, or the result is not what was put in.
    """
    _try("picture.png", _write_picture, _read_picture)


def try_video() -> None:
    """Write a video of two frames, upscale it with the default encoder, and decode the result.

    Raises:
        RamedgeError: it fails, or the result is not what was put in.
    """
    _try("video.mp4", _write_video, _read_video)


def _try(
    name: str, write: Callable[[Path], None], read: Callable[[Path], list[np.ndarray]]
) -> None:
    with tempfile.TemporaryDirectory(prefix="ramedge_doctor_") as folder:
        source, target = Path(folder) / name, Path(folder) / f"upscaled_{name}"
        write(source)
        (result,) = upscale_files([str(source)], UpscaleSettings(output=target))
        if result.error is not None:
            raise InputError(result.error)
        _compare(read(target), len(read(source)))


def _compare(pictures: list[np.ndarray], expected: int) -> None:
    if len(pictures) != expected:
        raise InputError(f"{len(pictures)} of {expected} frames came out")
    for pixels in pictures:
        height, width = pixels.shape[:2]
        if height % _HEIGHT or width % _WIDTH or height // _HEIGHT != width // _WIDTH:
            raise InputError(f"{_WIDTH}x{_HEIGHT} pixels came out as {width}x{height}")
        means = pixels.reshape(-1, 3).mean(axis=0)
        if np.abs(means - _COLOR).max() > _TOLERANCE:
            found = ", ".join(f"{mean:.0f}" for mean in means)
            raise InputError(f"the colour {_COLOR} came out as ({found})")


def _write_picture(path: Path) -> None:
    Image.new("RGB", (_WIDTH, _HEIGHT), _COLOR).save(path)


def _read_picture(path: Path) -> list[np.ndarray]:
    with Image.open(path) as opened:
        return [np.asarray(opened.convert("RGB"))]


def _write_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        pixels = np.full((_HEIGHT, _WIDTH, 3), _COLOR, np.uint8)
        for _ in range(_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def _read_video(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.pixels for frame in reader]
