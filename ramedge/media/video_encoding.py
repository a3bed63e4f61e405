"""Choosing and opening the encoder of a video."""

from __future__ import annotations

import difflib
import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.format import VideoFormat

from ramedge.errors import UsageError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from ramedge.media.color import Color
    from ramedge.media.video_reader import VideoInfo

CONTAINERS: Final = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Suffixes that can be written, with FFmpeg's names of their muxers."""

_DEFAULT_OPTIONS: Final = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libx265": {"crf": "18", "preset": "medium"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "2", "row-mt": "1"},
    "libsvtav1": {"crf": "24", "preset": "6"},
}
_RATE_OPTIONS: Final = frozenset({"b", "qp", "crf", "cqp", "lossless", "global_quality"})
_USUAL_CODECS: Final = "libx264, libx265, libvpx-vp9, libsvtav1, ffv1, prores_ks"


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """How the video stream is encoded; None leaves the choice to ramedge.

    `codec`: FFmpeg's encoder name. `options`: encoder options as (key, value).
    `pixel_format`: FFmpeg's name.
    """

    codec: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    pixel_format: str | None = None


@dataclass(frozen=True, slots=True)
class OpenEncoder:
    """An encoder ready for frames of `pixel_format`, whose numbers mean `color`."""

    stream: VideoStream
    pixel_format: str
    color: Color
    notes: tuple[str, ...]


def muxer_for(output: Path) -> str:
    """FFmpeg's muxer name for a file's suffix.

    Raises:
        UsageError: the suffix is not one that can be written.
    """
    muxer = CONTAINERS.get(output.suffix.lower())
    if muxer is None:
        raise UsageError(
            f"{output.name}: the suffix must be one of {' '.join(CONTAINERS)} for a video."
        )
    return muxer


def output_suffix(source: Path) -> str:
    """The suffix for an output beside `source`: its own, or `.mkv`, which can hold the most."""
    suffix = source.suffix.lower()
    return suffix if suffix in CONTAINERS else ".mkv"


def open_encoder(
    container: OutputContainer, info: VideoInfo, scale: int, settings: EncodingSettings
) -> OpenEncoder:
    """Add the video stream to `container` and open its encoder.

    Raises:
        UsageError: the codec, its options, the pixel format and the container do not fit.
    """
    muxer = container.format.name
    codec = _find_codec(settings.codec or _default_codec(info, muxer))
    width, height = info.width * scale, info.height * scale
    pixel_format, notes = _pixel_format(codec, info, width, height, settings.pixel_format)
    stored = VideoFormat(pixel_format, width, height)
    color = info.color.for_format(stored, info.height)
    try:
        stream = container.add_stream(codec.name, rate=info.average_rate)
    except ValueError:
        raise UsageError(f"The codec {codec.name} does not fit into .{muxer}: use .mkv.") from None
    stream = cast("VideoStream", stream)
    context = stream.codec_context
    context.width, context.height = width, height
    context.pix_fmt = pixel_format
    context.time_base = info.time_base
    stream.time_base = info.time_base
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.colorspace, context.color_range = color.matrix, color.range
    context.color_primaries, context.color_trc = color.primaries, color.transfer
    context.thread_type = "AUTO"
    if codec.canonical_name == "hevc" and muxer in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # what Apple's players ask for
    context.options, more = _options(codec.name, info, settings)
    if codec.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # it writes to stderr past FFmpeg's logging
    _open(stream, settings)
    chosen = settings.codec is None or settings.pixel_format is None
    if chosen:
        notes = (f"encoded with {codec.name}, {pixel_format}", *notes)
    return OpenEncoder(stream, pixel_format, color, notes + more)


def _open(stream: VideoStream, settings: EncodingSettings) -> None:
    context = stream.codec_context
    wanted = dict(settings.options)
    # Read before opening: a context that could not be opened has no codec, and PyAV 19 ends the
    # process when it is asked for its name.
    name = context.name
    size = f"{context.pix_fmt} at {context.width}x{context.height}"
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        asked = f" with {' '.join(f'{k}={v}' for k, v in wanted.items())}" if wanted else ""
        raise UsageError(
            f"The encoder {name} does not take {size}{asked} "
            f"({getattr(error, 'strerror', None) or error}): choose other -c, -e or --pix-fmt."
        ) from None
    if unknown := sorted(set(context.options) & set(wanted)):
        raise UsageError(
            f"The encoder {name} has no option {', '.join(unknown)}; "
            f"see `ffmpeg -h encoder={name}`."
        )


