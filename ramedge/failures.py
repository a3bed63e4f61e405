"""What a user is told of an exception: one line, and a log file where it is a bug."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

from ramedge import __version__
from ramedge.errors import DependencyError, InputError, RamedgeError, UnexpectedError
from ramedge.requirements import need_of, needs, package_of, versions

DEBUG: Final = "RAMEDGE_DEBUG"
"""Where this environment variable is 1, tracebacks go to stderr instead of a log file."""
_LONGEST: Final = 200
_NAME: Final = f"ramedge_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}.log"
"""One for the process: what fails in many files is one log."""


def as_failure(error: Exception, doing: str) -> RamedgeError:
    """The failure to report: its text is one line, its `exit_code` that of the process.

    Args:
        error: any exception. Expected failures are returned unchanged.
        doing: what was being done, for example `upscaling photo.png`.
    """
    if isinstance(error, RamedgeError):
        return error
    if _debugging():
        traceback.print_exception(error)
    broken = _broken_package(error)
    if broken is not None:
        return cannot_load(broken, error)
    if isinstance(error, MemoryError):
        return RamedgeError(f"Not enough memory while {doing}: close other programs.")
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return InputError(f"{name}{error.strerror or error}")
    return UnexpectedError(f"Unexpected error while {doing}: {_short(error)}. {_keep(error)}")


def cannot_load(package: str, error: Exception) -> DependencyError:
    """The failure of a package to be imported: its version, and those that work."""
    need = need_of(package)
    if need.installed is None:
        return DependencyError(
            f"{package} is not installed, and ramedge needs {need}", need.install
        )
    works = f"ramedge works with {need}" if need.versions else "it seems to be damaged"
    message = f"{package} {need.installed} cannot be used ({_short(error)}): {works}"
    return DependencyError(message, need.install)


def log_folders() -> Iterator[Path]:
    """Where a log may be written, the best first."""
    with contextlib.suppress(Exception):  # a broken platformdirs must not hide the error
        import platformdirs

        yield Path(platformdirs.user_log_dir("ramedge", appauthor=False))
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())


def _debugging() -> bool:
    return os.environ.get(DEBUG, "") not in {"", "0"}


def _keep(error: Exception) -> str:
    """Keep the details; says where they are."""
    if _debugging():
        return "The details are above."
    text = _details(error)
    for folder in log_folders():
        path = folder / _NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as opened:
                opened.write(text)
        except OSError:
            continue
        return f"The details are in {path}; please report it."
    return f"No log file could be written: {DEBUG}=1 shows the details; please report it."


def _details(error: Exception) -> str:
    found = "".join(traceback.format_exception(error))
    return (
        f"ramedge {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n"
        f"Python {platform.python_version()} on {platform.platform()}\n"
        f"Command: {shlex.join(sys.argv)}\n"
        f"{_versions()}\n\n{found}\n"
    )


def _versions() -> str:
    try:
        return versions(needs()) or "Not installed: run from the source tree."
    except Exception as error:  # a broken installation must not hide the first error
        return f"No versions: {_short(error)}"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _broken_package(error: Exception) -> str | None:
    """The package that could not be imported, or that lacks what an import asked of it."""
    try:
        own = {need.package: need for need in needs()}
    except Exception:  # `packaging` itself is broken
        own = {}
    importing = [f for f, _ in traceback.walk_tb(error.__traceback__) if _is_import(f)]
    named = package_of(_named_module(error) or "ramedge")
    if named in own and (importing or isinstance(error, ImportError) or own[named].outside):
        return named
    for frame in reversed(importing):
        package = package_of(str(frame.f_globals.get("__name__", "ramedge")))
        if package in own:
            return package
    foreign = isinstance(error, ImportError) and named not in {"ramedge", *sys.stdlib_module_names}
    return named if foreign else None


def _is_import(frame: FrameType) -> bool:
    """Whether it runs the code of a module."""
    return frame.f_code.co_name == "<module>"


def _named_module(error: Exception) -> str | None:
    """The module that an import failed for, or that lacks what it should have."""
    if isinstance(error, ImportError):
        return error.name
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return error.obj.__name__
    return None
