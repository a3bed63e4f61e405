"""Writing an upscaled video beside everything else that its source holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import av

from ramedge.errors import InputError, OutputError
from ramedge.files import atomic_path
from ramedge.media.color import ColorConverter
from ramedge.media.pyav import tag_options
from ramedge.media.video_copy import StreamCopier, describe_alike
from ramedge.media.video_encoding import EncodingSettings, OpenEncoder, muxer_for, open_encoder

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from ramedge.media.pixels import Pixels
    from ramedge.media.video_reader import Frame, VideoReader

_WRITE_BUFFER: Final = 1 << 20


class VideoWriter:
    """Writes one video; a context manager.

    The file appears under its final name only after `finish`; leaving the context without it
    removes what was written. Everything that can be refused is refused on entering.

    Args:
        output: the final name; its suffix chooses the container.
        source: the reader whose frames will come. It is only asked for its facts: the file
            is opened again, so that reading and writing may run in two threads.
        scale: how many times wider and higher the pixels are than the source's.
        settings: codec, options and pixel format.

    Raises:
        UsageError: the suffix, codec, options, pixel format and sound do not fit together.
        OutputError: the file cannot be written.
        InputError: the source cannot be read.
    """

    def __init__(
        self,
        output: Path,
        source: VideoReader,
        scale: int,
        settings: EncodingSettings,
    ) -> None:
        self.notes: list[str] = []
        """What was chosen, converted or left out; complete after entering the context."""
        self._output = output
        self._source = source
        self._scale = scale
        self._settings = settings
        self._muxer = muxer_for(output)
        self._stack = contextlib.ExitStack()
        self._converter = ColorConverter()
        self._durations: dict[int, int] = {}
        self._frames = 0
        self._offset = 0
        self._end = 0
        self._finished = False

    def __enter__(self) -> VideoWriter:
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(atomic_path(self._output))
            with self._writing():
                file = stack.enter_context(partial.open("wb", buffering=_WRITE_BUFFER))
            self._container: OutputContainer = av.open(
                file,
                "w",
                format=self._muxer,
                container_options=self._muxer_options(),
                **tag_options(),
            )
            stack.callback(self._abandon, self._container)
            self._copier = StreamCopier(self._source.path, self._container, self._output)
            stack.callback(self._copier.close)
            self._encoder = self._add_streams()
            if self._source.frames is not None:
                self.notes.append("the other streams are cut at the end of the last frame")
            if self._source.start_seconds is None:
                self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._finished:
            unfinished = _UnfinishedError()
            self._stack.__exit__(_UnfinishedError, unfinished, None)

    def write(self, frame: Frame, pixels: Pixels) -> None:
        """Encode one upscaled frame at the time of the frame it came from.

        Args:
            frame: what the reader gave: its times are used, its pixels are not.
            pixels: `[scale * H, scale * W, 3]` RGB, of the dtype of the frame's pixels.

        Raises:
            OutputError: the encoder failed, or the file cannot be written.
            InputError: another stream of the source is damaged.
        """
        info = self._source.info
        expected = (info.height * self._scale, info.width * self._scale, 3)
        if pixels.shape != expected:
            raise ValueError(f"pixels are {pixels.shape}, not {expected}")
        if not self._frames and self._source.start_seconds is not None:
            self._trim(frame.pts)
        duration = frame.duration or round(1 / (info.average_rate * info.time_base)) or 1
        pts = frame.pts - self._offset
        converted = self._converter.from_rgb(
            pixels, self._encoder.color, self._encoder.pixel_format
        )
        converted.pts, converted.time_base = pts, info.time_base
        self._durations[pts] = duration
        self._end = frame.pts + duration
        with self._writing():
            packets = self._encoder.stream.encode(converted)
        self._frames += 1
        self._mux(packets)

    def finish(self, keep_going: bool = False) -> None:
        """Encode what is waiting, copy what remains, and give the file its final name.

        Args:
            keep_going: keep the file although the other streams of the source are damaged;
                a note says so.

        Raises:
            OutputError: no frame was written, or the file cannot be written.
            InputError: another stream of the source is damaged.
        """
        if not self._frames:
            raise OutputError(f"Nothing to write to {self._output}: there was no frame.")
        with self._writing():
            packets = self._encoder.stream.encode(None)
        self._mux(packets)
        end = self._end * self._source.info.time_base if self._source.frames else None
        try:
            with self._writing():
                self._copier.copy_rest(end)
        except InputError as error:
            if not keep_going:
                raise
            self.notes.append(str(error))
        with self._writing():
            self._container.close()
        # The container is closed: only the files and the renaming are left to the stack.
        self._stack.close()
        self._finished = True

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        with self._writing():
            for packet in packets:
                stamp = packet.dts if packet.dts is not None else packet.pts
                if packet.pts is not None:
                    packet.duration = self._durations.pop(packet.pts, packet.duration)
                self._copier.copy_until((stamp or 0) * packet.time_base)
                self._container.mux_one(packet)

    def _add_streams(self) -> OpenEncoder:
        """Add all streams in the order of the source."""
        encoder: OpenEncoder | None = None
        info = self._source.info
        for stream in self._copier.container.streams:
            if stream.index == info.stream_index:
                encoder = open_encoder(self._container, info, self._scale, self._settings)
                describe_alike(encoder.stream, stream)
            else:
                self._copier.add(stream)
        if encoder is None:
            raise InputError(f"{info.path} changed while it was read.")
        if self._muxer in ("matroska", "webm") and (info.time_base * 1000).denominator != 1:
            self.notes.append(f"{self._output.suffix} keeps times in whole milliseconds")
        self.notes += encoder.notes
        self.notes += self._copier.notes
        return encoder

    def _muxer_options(self) -> dict[str, str]:
        # Without it the muxer picks a finer time base than the source's.
        time_base = self._source.info.time_base
        if self._muxer in ("mp4", "mov") and time_base.denominator >= 1000:
            return {"video_track_timescale": str(time_base.denominator)}
        return {}

    def _start(self) -> None:
        """Write the header, so that a container that refuses does it before the first frame."""
        shift = self._offset * self._source.info.time_base
        self._copier.copy_heading(shift)
        with self._writing():
            self._container.start_encoding()

    def _trim(self, first: int) -> None:
        self._offset = first
        self._copier.begin_at(first * self._source.info.time_base)
        self._start()
        self.notes.append("the times of all streams count from the first frame that was asked for")

    def _abandon(self, container: OutputContainer) -> None:
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            container.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"Cannot write {self._output}: {reason}.") from None


class _UnfinishedError(Exception):
    """Tells `atomic_path` that the file is to be removed."""
