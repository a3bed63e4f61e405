"""From file to file, with the time that each stage is busy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramedge.jobs.output_paths import Job
from ramedge.jobs.pictures import upscale_picture
from ramedge.jobs.threaded_pipeline import overlap
from ramedge.media.image_writer import write_image
from ramedge.media.images import read_image
from ramedge.media.pixels import Pixels
from ramedge.media.video import EncodingSettings, Frame, VideoReader, VideoWriter
from ramedge.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Stages:
    """One run from a file to a file.

    Attributes:
        seconds: from opening the source to the finished result.
        decode, network, encode: seconds in which the stage was busy. In a video the three
            overlap, so their sum may be more than `seconds`.
    """

    frames: int
    seconds: float
    decode: float
    network: float
    encode: float

    @property
    def limit(self) -> str:
        """The stage that was busy longest."""
        busy = {"decode": self.decode, "network": self.network, "encode": self.encode}
        return max(busy, key=lambda stage: busy[stage])


class _Clock:
    """Adds up the time between its `start` and `stop`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self.seconds += time.perf_counter() - self._started


def run_stages(source: Path, frames: int, folder: Path, upscaler: Upscaler) -> Stages:
    """Upscale an image, or the first `frames` of a video, into `folder`.

    Raises:
        InputError: the source cannot be read.
        OutputError: the result cannot be written.
    """
    upscaler.start_file()
    if Job(source, source).is_image:
        return _image(source, folder / "out.png", upscaler)
    return _video(source, folder / "out.mp4", frames, upscaler)


def _image(source: Path, target: Path, upscaler: Upscaler) -> Stages:
    decode, network, encode = _Clock(), _Clock(), _Clock()
    with decode:
        picture = read_image(source)
    with network:
        upscaled = upscale_picture(picture, upscaler)
    with encode:
        write_image(upscaled, target)
    total = decode.seconds + network.seconds + encode.seconds
    return Stages(1, total, decode.seconds, network.seconds, encode.seconds)


def _video(source: Path, target: Path, frames: int, upscaler: Upscaler) -> Stages:
    decode, network, encode = _Clock(), _Clock(), _Clock()
    count = 0
    started = time.perf_counter()

    def upscale(frame: Frame) -> Pixels:
        with network:
            return upscaler.upscale(frame.pixels)

    with (
        VideoReader(source, frames=frames) as reader,
        VideoWriter(target, reader, upscaler.scale, EncodingSettings()) as writer,
    ):

        def write(frame: Frame, pixels: Pixels) -> None:
            nonlocal count
            with encode:
                writer.write(frame, pixels)
            count += 1

        overlap(_timed(reader, decode), upscale, write)
        with encode:
            writer.finish()
    seconds = time.perf_counter() - started
    return Stages(count, seconds, decode.seconds, network.seconds, encode.seconds)


def _timed(reader: VideoReader, clock: _Clock) -> Iterator[Frame]:
    frames = iter(reader)
    while True:
        with clock:
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
