"""Options of commands that build engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import typer

from ramedge.errors import UsageError
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes

MinShape = Annotated[
    str | None, typer.Option(help="Engines: smallest frame, height x width. Default: 1x1.")
]
OptShape = Annotated[str | None, typer.Option(help="Engines: frame to tune for. Default: 360x640.")]
MaxShape = Annotated[str | None, typer.Option(help="Engines: largest frame. Default: 1080x1920.")]
OptLevel = Annotated[
    int | None, typer.Option(help="Engines: 0 to 5, how long the builder searches.")
]
Workspace = Annotated[
    int | None, typer.Option(help="Engines: MiB that a layer may use while it runs.")
]
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Engines: build again, whatever the cache holds.")
]


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """What the command line says of an engine's build; `None` where it says nothing."""

    min_shape: str | None = None
    opt_shape: str | None = None
    max_shape: str | None = None
    opt_level: int | None = None
    workspace: int | None = None

    @property
    def given(self) -> bool:
        """Whether it says anything."""
        values = (self.min_shape, self.opt_shape, self.max_shape, self.opt_level, self.workspace)
        return any(value is not None for value in values)

    def settings(self) -> BuildSettings:
        """The same, checked.

        Raises:
            UsageError: it makes no sense.
        """
        return BuildSettings(_shapes(self), self.opt_level, self.workspace)


def _shapes(options: ShapeOptions) -> Shapes:
    """Bounds that are not given follow those that are."""
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
