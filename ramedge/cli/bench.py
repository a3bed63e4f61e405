"""`ramedge bench`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer
from rich.markup import escape
from rich.table import Table

from ramedge.cli import console
from ramedge.cli.options import Json, check_json_output, check_text_output
from ramedge.errors import CancelledError, UsageError
from ramedge.files import write_text
from ramedge.network.config import SUPPORTED_SCALES
from ramedge.runtimes.backend import PrecisionName, RuntimeName

if TYPE_CHECKING:
    from ramedge.bench.compare import Change
    from ramedge.bench.result import BenchResult, EndToEnd, Row
    from ramedge.bench.settings import BenchSettings, Size

T = TypeVar("T")

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")
_HELP = "a list with commas, or repeated. Default: all that work here."


def bench(
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help=f"Backends, torch, openvino …: {_HELP}")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", "-p", help=f"Precisions, fp32, fp16, int8: {_HELP}"),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option("--scale", "-s", help="Upscaling factor, or a list: 2,3,4. Default: 2."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "--weights",
            "-m",
            help="Folder made by ramedge export, or .safetensors weights; may be repeated. "
            "Default: the shipped SRRAM_R10C64.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            metavar="HxW",
            help="Height and width of the input frame, in pixels; may be repeated. Default: "
            "180x320, or the size of --input.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Image or video to measure with: its first frame for the network, all of it end "
            "to end. Default: a shipped photo and clip.",
        ),
    ] = None,
    warmup: Annotated[
        int,
        typer.Option(
            min=1, help="Runs of each candidate before timing starts; ends after 2 seconds."
        ),
    ] = 10,
    iterations: Annotated[int, typer.Option(help="Maximum number of timed rounds.")] = 100,
    seconds: Annotated[
        float,
        typer.Option(
            help="Time limit of the timed rounds, in seconds, for all candidates together."
        ),
    ] = 60.0,
    end_to_end: Annotated[
        bool, typer.Option(help="Also time a file from decoding to encoding, with each stage.")
    ] = True,
    json_file: Json = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Also write charts and pictures to this .html file."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A.json B.json",
            help="Compare two --json results instead of measuring: what changed, what is noise.",
        ),
    ] = None,
) -> None:
    """Measure speed, memory and quality of every backend and precision, side by side.

    All candidates are timed in interleaved rounds, so that a slower phase of the machine affects
    all of them alike. The baseline is PyTorch in FP32. The exit code is 1 if the output of a
    candidate does not agree with the baseline.
    """
    if compare is not None:
        others = (runtime, precision, scale, size, model, source, json_file, html_file)
        if any(other is not None for other in others):
            raise UsageError("--compare measures nothing: leave the other options out.")
        _compare(*compare)
        return
    from ramedge.bench.settings import BenchSettings

    if json_file is not None:
        check_json_output(json_file)
    if html_file is not None:
        check_text_output("--html", html_file, ".html")
    settings = BenchSettings(
        runtimes=_choices("--runtime", runtime, _without_auto(RuntimeName)),
        precisions=_choices("--precision", precision, _without_auto(PrecisionName)),
        scales=_choices("--scale", scale, SUPPORTED_SCALES),
        models=tuple(model or ()),
        sizes=tuple(map(_size, size or ())),
        input=source,
        warmup=warmup,
        iterations=iterations,
        seconds=seconds,
        end_to_end=end_to_end,
    )
    result = _measure(settings, html_file)
    if json_file is not None:
        write_text(json_file, json.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n")
    for failure in result.failures:
        console.error(failure)
    if not result.complete:
        console.notice("Interrupted: the figures are from the rounds finished so far.")
        raise typer.Exit(CancelledError.exit_code)
    if result.failures:
        raise typer.Exit(1)


def _without_auto(names: Any) -> tuple[Any, ...]:
    return tuple(name for name in get_args(names) if name != "auto")


def _choices(option: str, texts: list[str] | None, allowed: Sequence[T]) -> tuple[T, ...]:
    parts = {part.strip().lower() for text in texts or () for part in text.split(",")}
    known = {str(value): value for value in allowed}
    for part in sorted(parts - known.keys()):
        raise UsageError(f"{option} {part!r}: choose among {', '.join(known)}.")
    return tuple(value for name, value in known.items() if name in parts)


def _size(text: str) -> Size:
    from ramedge.bench.settings import Size

    found = _SIZE.fullmatch(text.strip().lower().replace("×", "x"))
    if found is None:
        raise UsageError(f"--size {text!r}: give height and width, for example 180x320.")
    return Size(int(found[1]), int(found[2]))


def _measure(settings: BenchSettings, html_file: Path | None) -> BenchResult:
    from ramedge.bench.report import write_report
    from ramedge.bench.run import run_bench
    from ramedge.bench.table import alike

    with console.progress_bar() as bar:
        task = bar.add_task("Opening", total=None, info="")

        def show(stage: str, done: int, total: int, following: str) -> None:
            if bar.tasks[task].description != stage:
                bar.reset(task, description=stage)
            bar.update(task, completed=done, total=total, info=following)

        result, pictures = run_bench(settings, show, shlex.join(["ramedge", *sys.argv[1:]]))
    for note in result.notes:
        console.notice(note)
    for group in alike(result.rows):
        console.print_table(_speeds(group, result.baseline))
    if result.end_to_end:
        console.print_table(_ends(result.end_to_end))
    if html_file is not None:
        write_report(html_file, result, pictures)
    return result


def _speeds(rows: Sequence[Row], baseline: str) -> Table:
    from ramedge.bench.result import title
    from ramedge.bench.table import figure_lines

    one = rows[0].combination
    table = Table(title=f"{one.width}×{one.height} ×{one.scale}, {one.network}")
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_column(escape(title(row.combination)), justify="right", overflow="fold")
    for name, cells in figure_lines(rows, baseline):
        table.add_row(escape(name), *map(escape, cells))
    return table


def _ends(found: Sequence[EndToEnd]) -> Table:
    from ramedge.bench.result import title
    from ramedge.bench.table import spread_text

    table = Table(title=f"From file to file: {escape(found[0].source)}")
    table.add_column("", overflow="fold")
    for column in ("frames/s", "decode", "network", "encode", "limit"):
        table.add_column(column, justify="right")
    for one in found:
        total = one.total
        busy = [f"{seconds:.2f} s" for seconds in (total.decode, total.network, total.encode)]
        speed = spread_text(one.frames_per_second)
        name = f"{title(one.combination)} ×{one.combination.scale}"
        table.add_row(escape(name), speed, *busy, total.limit)
    return table


def _compare(first: Path, second: Path) -> None:
    from ramedge.bench.compare import compare
    from ramedge.bench.result import load_result

    found = compare(load_result(first), load_result(second))
    for line in (*found.machine, *found.missing):
        console.notice(line)
    if not found.changes:
        raise UsageError(f"{first} and {second} have no combination in common.")
    for heading, real in (("Changed", True), ("Noise", False)):
        changes = [change for change in found.changes if change.real == real]
        if changes:
            console.print_table(_changes(heading, changes))
        else:
            console.stdout.print(f"{heading}: nothing")


def _changes(heading: str, changes: Sequence[Change]) -> Table:
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    for column in ("combination", "figure", "first", "second", "change"):
        table.add_column(column, overflow="fold")
    for change in changes:
        relative = "" if change.relative is None else f"{change.relative:+.1%}"
        cells = (change.combination, change.figure, change.before, change.after, relative)
        table.add_row(*map(escape, cells))
    return table