def _default_codec(info: VideoInfo, muxer: str) -> str:
    deep = info.bit_depth > 8
    if muxer == "webm":
        wanted = "libsvtav1" if deep else "libvpx-vp9"
    else:
        wanted = "libx265" if deep else "libx264"
    if wanted not in av.codecs_available and wanted == "libx265":
        return "libx264"
    return wanted


def _find_codec(name: str) -> Codec:
    try:
        codec = Codec(name, "w")
    except (UnknownCodecError, ValueError):
        codec = None
    if codec is None or codec.type != "video":
        close = ", ".join(difflib.get_close_matches(name, av.codecs_available, 3, 0.5))
        hint = f"did you mean {close}?" if close else f"the usual ones are {_USUAL_CODECS}."
        raise UsageError(f"{name} is not a video encoder here: {hint}")
    return codec


def _options(
    codec: str, info: VideoInfo, settings: EncodingSettings
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The encoder's options: ours where the user gave none that say the same."""
    given = dict(settings.options)
    options = dict(_DEFAULT_OPTIONS.get(codec, {}))
    if _RATE_OPTIONS & given.keys():
        options.pop("crf", None)
    options.update(given)
    hdr = _hdr_parameters(info)
    if codec != "libx265":
        note = "the HDR mastering data in the source is not kept: only libx265 takes it"
        return options, (note,) if hdr else ()
    parameters = ["log-level=error", *hdr]
    if "x265-params" in given:
        parameters.append(given["x265-params"])
    options["x265-params"] = ":".join(parameters)
    return options, ()


def _hdr_parameters(info: VideoInfo) -> list[str]:
    """x265's parameters for HDR10 static metadata, from FFmpeg's structs."""
    parameters: list[str] = []
    if info.mastering is not None and len(info.mastering) >= 88:
        values = struct.unpack_from("=22i", info.mastering)
        pairs = zip(values[0:20:2], values[1:20:2], strict=True)
        ratios = [Fraction(top, bottom or 1) for top, bottom in pairs]
        has_primaries, has_luminance = values[20:22]
        if has_primaries and has_luminance:
            # x265 wants green, blue, red, white in 1/50000 and luminance in 1/10000 cd/m².
            red, green, blue, white = (
                f"({round(ratios[i] * 50000)},{round(ratios[i + 1] * 50000)})" for i in (0, 2, 4, 6)
            )
            low, high = round(ratios[8] * 10000), round(ratios[9] * 10000)
            parameters.append(f"master-display=G{green}B{blue}R{red}WP{white}L({high},{low})")
    if info.light_level is not None and len(info.light_level) >= 8:
        peak, average = struct.unpack_from("=2I", info.light_level)
        parameters.append(f"max-cll={peak},{average}")
    return parameters


def _pixel_format(
    codec: Codec, info: VideoInfo, width: int, height: int, wanted: str | None
) -> tuple[str, tuple[str, ...]]:
    supported = [video_format.name for video_format in codec.video_formats or ()]
    if wanted is not None:
        try:
            VideoFormat(wanted, width, height)
        except ValueError:
            raise UsageError(f"{wanted} is not a pixel format.") from None
        if supported and wanted not in supported:
            raise UsageError(
                f"The encoder {codec.name} has no pixel format {wanted}: "
                f"choose one of {', '.join(supported)}."
            )
        return wanted, ()
    source = VideoFormat(info.pixel_format, 64, 64)
    grid = (source.chroma_width(64), source.chroma_height(64))
    chroma = {(32, 32): "420", (32, 64): "422", (64, 64): "444"}.get(grid, "444")
    if len(source.components) < 3 and not source.is_rgb and not source.has_palette:
        chroma = "420"  # grey: players take 4:2:0 everywhere
    notes: tuple[str, ...] = ()
    if source.is_rgb or source.has_palette:
        chroma, notes = "444", ("RGB video is stored as YUV 4:4:4",)
    elif (chroma != "444" and width % 2) or (chroma == "420" and height % 2):
        notes = (f"stored as 4:4:4: {chroma} cannot hold the odd size {width}x{height}",)
        chroma = "444"
    for depth in ("10le", "12le", "") if info.bit_depth > 8 else ("", "10le"):
        for kind in dict.fromkeys((chroma, "444", "422", "420")):
            name = f"yuv{kind}p{depth}"
            if name in supported or not supported:
                kept = min(info.bit_depth, 8 if not depth else int(depth[:2]))
                if kind < chroma:
                    notes += (f"{codec.name} has no 4:{chroma[1]}:{chroma[2]}: stored as {name}",)
                if kept < info.bit_depth:
                    notes += (f"{info.bit_depth} bits are stored as {kept}",)
                return name, notes
    return (supported[0] if supported else "yuv420p"), notes
