"""Where the process starts, and how failures and interruptions end it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from ramedge.errors import CancelledError

_INTERRUPTED = CancelledError.exit_code


def main() -> None:
    """Run the command line; whatever fails ends in one line and its exit code."""
    # As Ctrl-C: what is half-written is removed on the way out.
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        _application()()
    except KeyboardInterrupt:
        _end("Interrupted; nothing unfinished was left behind.", _INTERRUPTED)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:  # how typer ends a Ctrl-C, without a word
            _end("Interrupted; nothing unfinished was left behind.", _INTERRUPTED)
        raise
    except Exception as error:
        from ramedge.failures import as_failure

        failure = as_failure(error, f"running {_command()}")
        _end(str(failure), failure.exit_code)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _application() -> Callable[[], object]:
    # Imported here, so that Ctrl-C during the imports ends as at any other time.
    if sys.argv[1:2] == ["doctor"]:
        # It says which package cannot be imported: it must not import them to start.
        from ramedge.cli.doctor import app as alone

        return lambda: alone(sys.argv[2:], prog_name="ramedge doctor")
    from ramedge.cli.app import app

    return app


def _command() -> str:
    words = sys.argv[1:3] if sys.argv[1:2] == ["engines"] else sys.argv[1:2]
    return " ".join(["ramedge", *(word for word in words if not word.startswith("-"))])


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _end(message: str, code: int) -> NoReturn:
    try:
        from ramedge.cli import console

        console.error(message)
    except Exception:  # rich itself is broken
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
