"""Time spent in the network alone, to be compared with the time of everything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Timing:
    """Adds up.

    Attributes:
        seconds: in the network.
        frames: that came out of it.
    """

    seconds: float = 0.0
    frames: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a block of code."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def producing(self, items: Iterable[T]) -> Iterator[T]:
        """Count the time in which an iterator makes its items (none is `None`), not between."""
        iterator = iter(items)
        while True:
            with self.running():
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Leave out the time that code which is counted waits for items of an iterator."""
        started = time.perf_counter()
        for item in items:
            self.seconds -= time.perf_counter() - started
            yield item
            started = time.perf_counter()
        self.seconds -= time.perf_counter() - started
