"""From files to files: images and videos, one after another, none spoiling the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ramedge.errors import InputError, RamedgeError, UnexpectedError, UsageError
from ramedge.failures import as_failure
from ramedge.files import check_writable
from ramedge.jobs.output_paths import Existing, Job, expand, plan
from ramedge.jobs.pictures import upscale_to_file
from ramedge.jobs.threaded_pipeline import overlap_many
from ramedge.media.images import DEFAULT_MAX_PIXELS, read_image
from ramedge.media.pixels import Pixels
from ramedge.media.video import EncodingSettings, Frame, VideoReader, VideoWriter
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class UpscaleSettings:
    """How files are upscaled.

    Attributes:
        output: a file, or a folder; `None` writes beside each input.
        tiling: tiles, where their attention comes from, and memory.
        ensemble: the mean over 8 flips and turns of each frame, see
            `ramedge.upscaling.self_ensemble`.
        existing: what happens to outputs that exist.
        encoding: codec and its options, for videos.
        start_seconds: where to start in a video.
        frames: how many frames of it, all where `None`.
        keep_going: keep what was decoded before a video broke off.
        max_pixels: largest image that is opened, in source pixels.
    """

    output: Path | None = None
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tiling: TilingOptions = field(default_factory=TilingOptions)
    ensemble: bool = False
    existing: Existing = "refuse"
    encoding: EncodingSettings = field(default_factory=EncodingSettings)
    start_seconds: float | None = None
    frames: int | None = None
    keep_going: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if self.start_seconds is not None and self.start_seconds < 0:
            raise UsageError("--start must not be negative.")
        if self.frames is not None and self.frames < 1:
            raise UsageError("--frames must be at least 1.")
        if self.max_pixels < 1:
            raise UsageError("--max-megapixels must be a positive number.")


@dataclass(slots=True)
class FileResult:
    """What became of one input.

    Attributes:
        frames: pictures upscaled, 1 for an image.
        seconds: from opening the input to the finished output.
        model_seconds: of these, in the network.
        ensemble: whether it is the mean over 8 flips and turns.
        notes: fallbacks and conversions, one line each.
        error: why it failed, in one line.
        unexpected: whether that was a bug; `error` then names the log file.
    """

    source: Path
    target: Path | None
    status: Status = "done"
    frames: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    ensemble: bool = False
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    unexpected: bool = False

    def fail(self, error: RamedgeError) -> None:
        """Record a failure."""
        self.status = "failed"
        self.error = str(error)
        self.unexpected = isinstance(error, UnexpectedError)


@dataclass(slots=True)
class UpscaleObserver:
    """What a caller may be told while files are upscaled.

    Attributes:
        on_model: the line that says what runs, and why; fallbacks taken for all files.
        on_start: a file begins; number of frames where known.
        on_frame: frames of the current file done.
        on_estimate: the tiles of a frame are chosen: what they are, and what they will take; the
            network is run for that, so `None` asks for no estimate.
        on_tile: tiles of the current frame done, and how many there are.
        on_result: a file is finished, skipped or failed.
    """

    on_model: Callable[[str, tuple[str, ...]], None] = lambda _why, _notes: None
    on_start: Callable[[Job, int | None], None] = lambda _job, _frames: None
    on_frame: Callable[[int], None] = lambda _done: None
    on_estimate: Callable[[str], None] | None = None
    on_tile: Callable[[int, int], None] = lambda _done, _total: None
    on_result: Callable[[FileResult], None] = lambda _result: None


def upscale_files(
    inputs: Sequence[str],
    settings: UpscaleSettings | None = None,
    observer: UpscaleObserver | None = None,
) -> list[FileResult]:
    """Upscale images and videos, folders and globs of them.

    A file that fails, is not there or meets a bug is recorded in its result and the others go on;
    outputs appear under their names complete or not at all.

    Raises:
        UsageError: the outputs clash with one another, the inputs or existing files.
        RamedgeError: the model cannot be opened, see `open_model`.
    """
    settings = settings or UpscaleSettings()
    observer = observer or UpscaleObserver()
    with Upscaler(settings.runtime, settings.tiling, settings.ensemble) as upscaler:
        made_by = f"_{upscaler.model.network}_x{upscaler.scale}"
        sources, failures = expand([inputs] if isinstance(inputs, str) else inputs, made_by)
        jobs, skipped = plan(sources, settings.output, made_by, settings.existing)
        observer.on_model(upscaler.reason, upscaler.model.runtime.notes)
        upscaler.observe(observer.on_tile, observer.on_estimate)
        results = [FileResult(source, None, status="skipped") for source in skipped]
        for text, failure in failures.items():
            results.append(FileResult(Path(text), None))
            results[-1].fail(failure)
        for result in results:
            observer.on_result(result)
        for job in jobs:
            result = _upscale_file(job, upscaler, settings, observer)
            results.append(result)
            observer.on_result(result)
    return results


def _upscale_file(
    job: Job, upscaler: Upscaler, settings: UpscaleSettings, observer: UpscaleObserver
) -> FileResult:
    result = FileResult(job.source, job.target, ensemble=upscaler.ensemble)
    started, model_started = time.perf_counter(), upscaler.timing.seconds
    upscaler.start_file()
    try:
        check_writable(job.target)
        if job.is_image:
            _upscale_image(job, upscaler, settings, observer, result)
        else:
            _upscale_video(job, upscaler, settings, observer, result)
    except MemoryError:
        result.fail(
            InputError(
                f"Not enough memory for {job.source}, in the smallest tiles either: close other "
                "programs, or use a smaller --scale."
            )
        )
    except Exception as error:
        result.fail(as_failure(error, f"upscaling {job.source}"))
    result.notes = [*upscaler.notes, *result.notes]
    result.seconds = time.perf_counter() - started
    result.model_seconds = upscaler.timing.seconds - model_started
    return result


def _upscale_image(
    job: Job,
    upscaler: Upscaler,
    settings: UpscaleSettings,
    observer: UpscaleObserver,
    result: FileResult,
) -> None:
    observer.on_start(job, 1)
    picture = read_image(job.source, settings.max_pixels)
    result.notes += picture.notes
    if settings.start_seconds is not None or settings.frames is not None:
        result.notes.append("An image: --start and --frames are for videos.")
    result.notes += upscale_to_file(picture, upscaler, job.target)
    result.frames = 1
    observer.on_frame(1)


def _upscale_video(
    job: Job,
    upscaler: Upscaler,
    settings: UpscaleSettings,
    observer: UpscaleObserver,
    result: FileResult,
) -> None:
    with (
        VideoReader(
            job.source, settings.start_seconds, settings.frames, settings.keep_going
        ) as reader,
        VideoWriter(job.target, reader, upscaler.scale, settings.encoding) as writer,
    ):
        observer.on_start(job, _expected_frames(reader, settings))
        result.notes += reader.info.notes
        # What the writer takes over is known only when it has finished.
        notes_before = len(result.notes)

        def write(frame: Frame, pixels: Pixels) -> None:
            writer.write(frame, pixels)
            result.frames += 1
            observer.on_frame(result.frames)

        try:
            overlap_many(
                reader,
                lambda frames: upscaler.upscale_many(frame.pixels for frame in frames),
                write,
            )
        except InputError as error:
            if not settings.keep_going or result.frames == 0:
                raise
            result.fail(InputError(f"{error} Kept the {result.frames} frames before."))
        writer.finish(settings.keep_going)
        result.notes[notes_before:] = [*reader.doubts, *writer.notes]


def _expected_frames(reader: VideoReader, settings: UpscaleSettings) -> int | None:
    estimate = reader.info.frame_count_estimate
    if settings.frames is not None:
        return settings.frames if estimate is None else min(settings.frames, estimate)
    return estimate if settings.start_seconds is None else None
