"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

# Without emoji: `:cat:` may be a part of a file's name.
stdout = Console(highlight=False, soft_wrap=True, emoji=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def notice(text: str) -> None:
    """Print a note for the user on stderr, for example about a fallback."""
    stderr.print(Text.assemble(("note:", "yellow"), " ", text))


def error(text: str) -> None:
    """Print one line on stderr that says what went wrong."""
    stderr.print(Text.assemble(("error:", "red"), " ", " ".join(text.split())))


def print_table(table: Table) -> None:
    """Print a table on stdout; where that is no terminal, as wide as its cells need."""
    if not stdout.is_terminal:
        unlimited = stdout.options.update(max_width=1_000)
        table.width = Measurement.get(stdout, unlimited, table).maximum
    stdout.print(table)


def progress_bar() -> Progress:
    """A progress bar with count, a free text field `info`, elapsed time and ETA, on stderr.

    Quiet where stderr is not a terminal.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    )
