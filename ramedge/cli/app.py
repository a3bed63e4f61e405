"""The `ramedge` command: its sub-commands, and how expected failures end."""

from __future__ import annotations

from typing import Annotated

import typer

from ramedge import __version__
from ramedge.cli import console
from ramedge.cli.audit import audit
from ramedge.cli.bench import bench
from ramedge.cli.doctor import doctor
from ramedge.cli.engines import engines
from ramedge.cli.eval import evaluate_folders
from ramedge.cli.export import export
from ramedge.cli.study import study
from ramedge.cli.train import train
from ramedge.cli.upscale import upscale

app = typer.Typer(
    name="ramedge",
    help="Light super-resolution with SRRAM: upscale, measure, export and train.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command("eval")(evaluate_folders)
app.command()(bench)
app.command()(export)
app.command()(audit)
app.command()(train)
app.command()(study)
app.command()(doctor)
app.add_typer(engines, name="engines")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.stdout.print(f"ramedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Light super-resolution with SRRAM: upscale, measure, export and train."""
