"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def notice(text: str) -> None:
    """Say something the user should know, a fallback for example, on stderr."""
    stderr.print(f"[yellow]note:[/yellow] {_escape(text)}")


def error(text: str) -> None:
    """Say in one line what went wrong, on stderr."""
    stderr.print(f"[red]error:[/red] {_escape(' '.join(text.split()))}")


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


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
