"""Every failure that ramedge expects, in one tree.

The command line turns a `RamedgeError` into one line on stderr and its exit code.
Everything else is a bug: `ramedge.failures` makes an `UnexpectedError` of it and keeps its
traceback in a log file. Messages say what is wrong and what the user can do about it.
"""

from __future__ import annotations

from typing import ClassVar


class RamedgeError(Exception):
    """Base of all expected failures. `exit_code` is what the process ends with."""

    exit_code: ClassVar[int] = 1


class UsageError(RamedgeError):
    """The request itself makes no sense: change the command line."""

    exit_code: ClassVar[int] = 2


class MissingExtraError(RamedgeError):
    """A part of ramedge needs a package that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed. "
            f"Install it with: pip install 'ramedge[{extra}]' "
            f"(in a source tree: pip install '.[{extra}]')"
        )


class DependencyError(RamedgeError):
    """A package cannot be used: missing, broken, too old or too new.

    Attributes:
        install: the command that installs a version that works.
    """

    def __init__(self, message: str, install: str) -> None:
        super().__init__(f"{message}. Install it with: {install}")
        self.install = install


class InputError(RamedgeError):
    """An input cannot be read: missing, empty, damaged, or of an unsupported kind."""


class OutputError(RamedgeError):
    """An output cannot be written: no permission, no space, or it exists already."""


class WeightsError(RamedgeError):
    """Weights cannot be loaded, or do not fit the network that was asked for."""


class TrainingError(RamedgeError):
    """Training cannot start or go on; the last checkpoint is intact."""


class ExportError(RamedgeError):
    """A model could not be exported or built."""


class GateError(ExportError):
    """What was exported differs from PyTorch by more than the gate allows."""


class RuntimeUnavailableError(RamedgeError):
    """The runtime that was asked for cannot run on this machine."""


class CancelledError(RamedgeError):
    """The user interrupted the work; nothing was left under a final name."""

    exit_code: ClassVar[int] = 130


class UnexpectedError(RamedgeError):
    """A bug of ramedge or of a package it uses; its traceback is in a log file.

    The exit code is EX_SOFTWARE of sysexits.h.
    """

    exit_code: ClassVar[int] = 70
