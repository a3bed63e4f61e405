"""The pictures that INT8 ranges are measured on: real, and none that quality is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.calibration.benchmarks import benchmark_name, pixel_digest
from ramedge.errors import InputError, UsageError
from ramedge.media.images import read_image
from ramedge.media.video import VIDEO_SUFFIXES, VideoReader
from ramedge.quality.photos import PHOTO_SUFFIXES, find_photos

Pixels8 = NDArray[np.uint8]

CONSTANT_LEVELS = 2.0
"""A picture whose standard deviation is below this many levels of 255 shows nothing."""
SHOT_CHANGE = 24.0
"""Mean difference of two thumbnails, in levels of 255, that starts a new shot."""
LEAST_SIDE = 16
"""Pixels that a picture has at least, each way."""
_THUMBNAIL = 32
_LIST_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Where calibration pictures come from.

    Attributes:
        sources: folders of photos, photos, videos, and lists (`.txt`, one path a line).
        frames: how many pictures to take, spread evenly over what there is.
        side: pictures are cropped to this many pixels a side, as the engine will see them.
        minimum: fewer pictures than this are refused.

    Raises:
        UsageError: no source, or a number out of range.
    """

    sources: tuple[Path, ...]
    frames: int = 48
    side: int = 384
    minimum: int = 16

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("INT8 needs pictures to calibrate on: --calibration DIR.")
        if self.frames < self.minimum or self.minimum < 1:
            raise UsageError(
                f"Calibration takes at least {self.minimum} pictures: raise --calibration-frames."
            )
        if self.side < LEAST_SIDE:
            raise UsageError(f"Calibration takes pictures of at least {LEAST_SIDE} pixels a side.")


@dataclass(frozen=True, slots=True)
class CalibrationFrame:
    """One picture: `pixels` `[H, W, 3]` uint8, where it came from, SHA-256 of its pixels."""

    name: str
    pixels: Pixels8
    digest: str

    @property
    def image(self) -> NDArray[np.float32]:
        """As the network takes it: `[1, 3, H, W]` float32 in [0, 1]."""
        planar: NDArray[np.float32] = self.pixels.transpose(2, 0, 1)[None].astype(np.float32)
        planar *= np.float32(1 / 255)
        return planar

    def cropped(self, side: int) -> CalibrationFrame:
        """Its middle, at most `side` pixels high and wide."""
        height, width = self.pixels.shape[:2]
        top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
        pixels = np.ascontiguousarray(self.pixels[top : top + side, left : left + side])
        return CalibrationFrame(self.name, pixels, self.digest)


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The pictures of a calibration."""

    frames: tuple[CalibrationFrame, ...]
    side: int

    @property
    def digest(self) -> str:
        """SHA-256 over the pictures' own."""
        return hashlib.sha256("".join(frame.digest for frame in self.frames).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "digest": self.digest,
            "side": self.side,
            "frames": [{"name": frame.name, "sha256": frame.digest} for frame in self.frames],
        }


