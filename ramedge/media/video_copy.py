"""Copying all but the video stream from a source into an output, packet by packet."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import av
from av.stream import Disposition, Stream

from ramedge.errors import InputError, UsageError
from ramedge.media.pyav import tag_options
from ramedge.media.video_reader import open_input

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.subtitles.stream import SubtitleStream

# What a muxer writes itself, or what is no longer true of a re-encoded stream.
_OWN_TAGS: Final = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
    | {"bps", "number_of_frames", "number_of_bytes", "rotate"}
)
_TEXT_SUBTITLES: Final = {
    "mp4": "mov_text",
    "mov": "mov_text",
    "matroska": "srt",
    "webm": "webvtt",
}
_TEXT_CODECS: Final = frozenset({"mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"})


def kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags of a source that are still true of its copy."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in _OWN_TAGS and not key.startswith("_STATISTICS")
    }


def describe_alike(target: Stream, source: Stream) -> None:
    """Give an output stream the tags and the disposition of its source."""
    target.metadata.update(kept_tags(source.metadata))
    # PyAV before 17 reads a flag here and takes only its number.
    target.disposition = cast("Disposition", source.disposition.value)


class StreamCopier:
    """Copies the streams that `add` accepted, in the order of time.

    Raises:
        InputError: the source cannot be opened.
    """

    def __init__(self, source: Path, output: OutputContainer, output_path: Path) -> None:
        self.notes: list[str] = []
        self.container = open_input(source)
        self._source = source
        self._output = output
        self._output_path = output_path
        self._targets: dict[int, Stream] = {}
        self._converted: set[int] = set()
        self._packets: Iterator[Packet[Stream]] | None = None
        self._waiting: Packet[Stream] | None = None
        self._begin: Fraction | None = None
        self._shift = Fraction(0)

    def add(self, stream: Stream) -> None:
        """Add the copy of one stream to the output, or note why it is left out.

        Raises:
            UsageError: it is sound that the container cannot hold.
        """
        picture = bool(stream.disposition & Disposition.attached_pic)
        if stream.type == "video" and not picture:
            self.notes.append(f"video stream {stream.index} is left out: only one is upscaled")
        elif stream.type == "data" and stream.name == "bin_data" and self.container.chapters():
            pass  # the text track of MP4 chapters, which are copied as chapters
        elif _fits(stream, self._output.format.name):
            self._register(stream, self._output.add_stream_from_template(stream, opaque=True))
        elif stream.type == "audio":
            raise UsageError(
                f"The audio codec {_codec_name(stream)} does not fit into "
                f"{self._output_path.suffix}: choose -o {self._output_path.stem}.mkv."
            )
        elif stream.type == "subtitle" and _codec_name(stream) in _TEXT_CODECS:
            self._add_converted(cast("SubtitleStream", stream))
        else:
            self.notes.append(
                f"{stream.type} stream {stream.index} ({_codec_name(stream)}) is left out: "
                f"{self._output_path.suffix} cannot hold it"
            )

    def _register(self, stream: Stream, target: Stream) -> None:
        describe_alike(target, stream)
        self._targets[stream.index] = target

    def _add_converted(self, stream: SubtitleStream) -> None:
        codec = _TEXT_SUBTITLES[self._output.format.name]
        target = cast("SubtitleStream", self._output.add_stream(codec))
        target.time_base = Fraction(1, 1000)
        target.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.open(strict=False)
        target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        target.codec_context.open(strict=False)
        self._register(stream, target)
        self._converted.add(stream.index)
        self.notes.append(
            f"subtitle stream {stream.index} is converted from {_codec_name(stream)} to {codec}"
        )

    def copy_heading(self, shift: Fraction) -> None:
        """Copy tags and chapters; `shift` seconds are taken off every time."""
        self._output.metadata.update(kept_tags(self.container.metadata))
        chapters = self.container.chapters()
        kept = []
        for chapter in chapters:
            unit = chapter["time_base"] or Fraction(1, 1000)
            moved = round(shift / unit)
            chapter["start"] = max(0, chapter["start"] - moved)
            chapter["end"] -= moved
            if chapter["end"] > 0:
                kept.append(chapter)
        if kept:
            self._output.set_chapters(kept)

    def begin_at(self, seconds: Fraction) -> None:
        """Trim: leave out what is before `seconds` of the source, which becomes time 0."""
        self._begin = self._shift = seconds

    def copy_until(self, seconds: Fraction) -> None:
        """Copy all packets up to a time of the output, in seconds."""
        self._copy(seconds + self._shift, cut=False)

    def copy_rest(self, end: Fraction | None) -> None:
        """Copy what remains, up to `end` seconds of the source where it is trimmed.

        Raises:
            InputError: the source is damaged.
        """
        self._copy(end, cut=True)

    def close(self) -> None:
        """Close the source."""
        self.container.close()

    def _copy(self, limit: Fraction | None, cut: bool) -> None:
        if not self._targets:
            return
        if self._packets is None:
            chosen = [s for s in self.container.streams if s.index in self._targets]
            self._packets = self.container.demux(*chosen)
        while True:
            packet = self._waiting or self._next()
            self._waiting = None
            if packet is None:
                return
            if packet.stream.type == "video" and packet.size:
                packet.pts = packet.dts = 0  # a cover picture, which has no time of its own
                self._write(packet)
                continue
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is None:
                continue  # the empty packets that PyAV ends with
            time = stamp * packet.time_base
            if limit is not None and time >= limit:
                if cut:
                    continue
                self._waiting = packet
                return
            if self._move(packet):
                self._write(packet)

    def _next(self) -> Packet[Stream] | None:
        try:
            return next(self._packets, None) if self._packets is not None else None
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"{self._source} is damaged or cut off: its sound and subtitles could not be "
                f"copied to the end ({getattr(error, 'strerror', None) or error})."
            ) from None

    def _move(self, packet: Packet[Stream]) -> bool:
        """Shift a packet into the trimmed time; False where it is before it."""
        if self._begin is None:
            return True
        unit = packet.time_base
        stamp = packet.pts if packet.pts is not None else packet.dts
        first = math.ceil(self._begin / unit)
        if stamp is None:
            return False
        if stamp < first:
            over = stamp + (packet.duration or 0) - first
            if packet.stream.type != "subtitle" or over <= 0:
                return False
            packet.pts = packet.dts = first
            packet.duration = over
        moved = round(self._shift / unit)
        packet.pts = None if packet.pts is None else packet.pts - moved
        packet.dts = None if packet.dts is None else packet.dts - moved
        return True

    def _write(self, packet: Packet[Stream]) -> None:
        index = packet.stream.index
        target = self._targets[index]
        if index in self._converted:
            converted = _convert(packet, cast("SubtitleStream", target))
            if converted is None:
                return
            packet = converted
        packet.stream = target
        self._output.mux_one(packet)


def _convert(packet: Packet[Stream], target: SubtitleStream) -> Packet[Stream] | None:
    source = cast("SubtitleStream", packet.stream)
    try:
        subtitle = source.codec_context.decode2(cast("Packet[SubtitleStream]", packet))
        if subtitle is None or not len(subtitle):
            return None
        encoded = target.codec_context.encode_subtitle(subtitle)
    except av.FFmpegError as error:
        raise InputError(f"A subtitle could not be converted ({error.strerror}).") from None
    encoded.time_base = packet.time_base
    encoded.pts, encoded.dts, encoded.duration = packet.pts, packet.dts, packet.duration
    return cast("Packet[Stream]", encoded)


def _codec_name(stream: Stream) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "unknown codec"


def _fits(stream: Stream, muxer: str) -> bool:
    """Whether the container takes a copy of the stream: tried with a header in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer, **tag_options()) as trial:
            target = trial.add_stream_from_template(stream, opaque=True)
            describe_alike(target, stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True
