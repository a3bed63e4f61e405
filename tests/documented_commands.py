"""The `ramedge` commands that the documents show.

`python tests/documented_commands.py` prints the list: what is run, and what is only parsed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "ramedge/weights/*.md")
SHELL = {"", "sh", "bash", "shell", "console", "text"}
"""Languages of the fences that hold commands."""
OTHER = {"python", "mermaid", "json", "toml", "yaml", "usage"}
"""Languages of the fences that do not."""
LAUNCHERS = {"timeout", "torchrun"}
"""Programs that start ramedge."""

SHORTENED = {
    ("--steps", "17000"): "2",
    ("--steps", "20000"): "2",
    ("--steps", "100000"): "2",
    ("--steps", "200000"): "3",
    ("--nproc-per-node", "4"): "2",
    ("--size", "180x320"): "24x32",
    ("--size", "360x640"): "32x48",
}
"""Numbers that set only the amount of work: as documented, and as run here."""

DEFAULTS_SHORTENED: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("bench",): (
        ("--warmup", "1"), ("--iterations", "3"), ("--seconds", "1"), ("--size", "24x32"),
    ),
    # Every precision, and from file to file, is what the plain `ramedge bench` runs.
    ("bench", "--json"): (("--precision", "fp32"), ("--no-end-to-end",)),
    ("bench", "--model"): (("--no-end-to-end",),),
    ("train",): (("--patch", "16"), ("--batch", "2")),
    ("study",): (("--steps", "1"), ("--patch", "16"), ("--batch", "1")),
    ("export", "--calibration"): (("--calibration-frames", "16"),),
}  # fmt: skip
"""The same for what a command leaves at its default: the words that a command has, and the options
that it gets in addition, each where the command does not have it."""

NOT_WITH = {"--size": "--input"}
"""Options that are not added beside another, which sets the same."""

WITHOUT_WORK = {"--compare", "--figures-only", "--help"}
"""Options with which a command does nothing that could be shortened."""

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\S*)")
_INLINE = re.compile(r"(?<!`)`(?!`)([^`]+)`(?!`)")
_PROGRAM = re.compile(r"(?:.*/)?ramedge")
_SEPARATORS = {"&&", "||", ";", "|", "&"}


@dataclass(frozen=True)
class Command:
    """One command of a document.

    Attributes:
        document: relative to the repository.
        line: where it stands, from 1.
        fence: line of the fence that holds it; 0 for inline code.
        words: as the shell would split it, without comments.
        number: of the commands of this line, from 0.
    """

    document: str
    line: int
    fence: int
    words: tuple[str, ...]
    number: int = 0

    @property
    def name(self) -> str:
        """File and line."""
        return f"{self.document}:{self.line}" + (f".{self.number}" if self.number else "")

    @cached_property
    def start(self) -> int:
        """Index of the word that names the program."""
        return next(i for i, word in enumerate(self.words) if _PROGRAM.fullmatch(word))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What ramedge is given."""
        return self.words[self.start + 1 :]

    @property
    def launcher(self) -> tuple[str, ...]:
        """What stands before `ramedge`."""
        return self.words[: self.start]

    @property
    def slow(self) -> bool:
        """Whether it takes more than some twenty seconds even when shortened."""
        given = set(self.arguments)
        if given & WITHOUT_WORK:
            return False
        return self.arguments[0] in {"bench", "export", "train", "study"}

    def shortened(self) -> tuple[str, ...]:
        """Its words with less work to do.

        Raises:
            ValueError: it has a number of steps that `SHORTENED` does not know.
        """
        words = list(self.words)
        for i in range(len(words) - 1):
            short = SHORTENED.get((words[i], words[i + 1]))
            if short is not None:
                words[i + 1] = short
            elif words[i] == "--steps":
                raise ValueError(f"{self.name}: SHORTENED does not know --steps {words[i + 1]}.")
        if set(words) & WITHOUT_WORK:
            return tuple(words)
        for having, options in DEFAULTS_SHORTENED.items():
            if set(having) <= set(words):
                for option in options:
                    if option[0] not in words and NOT_WITH.get(option[0]) not in words:
                        words += option
        return tuple(words)

    def __str__(self) -> str:
        return shlex.join(self.words)


