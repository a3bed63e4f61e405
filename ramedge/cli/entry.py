"""Where the process starts, and how expected failures and interruptions end it."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

from ramedge.errors import CancelledError, RamedgeError

_INTERRUPTED = CancelledError.exit_code


def main() -> None:
    """Run the command line; expected failures end in one line and their exit code."""
    # As Ctrl-C: what is half-written is removed on the way out.
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        # Imported here, so that Ctrl-C during the imports ends as at any other time.
        from ramedge.cli.app import app

        app()
    except KeyboardInterrupt:
        _end("Interrupted; nothing unfinished was left behind.", _INTERRUPTED)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:  # how typer ends a Ctrl-C, without a word
            _end("Interrupted; nothing unfinished was left behind.", _INTERRUPTED)
        raise
    except RamedgeError as failure:
        _end(str(failure), failure.exit_code)
    except OSError as failure:
        name = f"{failure.filename}: " if failure.filename else ""
        _end(f"{name}{failure.strerror or failure}", RamedgeError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _end(message: str, code: int) -> NoReturn:
    from ramedge.cli import console

    console.error(message)
    sys.exit(code)
