from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from ramedge.jobs.threaded_pipeline import overlap

pytestmark = pytest.mark.base


def run(source: Iterator[int], work=lambda x: x * 10, fail_at: int | None = None) -> list:
    got: list[tuple[int, int]] = []

    def sink(item: int, result: int) -> None:
        if item == fail_at:
            raise OSError("disk full")
        got.append((item, result))

    run.got = got  # type: ignore[attr-defined]
    overlap(source, work, sink)
    return got


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("ramedge-")]


def test_order_is_kept() -> None:
    assert run(iter(range(200))) == [(i, i * 10) for i in range(200)]
    assert not threads()


def test_nothing_is_fine() -> None:
    assert run(iter(())) == []


def test_the_three_run_at_the_same_time() -> None:
    def source() -> Iterator[int]:
        for i in range(10):
            time.sleep(0.02)
            yield i

    def work(x: int) -> int:
        time.sleep(0.02)
        return x

    seen: list[str] = []

    def sink(item: int, result: int) -> None:
        time.sleep(0.02)
        seen.append(threading.current_thread().name)

    overlap(source(), work, sink)
    assert seen == ["ramedge-write"] * 10


def test_what_the_source_gave_before_it_failed_arrives() -> None:
    def source() -> Iterator[int]:
        yield from range(7)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        run(source())
    assert [item for item, _ in run.got] == list(range(7))  # type: ignore[attr-defined]
    assert not threads()


def test_a_failing_sink_stops_an_endless_source() -> None:
    def source() -> Iterator[int]:
        i = 0
        while True:
            yield i
            i += 1

    with pytest.raises(OSError, match="disk full"):
        run(source(), fail_at=5)
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failing_work_stops_everything(error: type[BaseException]) -> None:
    def work(x: int) -> int:
        if x == 3:
            raise error("no")
        return x

    def source() -> Iterator[int]:
        i = 0
        while True:
            yield i
            i += 1

    with pytest.raises(error):
        run(source(), work)
    assert not threads()