def documents() -> list[Path]:
    """All documents that may show commands."""
    return sorted({path for pattern in PATTERNS for path in REPOSITORY.glob(pattern)})


def fenced_commands() -> list[Command]:
    """The commands of all fences, in the order of the documents."""
    found = []
    for path in documents():
        for fence, language, lines in _fences(path):
            if language in SHELL:
                found += _commands(path, fence, lines)
    return found


def inline_commands() -> list[Command]:
    """The commands in running text and in tables."""
    found = []
    for path in documents():
        text = _without_fences(path)
        for match in _INLINE.finditer(text):
            code = " ".join(match[1].split())
            if code.startswith("ramedge "):
                line = text.count("\n", 0, match.start()) + 1
                words = tuple(shlex.split(code))
                number = sum((one.document, one.line) == (_name(path), line) for one in found)
                found.append(Command(_name(path), line, 0, words, number))
    return found


def fence_languages() -> dict[str, set[str]]:
    """The languages of the fences of each document."""
    return {_name(path): {language for _, language, _ in _fences(path)} for path in documents()}


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _fences(path: Path) -> Iterator[tuple[int, str, list[tuple[int, str]]]]:
    """Line, language and numbered lines of each fence."""
    mark, begin, language = "", 0, ""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if not mark:
            if match is not None:
                mark, language, begin, lines = match[1], match[2].lower(), number, []
        elif match is not None and match[1].startswith(mark) and not match[2]:
            yield begin, language, lines
            mark = ""
        else:
            lines.append((number, line))
    if mark:
        raise ValueError(f"{_name(path)}:{begin}: the fence has no end.")


def _without_fences(path: Path) -> str:
    """The text with empty lines in place of its fences."""
    kept = path.read_text(encoding="utf-8").splitlines()
    for begin, _, lines in _fences(path):
        kept[begin - 1 : begin + len(lines) + 1] = [""] * (len(lines) + 2)
    return "\n".join(kept)


def _commands(path: Path, fence: int, lines: list[tuple[int, str]]) -> Iterator[Command]:
    for line, text in _joined(lines):
        number = 0
        for words in _split(text):
            if _starts_ramedge(words):
                yield Command(_name(path), line, fence, words, number)
                number += 1


def _joined(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines without prompts and comments, those that a backslash continues in one."""
    begin, whole = 0, ""
    for number, text in lines:
        if not whole:
            begin = number
        part = re.sub(r"(^|\s)#(\s.*|$)", "", re.sub(r"^\s*\$ ", "", text)).rstrip()
        whole += part.removesuffix("\\")
        if not part.endswith("\\"):
            yield begin, whole
            whole = ""
    if whole:
        yield begin, whole


def _split(text: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in (*lexer, ";"):
        if word in _SEPARATORS:
            yield tuple(words)
            words = []
        else:
            words.append(word)


def _starts_ramedge(words: tuple[str, ...]) -> bool:
    """Whether ramedge is the program, or what a launcher or `-m` starts.

    Not where it is an argument of another program: `pip install ramedge`.
    """
    for i, word in enumerate(words):
        if _PROGRAM.fullmatch(word):
            before = words[:i]
            return not before or before[0] in LAUNCHERS or before[-1] == "-m"
    return False


def main() -> None:
    """Print all commands."""
    for command in fenced_commands():
        print(f"{command.name}: {command}")
        if command.shortened() != command.words:
            print(f"    run as: {shlex.join(command.shortened())}")
    print("\nOnly parsed, in running text:")
    for command in inline_commands():
        print(f"{command.name}: {command}")


if __name__ == "__main__":
    main()
