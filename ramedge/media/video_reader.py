"""Reading a local video file: every frame as upright RGB with its exact timestamp."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from ramedge.errors import InputError, UsageError
from ramedge.media.color import Color, ColorConverter, resolve_color
from ramedge.media.pyav import tag_options

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.video.stream import VideoStream

    from ramedge.media.pixels import Pixels

# Only demuxers of single files: a playlist (hls, concat, dash, image2, sdp, ...) opens others.
_DEMUXERS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,apng,ivf,nut,mxf,"
    "gxf,rm,dv,h264,hevc,vvc,av1,obu,m4v,mjpeg,yuv4mpegpipe,wtv,amv,nsv,swf,vc1,dirac,webp_anim"
)
_URL: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
# Matroska keeps no frame counts: an end this early is a cut file, not a rounding. Where less is
# missing, but more than two frames, the user is told.
_EARLY_END_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    `pixels`: upright RGB `[H, W, 3]`, C-contiguous, uint8 0–255 (8-bit sources) or uint16
    0–65535. `pts` and `duration` (None: unknown) are in the stream's time base. `index`
    counts the frames that this reader gave, from 0.
    """

    pixels: Pixels
    pts: int
    duration: int | None
    index: int


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    `width` and `height` are of the upright picture, in pixels. `rotation`: degrees
    counter-clockwise by which the reader turned the stored picture. `bit_depth`: of the
    source; frames are uint8 where it is 8. `average_rate`: frames per second.
    `frame_count_estimate`: frames of the whole file. `mastering` and `light_level`: raw HDR
    side data of FFmpeg's structs. `notes`: what the user should hear.
    """

    path: Path
    width: int
    height: int
    pixel_format: str
    bit_depth: int
    color: Color
    sample_aspect_ratio: Fraction
    rotation: int
    average_rate: Fraction
    time_base: Fraction
    duration_seconds: float | None
    frame_count_estimate: int | None
    stream_index: int
    mastering: bytes | None
    light_level: bytes | None
    notes: tuple[str, ...]


def open_input(path: Path) -> InputContainer:
    """Open a local media file, through the `file` protocol only and never as a playlist.

    Raises:
        InputError: it is missing, empty, not a media file, or a playlist.
    """
    if not path.is_file():
        if _URL.match(str(path)) and not path.drive:
            raise InputError(f"{path} is not a local file: download it first.")
        if path.exists():
            raise InputError(f"{path} is not a regular file.")
        raise InputError(f"{path} does not exist.")
    options = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty.")
        opened: InputContainer = av.open(
            f"file:{path.resolve()}", "r", container_options=options, **tag_options()
        )
        return opened
    except PermissionError:
        raise InputError(f"{path} may not be read: check its permissions.") from None
    except (av.FFmpegError, ValueError, OSError) as error:
        raise InputError(
            f"{path} is not a readable video file ({_reason(error)}): it is damaged, cut off, "
            "a playlist, or of a kind that is not supported."
        ) from None


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first real video stream: attached pictures are none.

    Raises:
        InputError: there is none, or no decoder for it.
    """
    for stream in container.streams.video:
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
            if stream.codec_context is None:
                raise InputError(f"{path} is of a video codec that no decoder here can read.")
            return stream
    raise InputError(f"{path} has no video stream.")


