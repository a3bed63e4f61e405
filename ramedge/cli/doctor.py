"""`ramedge doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ramedge.cli import console
from ramedge.cli.options import check_json_output
from ramedge.doctor import Check, Diagnosis, diagnose
from ramedge.files import write_text

_COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


def doctor(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the results to this .json file.")
    ] = None,
) -> None:
    """Check what works on this machine, and print the command that fixes what does not.

    The exit code is 0 if upscaling on the CPU works, even if optional parts are missing.
    """
    if json_file is not None:
        check_json_output(json_file)
    with console.stderr.status("Checking"):
        found = diagnose()
    console.print_table(_table(found))
    if json_file is not None:
        write_text(json_file, json.dumps(found.as_dict(), indent=2) + "\n")
    if not found.works:
        console.error("Upscaling does not work here: see the lines with status broken.")
        raise typer.Exit(1)
    console.stdout.print("Upscaling works.")


app = typer.Typer(
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""The command on its own, for `ramedge.cli.entry`."""
app.command()(doctor)


def _table(found: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "status", "details", "fix"):
        table.add_column(column, overflow="fold", no_wrap=column in {"part", "status"})
    for check in found.checks:
        table.add_row(check.name, _status(check), escape(check.detail), escape(check.remedy))
    return table


def _status(check: Check) -> str:
    return f"[{_COLOURS[check.status]}]{check.status}[/]"
