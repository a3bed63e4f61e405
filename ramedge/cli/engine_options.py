"""Options of the commands that build engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import typer

from ramedge.errors import UsageError
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes

MinShape = Annotated[
    str | None,
    typer.Option(
        metavar="HxW", help="Engine: smallest frame it takes, height x width. Default: 1x1."
    ),
]
OptShape = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Engine: frame it is tuned for. Default: 360x640."),
]
MaxShape = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Engine: largest frame it takes. Default: 1080x1920."),
]
OptLevel = Annotated[
    int | None,
    typer.Option(
        help="Engine: optimization level of the builder, 0 (quick) to 5 (thorough). Default: the "
        "library's."
    ),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        help="Engine: GPU memory that a layer may use while it runs, in MiB. Default: no limit."
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Engine: build it again even if the cache holds it."),
]


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """Build options of an engine from the command line; `None` where one is not given."""

    min_shape: str | None = None
    opt_shape: str | None = None
    max_shape: str | None = None
    opt_level: int | None = None
    workspace: int | None = None

    @property
    def given(self) -> bool:
        """Whether any option is given."""
        values = (self.min_shape, self.opt_shape, self.max_shape, self.opt_level, self.workspace)
        return any(value is not None for value in values)

    def settings(self) -> BuildSettings:
        """The checked settings.

        Raises:
            UsageError: a value is not possible.
        """
        return BuildSettings(_shapes(self), self.opt_level, self.workspace)


def _shapes(options: ShapeOptions) -> Shapes:
    """Bounds that are not given are derived from those that are."""
    default = Shapes()
    largest = _size("--max-shape", options.max_shape) or default.largest
    best = _size("--opt-shape", options.opt_shape)
    smallest = _size("--min-shape", options.min_shape)
    if options.max_shape is None and best is not None:
        largest = max(largest[0], best[0]), max(largest[1], best[1])
    if best is None:
        best = min(default.best[0], largest[0]), min(default.best[1], largest[1])
        if smallest is not None:
            best = max(best[0], smallest[0]), max(best[1], smallest[1])
    return Shapes(smallest or default.smallest, best, largest)


def _size(option: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r}: write height x width, for example 720x1280.")
    return int(match[1]), int(match[2])