class VideoReader:
    """Reads one video. A context manager; every iteration starts from the beginning.

    Args:
        path: a local file.
        start_seconds: begin at the first frame that is not before this time, in seconds from
            the first frame of the video.
        frames: give at most this number of frames.
        keep_going: go on after damaged frames, and raise only at the end.

    Raises:
        InputError: see `open_input`; or no frame can be decoded.
        UsageError: `start_seconds` or `frames` is out of range.
    """

    def __init__(
        self,
        path: Path | str,
        start_seconds: float | None = None,
        frames: int | None = None,
        keep_going: bool = False,
    ) -> None:
        if start_seconds is not None and not (math.isfinite(start_seconds) and start_seconds >= 0):
            raise UsageError(f"The start must be 0 seconds or later, not {start_seconds}.")
        if frames is not None and frames < 1:
            raise UsageError(f"The number of frames must be 1 or more, not {frames}.")
        self.path = Path(path)
        self.start_seconds = start_seconds
        self.frames = frames
        self._keep_going = keep_going
        self._closed = False
        self.info = _probe(self.path)
        self.doubts: list[str] = []
        """What the last frame told that no error was raised for, one line each."""

    @property
    def trimmed(self) -> bool:
        """Whether only a part of the video was asked for."""
        return self.start_seconds is not None or self.frames is not None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Only a flag: the iteration may be in another thread and closes its own file.
        self._closed = True

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames in order.

        Raises:
            InputError: after the last frame that could be decoded: the file is damaged or
                ends short of what its header promises, or its picture changes size.
            UsageError: the start is past the end of the video.
        """
        progress = _Progress()
        self.doubts.clear()
        with open_input(self.path) as container:
            stream = find_video_stream(container, self.path)
            # Read before decoding, which may set it again: FFmpeg takes the pts of a later frame
            # for it where few frames were seen at opening.
            progress.start = stream.start_time or 0
            first = self._seek(container, stream)
            for decoded in _decode(container, stream, progress, self._keep_going):
                if self._closed:
                    return
                pts = progress.place(decoded)
                if first is not None and pts < first:
                    continue
                yield self._frame(decoded, pts, progress)
                if progress.given == self.frames:
                    return
            self._check_end(stream, progress)

    def _seek(self, container: InputContainer, stream: VideoStream) -> int | None:
        """Go near the start; the pts from which frames count, or None from the beginning."""
        if self.start_seconds is None or stream.time_base is None:
            return None
        first = math.ceil(Fraction(self.start_seconds) / stream.time_base - Fraction(1, 1000))
        first += stream.start_time or 0
        with contextlib.suppress(av.FFmpegError):  # not seekable: decode from the beginning
            container.seek(first, stream=stream)
        return first

    def _frame(self, decoded: av.VideoFrame, pts: int, progress: _Progress) -> Frame:
        info = self.info
        deep = info.bit_depth > 8
        pixels = turn_upright(progress.converter.to_rgb(decoded, info.color, deep), decoded)
        if pixels.shape[:2] != (info.height, info.width):
            raise InputError(
                f"{self.path} changes its picture size from {info.width}x{info.height} to "
                f"{pixels.shape[1]}x{pixels.shape[0]} at frame {progress.given}: split it there."
            )
        frame = Frame(pixels, pts, decoded.duration or None, progress.given)
        progress.given += 1
        return frame

    def _check_end(self, stream: VideoStream, progress: _Progress) -> None:
        """Compare what was decoded up to the end of the file with what its header promises."""
        if progress.damaged:
            raise InputError(
                f"{self.path} is damaged: {progress.damaged} places could not be decoded "
                f"cleanly, {progress.given} frames could."
            )
        if not progress.given:
            if self.start_seconds is not None:
                raise UsageError(
                    f"The start, {self.start_seconds:g} s, is past the end of {self.path}."
                )
            raise InputError(f"{self.path} has no frame that can be decoded.")
        if self.start_seconds is not None:
            return
        end = (progress.end - progress.start) * self.info.time_base
        promised, count = _promised_end(stream, progress.start), stream.frames
        two_frames = 2 / float(self.info.average_rate)
        missing = _missing_of_file(self.path) if promised is None else promised - float(end)
        # A count alone may be more than there is to see: edit lists hide frames.
        short = missing > (two_frames if count else _EARLY_END_SECONDS)
        if promised is not None and short and (not count or progress.given < count):
            of = f" of {count}" if count else ""
            raise InputError(
                f"{self.path} is cut off: {progress.given} frames{of} ({float(end):.2f} of "
                f"{promised:.2f} s) can be decoded. Get a complete copy."
            )
        if missing > two_frames and not count:
            self.doubts.append(
                f"It may be cut off: it ends {missing:.2f} s before what its header says, after "
                f"{progress.given} frames."
            )


@dataclass(slots=True)
class _Progress:
    """What one pass over the file has seen so far."""

    converter: ColorConverter = field(default_factory=ColorConverter)
    given: int = 0
    damaged: int = 0
    start: int = 0
    end: int = 0
    _last: int | None = None

    def place(self, frame: av.VideoFrame) -> int:
        """The frame's pts; where it has none or an old one, the end of the frame before."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = self.end
        if self._last is not None and pts <= self._last:
            pts = max(self._last + 1, self.end)
        self._last = pts
        self.end = pts + max(frame.duration or 0, 1)
        return pts


def _decode(
    container: InputContainer, stream: VideoStream, progress: _Progress, keep_going: bool
) -> Iterator[av.VideoFrame]:
    """Decoded frames up to the end, or up to the first damage (then InputError).

    What cannot be decoded before the first clean frame is skipped: recordings begin anywhere.
    """
    stream.thread_type = "AUTO"
    clean = False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            yield from _drain(stream)
            raise InputError(_stopped(container, error)) from None
        if packet is None:
            return
        failure = ""
        frames: list[av.VideoFrame] = []
        try:
            if packet.is_corrupt and clean:
                failure = "a packet is cut off"
            frames = packet.decode()
        except av.EOFError:
            pass
        except (av.FFmpegError, OSError) as error:
            failure = _reason(error) if clean else ""
        for frame in frames:
            if frame.is_corrupt and clean:
                failure = failure or "a frame is damaged"
                if not keep_going:
                    break
            clean = clean or not frame.is_corrupt
            yield frame
        if failure:
            progress.damaged += 1
            if not keep_going:
                yield from _drain(stream)
                raise InputError(_stopped(container, failure))


def _drain(stream: VideoStream) -> Iterator[av.VideoFrame]:
    """The clean frames that the decoder still holds."""
    with contextlib.suppress(av.FFmpegError, OSError):
        for frame in stream.decode(None):
            if frame.is_corrupt:
                return
            yield frame


