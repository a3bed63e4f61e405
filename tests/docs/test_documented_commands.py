"""Every `ramedge` command of the documents works as written.

Commands in fences are run on small inputs, those of one fence in order in one folder. Commands in
running text are parsed. `documented_commands.py` prints both lists, and holds the table of the
numbers that are shortened.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from documented_commands import (
    LAUNCHERS,
    OTHER,
    SHELL,
    Command,
    fence_languages,
    fenced_commands,
    inline_commands,
)
from documented_inputs import provide

from ramedge.cli.app import app
from ramedge.runtimes.tensorrt.variant import VARIANTS

FENCED = fenced_commands()
INLINE = inline_commands()
SCRIPTS = sysconfig.get_path("scripts")
LIMIT_SECONDS = 900

REFUSALS = {
    ("--strict",): re.compile(
        r"error: .*(faster here|raise --max-loss|No convolution may be INT8)"
    ),
    ("engines", "build"): re.compile(r"error: No engine can be built here: "),
}
"""Words with which a command may end with an error, as documented: it depends on the machine
whether INT8 is faster, and on the photos whether it loses too much; engines need a GPU."""


def environment(home: Path) -> dict[str, str]:
    """Caches of its own, no compilation (minutes of work with the same result), no colours."""
    kept = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "TORCH_COMPILE_DISABLE": "1",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join((SCRIPTS, os.environ["PATH"])),
    }


@dataclass
class Place:
    """The folder in which the commands of a fence run, and what became of them."""

    folder: Path
    home: Path
    done: dict[Command, str] = field(default_factory=dict)

    def run(self, command: Command) -> str:
        """Run it, once; say what went wrong, nothing where it worked."""
        if command not in self.done:
            self.done[command] = self._run(command)
        return self.done[command]

    def _run(self, command: Command) -> str:
        words = list(command.shortened())
        launcher = words[0] if command.launcher else ""
        if launcher and launcher not in LAUNCHERS:
            return f"unknown launcher {launcher}"
        name, values = parsed(words[command.start + 1 :])
        provide(values, self.folder)
        if "-m" not in command.launcher:
            words[command.start] = "ramedge"
        programs = environment(self.home)["PATH"]
        program = shutil.which(words[0], path=programs)
        if program is None:
            return f"{words[0]} is not on the path: pip install -e '.[dev]'"
        ended = subprocess.run(
            [program, *words[1:]], cwd=self.folder, env=environment(self.home), check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS,
        )  # fmt: skip
        if "Traceback" in ended.stderr + ended.stdout:
            return f"{name}: traceback\n{ended.stderr}"
        if ended.returncode and not _documented_refusal(command, ended.stderr):
            return f"{name}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ""


def _documented_refusal(command: Command, stderr: str) -> bool:
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    return len(errors) == 1 and any(
        set(words) <= set(command.arguments) and pattern.match(errors[0])
        for words, pattern in REFUSALS.items()
    )


def parsed(arguments: list[str]) -> tuple[str, list[tuple[str, Any]]]:
    """The command's name and its parameters; the parser's own error where there are others.

    What a command needs and does not have is no error: running text leaves it out.
    """
    command: Any = typer.main.get_command(app)
    names = []
    rest = list(arguments)
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        names.append(rest.pop(0))
        command = command.commands[names[-1]]
    name = " ".join(names)
    if hasattr(command, "commands"):
        pytest.fail(f"ramedge {' '.join(arguments)}: no such command")
    try:
        context = command.make_context(name, rest)
    except typer.Exit:  # --help
        return name, []
    except Exception as error:
        if type(error).__name__ == "MissingParameter":
            return name, []
        pytest.fail(f"ramedge {' '.join(arguments)}: {error}")
    return name, list(context.params.items())


def _place_of(command: Command) -> tuple[str, int]:
    """The fence whose folder it runs in: with --resume that of the fence before."""
    fence = [one for one in FENCED if one.document == command.document]
    here = [one for one in fence if one.fence == command.fence]
    if any("--resume" in one.arguments for one in here):
        return command.document, max(one.fence for one in fence if one.fence < command.fence)
    return command.document, command.fence


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, home: Path
) -> Iterator[dict[tuple[str, int], Place]]:
    found = {}
    for key in {_place_of(command) for command in FENCED}:
        found[key] = Place(tmp_path_factory.mktemp(Path(key[0]).stem), home)
    yield found
    for place in found.values():
        shutil.rmtree(place.folder, ignore_errors=True)


def _cases() -> Iterator[Any]:
    slow: set[tuple[str, int]] = set()
    for command in FENCED:
        place = _place_of(command)
        if command.slow:
            slow.add(place)
        # What follows a slow command needs it.
        marks = [pytest.mark.slow] if place in slow else []
        yield pytest.param(command, id=command.name, marks=marks)


@pytest.mark.parametrize("command", list(_cases()))
def test_a_fenced_command_works_as_written(
    command: Command, places: dict[tuple[str, int], Place]
) -> None:
    if (
        command.launcher
        and shutil.which(command.words[0], path=environment(Path())["PATH"]) is None
    ):
        pytest.skip(f"{command.words[0]} is missing here")
    place = places[_place_of(command)]
    for earlier in FENCED[: FENCED.index(command)]:
        if _place_of(earlier) == _place_of(command):
            failure = place.run(earlier)
            assert not failure, f"{earlier.name}, which comes before, failed: {failure}"
    failure = place.run(command)
    assert not failure, f"{command.name}: {command}\n{failure}"


@pytest.mark.parametrize("command", [pytest.param(one, id=one.name) for one in INLINE])
def test_a_command_in_running_text_can_be_parsed(command: Command) -> None:
    parsed(list(command.arguments))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


def _without_tensorrt() -> list[Any]:
    commands = {
        one.arguments: one
        for one in INLINE
        if any(words == ("--runtime", "tensorrt") for words in _pairs(one.arguments))
    }
    return [pytest.param(one, id=one.name) for one in commands.values()]


def _pairs(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return itertools.pairwise(words)


@pytest.mark.parametrize("command", _without_tensorrt())
def test_without_tensorrt_a_command_for_it_ends_in_one_line(
    ramedge: Any, command: Command, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if VARIANTS["tensorrt"].version():
        pytest.skip("TensorRT is installed: tests marked gpu run such commands")
    _, values = parsed(list(command.arguments))
    if not values:
        pytest.skip("running text leaves out its input")
    provide(values, inputs)
    monkeypatch.chdir(inputs)
    ended = ramedge(*command.arguments)
    assert ended.code == 1
    assert "TensorRT" in ended.error


def test_every_command_has_a_help(ramedge: Any) -> None:
    def visit(command: Any, names: tuple[str, ...]) -> int:
        ended = ramedge(*names, "--help")
        assert ended.code == 0, names
        assert "Usage" in ended.out
        below = getattr(command, "commands", {})
        return 1 + sum(visit(one, (*names, name)) for name, one in below.items())

    assert visit(typer.main.get_command(app), ()) >= 14


def test_commands_are_found_in_the_documents() -> None:
    assert len(FENCED) >= 30
    assert len(INLINE) >= 20
    assert len({command.name for command in FENCED + INLINE}) == len(FENCED + INLINE)


def test_the_language_of_every_fence_is_known() -> None:
    for document, languages in fence_languages().items():
        assert languages <= SHELL | OTHER, document
