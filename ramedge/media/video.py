"""Video files: read them as RGB frames, and write them back with all that they held."""

from __future__ import annotations

from ramedge.media.color import Color
from ramedge.media.video_encoding import EncodingSettings, output_suffix
from ramedge.media.video_reader import Frame, VideoInfo, VideoReader
from ramedge.media.video_writer import VideoWriter

__all__ = [
    "VIDEO_SUFFIXES",
    "Color",
    "EncodingSettings",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "output_suffix",
]

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv"}
    | {".flv", ".3gp", ".ogv", ".mxf"}
)
"""Names of files that are videos."""