def _stopped(container: InputContainer, reason: str | BaseException) -> str:
    text = reason if isinstance(reason, str) else _reason(reason)
    path = container.name.removeprefix("file:")
    return (
        f"{path} is damaged or cut off: decoding stopped early ({text}). Get a complete copy, or "
        "keep what there is with --keep-going."
    )


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _promised_end(stream: VideoStream, start_pts: int) -> float | None:
    """Where the header says that the video stream ends, in seconds after its start."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), "")
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag):
        hours, minutes, seconds = match.groups()
        start = float(start_pts * (stream.time_base or 0))
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start
    return None


def _missing_of_file(path: Path) -> float:
    """Seconds by which Matroska without durations of its streams ends before the file's own.

    Other containers estimate that duration, and a video may rightly end before its sound.

    Raises:
        InputError: it is more than rounding.
    """
    with open_input(path) as container:
        if container.duration is None or not container.format.name.startswith("matroska"):
            return 0.0
        end = 0.0
        with contextlib.suppress(av.FFmpegError, OSError):
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    last = (packet.pts + (packet.duration or 0)) * packet.time_base
                    end = max(end, float(last))
        promised: float = (container.duration + (container.start_time or 0)) / 1_000_000
    if end < promised - _EARLY_END_SECONDS:
        raise InputError(
            f"{path} is cut off: it holds {end:.2f} of {promised:.2f} s. Get a complete copy, or "
            "keep what there is with --keep-going."
        )
    return promised - end


def _probe(path: Path) -> VideoInfo:
    """Learn all about a video from its header and first frame."""
    with open_input(path) as container:
        stream = find_video_stream(container, path)
        try:
            frame = next(_decode(container, stream, _Progress(), keep_going=True), None)
        except InputError:
            frame = None
        if frame is None:
            raise InputError(f"{path} has no frame that can be decoded: get a complete copy.")
        context = stream.codec_context
        color, notes = resolve_color(frame, context.color_primaries, context.color_trc)
        pixel_format = frame.format
        duration: float | None = None
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / 1_000_000
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        matrix, more = _orientation(frame)
        notes += more
        if any(component.is_alpha for component in pixel_format.components):
            notes += ("transparency is dropped",)
        if frame.interlaced_frame:
            notes += ("interlaced video is upscaled as whole frames",)
        sar = Fraction(stream.sample_aspect_ratio or 1)
        turned = matrix is not None and matrix[0] == 0
        count = stream.frames or (round(duration * rate) if duration else None)
        return VideoInfo(
            path=path,
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            pixel_format=pixel_format.name,
            bit_depth=max(8, *(component.bits for component in pixel_format.components)),
            color=color,
            sample_aspect_ratio=1 / sar if turned and sar else (sar or Fraction(1)),
            rotation=frame.rotation if matrix is not None else 0,
            average_rate=Fraction(rate),
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            duration_seconds=duration,
            frame_count_estimate=count,
            stream_index=stream.index,
            mastering=_side_data(frame, SideDataType.MASTERING_DISPLAY_METADATA),
            light_level=_side_data(frame, SideDataType.CONTENT_LIGHT_LEVEL),
            notes=notes,
        )


def _orientation(frame: av.VideoFrame) -> tuple[tuple[int, int, int, int] | None, tuple[str, ...]]:
    """The display matrix's signs (a, b, c, d) where it is a turn by 90° or a flip."""
    matrix = _display_matrix(frame)
    if matrix is None or matrix == (1, 0, 0, 1):
        return None, ()
    if sorted(map(abs, matrix)) == [0, 0, 1, 1] and abs(matrix[0]) == abs(matrix[3]):
        return matrix, ("the picture is turned upright, as its rotation mark says",)
    return None, ("the file's display matrix is neither a turn by 90° nor a flip: ignored",)


def _side_data(frame: av.VideoFrame, kind: SideDataType) -> bytes | None:
    try:
        data = cast("SideDataContainer", frame.side_data)  # PyAV's stub says otherwise
        return bytes(data[kind])
    except (KeyError, ValueError):  # ValueError: a kind newer than PyAV
        return None


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    data = _side_data(frame, SideDataType.DISPLAYMATRIX)
    if data is None:
        return None
    values = np.frombuffer(data, np.int32) / 65536
    a, b, c, d = (round(float(values[i])) for i in (0, 1, 3, 4))
    if np.abs(values[[0, 1, 3, 4]] - (a, b, c, d)).max() > 0.01:
        return (0, 0, 0, 0)
    return (a, b, c, d)


def turn_upright(pixels: Pixels, frame: av.VideoFrame) -> Pixels:
    """Apply the frame's display matrix: `[H, W, 3]` in, upright C-contiguous pixels out."""
    matrix, _ = _orientation(frame)
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    turned = pixels.transpose(1, 0, 2)[:: b or 1, :: c or 1] if a == 0 else pixels[::d, ::a]
    return cast("Pixels", np.ascontiguousarray(turned))
