"""Reading, working and writing at the same time, in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Item(Generic[S]):
    value: S


class _End:
    """Nothing more will come."""


class _Channel(Generic[S]):
    """A bounded queue whose both ends give up when `stop` is set."""

    def __init__(self, depth: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[_Item[S] | _End] = queue.Queue(depth)
        self._stop = stop

    def put(self, item: _Item[S] | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def get(self) -> _Item[S] | _End:
        while not self._stop.is_set():
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        return _End()


def overlap(
    source: Iterable[S], work: Callable[[S], R], sink: Callable[[S, R], None], depth: int = 3
) -> None:
    """Feed every item of `source` through `work` to `sink(item, result)`, in order.

    The source runs in one thread, the sink in another, the work in the caller's; at most
    `depth` items wait between two of them. An exception of the source is raised after all
    items before it reached the sink; one of the work or the sink stops everything at once,
    Ctrl-C in the caller's thread too.
    """
    overlap_many(source, lambda items: map(work, items), sink, depth)


def overlap_many(
    source: Iterable[S],
    works: Callable[[Iterator[S]], Iterable[R]],
    sink: Callable[[S, R], None],
    depth: int = 3,
) -> None:
    """As `overlap`, with work that may take several items before it gives the first result.

    `works` gives one result for each item, in their order.
    """
    stop = threading.Event()
    incoming: _Channel[S] = _Channel(depth, stop)
    outgoing: _Channel[tuple[S, R]] = _Channel(depth, stop)
    source_failure: list[BaseException] = []
    sink_failure: list[BaseException] = []

    def read() -> None:
        try:
            for value in source:
                if not incoming.put(_Item(value)):
                    return
        except BaseException as failure:
            source_failure.append(failure)
        incoming.put(_End())

    def write() -> None:
        try:
            while isinstance(item := outgoing.get(), _Item):
                sink(*item.value)
        except BaseException as failure:
            sink_failure.append(failure)
            stop.set()

    reader = threading.Thread(target=read, name="ramedge-read", daemon=True)
    writer = threading.Thread(target=write, name="ramedge-write", daemon=True)
    reader.start()
    writer.start()
    finished = False
    at_work: deque[S] = deque()

    def items() -> Iterator[S]:
        while isinstance(item := incoming.get(), _Item):
            at_work.append(item.value)
            yield item.value

    try:
        for result in works(items()):
            if not outgoing.put(_Item((at_work.popleft(), result))):
                break
        outgoing.put(_End())
        _join(writer)
        finished = True
    finally:
        if not finished:
            stop.set()
        _join(writer)
        stop.set()
        _join(reader)
    if sink_failure:
        raise sink_failure[0]
    if source_failure:
        raise source_failure[0]


def _join(thread: threading.Thread) -> None:
    """Wait so that Ctrl-C still gets through on every platform."""
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
