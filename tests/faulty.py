"""Runs `python -m ramedge` beside modules that fail, as a user with a broken installation does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ramedge

SOURCE = Path(ramedge.__file__).resolve().parents[1]
NEEDS = (
    "av<20,>=16.1",
    "numpy>=1.26",
    "openvino>=2025.3",
    "packaging>=22",
    "pillow>=11.2.1",
    "platformdirs>=4",
    "rich>=13.7",
    "safetensors>=0.5",
    "typer>=0.16",
    "torch>=2.8; extra == 'train'",
    "pytest>=8; extra == 'dev'",
)


@dataclass(frozen=True)
class Faulty:
    """A folder that Python imports from before anything else.

    Attributes:
        folder: of the modules that fail.
        state: where log files belong.
    """

    folder: Path
    state: Path

    @classmethod
    def make(cls, path: Path) -> Faulty:
        made = cls(path / "faulty", path / "state")
        made.folder.mkdir()
        # What an installed ramedge knows of itself; the one under test may be a source tree.
        made.installed("ramedge", ramedge.__version__, NEEDS)
        return made

    def startup(self, code: str) -> None:
        """Python runs this before the program."""
        (self.folder / "sitecustomize.py").write_text(code)

    def module(self, name: str, code: str) -> None:
        """A module in the place of the real one."""
        (self.folder / name).mkdir()
        (self.folder / name / "__init__.py").write_text(code)

    def installed(self, package: str, version: str, needs: tuple[str, ...] = ()) -> None:
        """What pip would have written of an installed package."""
        info = self.folder / f"{package}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {version}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "top_level.txt").write_text(f"{package}\n")

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python -m ramedge` with these arguments."""
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(SOURCE)]),
            "XDG_STATE_HOME": str(self.state),
            "COLUMNS": "300",
        }
        variables.pop("RAMEDGE_DEBUG", None)
        return subprocess.run(
            [sys.executable, "-m", "ramedge", *map(str, arguments)],
            cwd=self.folder.parent,
            env=variables | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def log(self) -> str:
        """The one log file."""
        (path,) = self.state.rglob("*.log")
        return path.read_text(encoding="utf-8")


def one_error(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what went wrong, and nothing like a traceback beside it."""
    for sign in ("Traceback", "╭", 'File "'):
        assert sign not in ended.stderr + ended.stdout, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ended.stderr
    return lines[0]
