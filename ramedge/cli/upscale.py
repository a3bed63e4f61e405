"""`ramedge upscale`."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.progress import Progress, TaskID

from ramedge.cli import console
from ramedge.cli.options import (
    Device,
    Ensemble,
    Json,
    Model,
    PrecisionChoice,
    PrecisionOption,
    RuntimeChoice,
    RuntimeOption,
    Scale,
    TileText,
    check_json_output,
    exit_code,
)
from ramedge.errors import UsageError
from ramedge.files import write_text
from ramedge.jobs.output_paths import Existing, Job
from ramedge.jobs.pipeline import FileResult, UpscaleObserver, UpscaleSettings, upscale_files
from ramedge.media.video import EncodingSettings
from ramedge.tiling.options import TileMode, TileRequest, TilingOptions
from ramedge.upscaling.open_model import RuntimeSettings

_LEAST_BYTES = 1 << 20
"""A smaller number without a unit was meant in another one."""


_MODES = "|".join(get_args(TileMode))
_FORMER_TEMPORAL = "follow"


def _parse_mode(text: str) -> str:
    """The mode; whether there is one of that name is for `TilingOptions`."""
    if text == _FORMER_TEMPORAL:
        console.notice("--tile-mode follow is called temporal.")
        return "temporal"
    return text


def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Images, videos, folders (without sub-folders) or glob patterns."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Result file, or folder for the results. Default: beside each input, as "
            "NAME_MODEL_xSCALE.EXT.",
        ),
    ] = None,
    scale: Scale = None,
    model: Model = None,
    runtime: RuntimeOption = RuntimeChoice.auto,
    precision: PrecisionOption = PrecisionChoice.auto,
    device: Device = "auto",
    tile: TileText = "auto",
    tile_mode: Annotated[
        str,
        typer.Option(
            help="Where tiles take the network's attention (weights of its channels) from. exact: "
            "the whole frame, same result as without tiles. temporal: the previous frame of a "
            "video; the first frame and cuts are exact. fast: each tile, seams possible.",
            parser=_parse_mode,
            metavar=f"[{_MODES}]",
        ),
    ] = "exact",
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory that the whole process may use, such as 2GiB or 800MiB: --tile auto "
            "plans for it. Default: what is free."
        ),
    ] = None,
    ensemble: Ensemble = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Overwrite existing results.")
    ] = False,
    skip: Annotated[
        bool, typer.Option("--skip-existing", "-n", help="Skip inputs whose result exists.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "-c",
            help="Video encoder, by its FFmpeg name. Default: libx264, or libx265 above 8 bits; "
            "VP9 or AV1 for .webm.",
        ),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(
            "-e",
            metavar="KEY=VALUE",
            help="Video encoder option, such as crf=20; may be repeated.",
        ),
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            "--pix-fmt",
            help="Pixel format of the result video, such as yuv420p10le. Default: like the input.",
        ),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(help="Position in a video to start at, in seconds. Default: 0."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Number of frames of a video to upscale. Default: all.")
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Keep the readable frames of a damaged video. Default: no result for it.",
        ),
    ] = False,
    max_megapixels: Annotated[
        float, typer.Option(help="Refuse images with more pixels than this, in millions.")
    ] = 178.0,
    json_file: Json = None,
) -> None:
    """Upscale images and videos.

    Sound, subtitles, timestamps, colour tags, ICC profiles and EXIF are kept. Existing results
    are not overwritten. If a file fails, the others go on; the exit code is then not 0.
    """
    settings = UpscaleSettings(
        output=output,
        runtime=RuntimeSettings(
            runtime=runtime.value,
            precision=precision.value,
            scale=scale,
            model=model,
            device=device,
        ),
        tiling=TilingOptions(
            tile=_parse_tile(tile),
            mode=cast("TileMode", tile_mode),
            memory=None if memory is None else _parse_memory(memory),
        ),
        ensemble=ensemble,
        existing=_existing(overwrite, skip),
        encoding=EncodingSettings(
            codec=codec,
            options=tuple(_parse_option(text) for text in encoder_option or ()),
            pixel_format=pixel_format,
        ),
        start_seconds=start,
        frames=frames,
        keep_going=keep_going,
        max_pixels=_pixels(max_megapixels),
    )
    if json_file is not None:
        check_json_output(json_file)
    with console.progress_bar() as bar:
        results = upscale_files(inputs, settings, _Display(bar).observer())
    if json_file is not None:
        document = [asdict(result) for result in results]
        write_text(json_file, json.dumps(document, indent=2, default=str) + "\n")
    failed = [result for result in results if result.status == "failed"]
    if len(results) > 1:
        done = sum(result.status == "done" for result in results)
        skipped = sum(result.status == "skipped" for result in results)
        console.stderr.print(f"{done} done, {skipped} skipped, {len(failed)} failed")
    for result in failed:
        console.error(result.error or f"{result.source} failed")
    if failed:
        raise typer.Exit(exit_code(result.unexpected for result in failed))


def _parse_tile(text: str) -> TileRequest:
    if text == "auto":
        return "auto"
    if text in ("whole", "0"):
        return "whole"
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--tile {text!r}: use auto, whole or a number of pixels.") from None


def _parse_memory(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = 0.0
    if match is not None:
        size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")
    if not 1 <= size < math.inf:
        raise UsageError(f"--memory {text[:20]!r}: write it as 2GiB or 800MiB.")
    if size < _LEAST_BYTES and text.strip().isdigit():
        raise UsageError(
            f"--memory {text} means {text.strip()} bytes: add a unit, {text.strip()}MiB."
        )
    return int(size)


def _pixels(megapixels: float) -> int:
    if not math.isfinite(megapixels):
        raise UsageError("--max-megapixels must be a number.")
    return round(megapixels * 1e6)


def _existing(overwrite: bool, skip: bool) -> Existing:
    if overwrite and skip:
        raise UsageError("Give either -y or -n, not both.")
    if overwrite:
        return "overwrite"
    return "skip" if skip else "refuse"


def _parse_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"-e {text!r}: write it as key=value, for example -e crf=20.")
    return key, value


class _Display:
    """Shows a run of `upscale_files`: a bar over the frames of the current file."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._name = ""
        self._seen: set[str] = set()

    def observer(self) -> UpscaleObserver:
        return UpscaleObserver(
            on_model=self._model,
            on_start=self._start,
            on_frame=self._frame,
            # Running the network for it pays for those who watch.
            on_estimate=self._estimate if console.stderr.is_terminal else None,
            on_tile=self._tile,
            on_result=self._result,
        )

    def _model(self, reason: str, notes: tuple[str, ...]) -> None:
        console.stderr.print(f"Upscaling {reason}", markup=False)
        for note in notes:
            self._seen.add(note)
            console.notice(note)

    def _start(self, job: Job, frames: int | None) -> None:
        self._name = job.source.name
        name = self._name.replace("[", r"\[")
        self._task = self._bar.add_task(name, total=frames, info="")

    def _frame(self, done: int) -> None:
        if self._task is not None:
            speed = self._bar.tasks[-1].speed
            info = f"{speed:.2f} fps" if speed else ""
            self._bar.update(self._task, completed=done, info=info)

    def _estimate(self, text: str) -> None:
        console.stderr.print(f"{self._name}: {text}", markup=False)

    def _tile(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, info=f"tile {done}/{total}")

    def _result(self, result: FileResult) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        for note in result.notes:
            if note not in self._seen:  # what holds for all files was said at the start
                console.notice(f"{result.source.name}: {note}")
        if result.status == "skipped":
            console.stderr.print(f"Skipped {result.source}: its result exists.", markup=False)
        elif result.status == "done":
            console.stdout.print(str(result.target), markup=False)
            if result.frames > 1:
                console.stderr.print(_speed(result), markup=False)


def _speed(result: FileResult) -> str:
    share = result.model_seconds / result.seconds if result.seconds else 0.0
    return (
        f"{result.frames} frames in {result.seconds:.1f} s, "
        f"{result.frames / result.seconds:.2f} frames/s; {share:.0%} of the time in the network"
    )