def collect_frames(settings: CalibrationSettings) -> CalibrationSet:
    """Gather pictures, spread evenly over the sources' photos and the videos' shots.

    The same sources give the same pictures, and none of them twice.

    Raises:
        InputError: a source cannot be read, is too small, constant or a benchmark image, or there
            are too few pictures.
    """
    photos: list[Path] = []
    videos: list[Path] = []
    for source in settings.sources:
        found = _find(source)
        photos += [path for path in found if path.suffix.lower() not in VIDEO_SUFFIXES]
        videos += [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    # Photos and each video have equal shares; what one side cannot fill the other may.
    share = settings.frames // (1 + len(videos))
    from_videos = settings.frames - min(len(photos), share)
    clips: list[CalibrationFrame] = []
    for index, path in enumerate(videos):
        clips += _video_frames(path, (from_videos - len(clips)) // (len(videos) - index))
    clips = _distinct(clips)
    frames = _distinct([*_photos(photos, settings.frames - len(clips)), *clips])
    if len(frames) < settings.minimum:
        raise InputError(
            f"{len(frames)} different pictures are too few to calibrate on, at least "
            f"{settings.minimum} are needed: add photos or a longer video to --calibration."
        )
    cropped = tuple(frame.cropped(settings.side) for frame in frames)
    return CalibrationSet(frames=cropped, side=settings.side)


def _find(source: Path) -> list[Path]:
    if source.is_dir():
        videos = sorted(p for p in source.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        try:
            return find_photos(source) + videos
        except InputError:
            if videos:
                return videos
            raise
    if not source.is_file():
        raise InputError(f"No such calibration source: {source}.")
    if source.suffix.lower() == _LIST_SUFFIX:
        return list(_listed(source))
    if source.suffix.lower() in PHOTO_SUFFIXES | VIDEO_SUFFIXES:
        return [source]
    raise InputError(f"{source} is neither a photo, a video, a folder nor a .txt list of them.")


def _listed(source: Path) -> Iterator[Path]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the list {source}: {error}.") from None
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith("#"):
            path = source.parent / line
            if path.suffix.lower() == _LIST_SUFFIX:
                raise InputError(f"{source} names another list, {line}: name its pictures.")
            try:
                yield from _find(path)
            except InputError as failure:
                raise InputError(f"{source}, line {number}: {failure}") from None


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    if len(paths) <= count:
        return list(paths)
    return [paths[index * len(paths) // count] for index in range(count)]


def _photos(paths: Sequence[Path], count: int) -> list[CalibrationFrame]:
    """`count` different photos spread evenly; others take the place of those that came before."""
    chosen = _spread(paths, count)
    found: dict[str, CalibrationFrame] = {}
    for path in dict.fromkeys([*chosen, *paths]):
        if len(found) == count:
            break
        frame = _photo(path)
        found.setdefault(frame.digest, frame)
    return list(found.values())


def _distinct(frames: Sequence[CalibrationFrame]) -> list[CalibrationFrame]:
    return list({frame.digest: frame for frame in frames}.values())


def _photo(path: Path) -> CalibrationFrame:
    pixels = _eight_bits(read_image(path).color)
    if min(pixels.shape[:2]) < LEAST_SIDE:
        raise InputError(
            f"{path} is smaller than {LEAST_SIDE} pixels: remove it or give a larger one."
        )
    known = benchmark_name(pixels)
    if known is not None:
        raise InputError(
            f"{path} is {known}, a benchmark image: quality measured on what was calibrated on "
            "proves nothing. Use other photos."
        )
    if _is_constant(pixels):
        raise InputError(f"{path} shows nothing: a constant picture calibrates nothing.")
    return CalibrationFrame(path.name, pixels, pixel_digest(pixels))


def _video_frames(path: Path, count: int) -> list[CalibrationFrame]:
    """`count` frames of a video: the shots take turns, each evenly from its length."""
    shots = _shots(path)
    wanted: dict[int, None] = {}
    turn = 0
    while len(wanted) < min(count, sum(len(shot) for shot in shots)):
        for shot in shots:
            if turn < len(shot) and len(wanted) < count:
                # Bit reversal of the turn: the middle first, then the quarters, and so on.
                wanted[shot[int(_radical_inverse(turn + 1) * len(shot))]] = None
        turn += 1
        if turn > max(len(shot) for shot in shots):
            break
    frames = []
    with VideoReader(path) as reader:
        for frame in reader:
            if frame.index in wanted:
                pixels = _eight_bits(frame.pixels)
                name = f"{path.name}#{frame.index}"
                frames.append(CalibrationFrame(name, pixels, pixel_digest(pixels)))
    return frames


def _shots(path: Path) -> list[list[int]]:
    """Indices of the frames of each shot, without frames that show nothing."""
    shots: list[list[int]] = []
    before: NDArray[np.float32] | None = None
    with VideoReader(path) as reader:
        for frame in reader:
            pixels = _eight_bits(frame.pixels)
            thumbnail = np.asarray(
                Image.fromarray(pixels).convert("L").resize((_THUMBNAIL, _THUMBNAIL)),
                dtype=np.float32,
            )
            if before is None or np.abs(thumbnail - before).mean() > SHOT_CHANGE:
                shots.append([])
            before = thumbnail
            if not _is_constant(pixels):
                shots[-1].append(frame.index)
    shots = [shot for shot in shots if shot]
    if not shots:
        raise InputError(f"{path} shows nothing: a constant video calibrates nothing.")
    return shots


def _radical_inverse(number: int) -> float:
    """Van der Corput's sequence in base 2, which begins 1/2, 1/4, 3/4, 1/8."""
    value, weight = 0.0, 0.5
    while number:
        value += weight * (number & 1)
        number, weight = number >> 1, weight / 2
    return value


def _eight_bits(pixels: NDArray[Any]) -> Pixels8:
    eight: Pixels8 = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    return eight


def _is_constant(pixels: Pixels8) -> bool:
    return float(pixels.std(axis=(0, 1)).max()) < CONSTANT_LEVELS
