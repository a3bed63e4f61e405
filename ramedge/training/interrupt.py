"""A clean stop: Ctrl-C and SIGTERM end a run after the step in progress."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Yield a list that receives the number of each SIGINT and SIGTERM.

    A second signal of the same number has its usual effect, by default an immediate end.
    """
    received: list[int] = []
    previous: Mapping[int, Any] = {}

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    try:
        # Signal handlers can only be set in the main thread; elsewhere the caller keeps its own.
        previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            signal.signal(number, remember)
    except ValueError:
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
