"""Two runs of the bench: what changed, and what is noise.

Speed is compared round by round: a change is real where the ranges that eight of ten rounds lie
in do not overlap and the medians differ by more than `SPEED_STEP`. Absolute times also follow
the machine's mood from one run to the next, which ratios to the baseline do not.
What has no spread (memory, sizes, quality) has a step of its own below which it is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ramedge.bench.result import BenchResult, Row, Spread, title

SPEED_STEP = 0.03
"""Of the median: less is not called a change whatever the rounds say."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one combination in two runs.

    Attributes:
        text: both values as they are shown.
        relative: the second over the first, less one; `None` for figures in dB.
        real: whether it is more than noise.
    """

    combination: str
    figure: str
    before: str
    after: str
    relative: float | None
    real: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that two runs have in common, compared.

    Attributes:
        machine: facts of the machine that differ, one line each.
        missing: combinations that only one of the runs has, one line each.
    """

    changes: tuple[Change, ...]
    machine: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure without spread: how to read and show it, and the step below which it is noise."""

    name: str
    value: Callable[[Row], float | None]
    text: str
    step: float
    relative: bool = True


_FIGURES = (
    _Figure("peak memory", lambda row: _mega(row.peak_bytes), "{:.0f} MB", 0.05),
    _Figure("device memory", lambda row: _mega(row.device_peak_bytes), "{:.0f} MB", 0.05),
    _Figure("model on disk", lambda row: _mega(row.model_bytes), "{:.2f} MB", 0.001),
    _Figure("agreement", lambda row: row.quality.psnr, "{:.1f} dB", 0.5, relative=False),
    _Figure("PSNR-Y", lambda row: row.quality.psnr_y, "{:.2f} dB", 0.01, relative=False),
)


def compare(first: BenchResult, second: BenchResult) -> Difference:
    """Compare the combinations that both runs have."""
    before = {row.combination.key: row for row in first.rows}
    after = {row.combination.key: row for row in second.rows}
    changes = [
        change for key, row in before.items() if key in after for change in _row(row, after[key])
    ]
    missing = [
        f"{_name(row)}: only in the {which}"
        for rows, others, which in ((before, after, "first"), (after, before, "second"))
        for key, row in rows.items()
        if key not in others
    ]
    return Difference(tuple(changes), tuple(_machine(first, second)), tuple(missing))


def _row(before: Row, after: Row) -> Iterator[Change]:
    name = _name(after)
    yield _speed(name, "time", before.latency, after.latency, 1e3, " ms")
    yield _speed(name, "speed against the baseline", before.ratio, after.ratio, 1.0, "×")
    for figure in _FIGURES:
        old, new = figure.value(before), figure.value(after)
        if old is None or new is None:
            continue
        moved = abs(new - old) / (abs(old) if figure.relative and old else 1.0)
        yield Change(
            name,
            figure.name,
            figure.text.format(old),
            figure.text.format(new),
            new / old - 1.0 if figure.relative and old else None,
            moved > figure.step,
        )
    if before.combination.ran != after.combination.ran:
        yield _fact(name, "arithmetic", before.combination.ran, after.combination.ran)
    was, now = ("bad" if row.quality.failure else "good" for row in (before, after))
    if was != now:
        yield _fact(name, "quality", was, now)


def _fact(name: str, figure: str, before: str, after: str) -> Change:
    return Change(name, figure, before, after, relative=None, real=True)


def _speed(
    name: str, figure: str, before: Spread, after: Spread, factor: float, unit: str
) -> Change:
    apart = after.low > before.high or after.high < before.low
    relative = after.median / before.median - 1.0
    texts = [
        f"{factor * one.median:.4g}{unit} ({factor * one.low:.4g} to {factor * one.high:.4g})"
        for one in (before, after)
    ]
    real = apart and abs(relative) > SPEED_STEP
    return Change(name, figure, texts[0], texts[1], relative, real)


def _machine(first: BenchResult, second: BenchResult) -> Iterator[str]:
    for fact in dict.fromkeys([*first.machine, *second.machine]):
        if fact == "date":
            continue
        old, new = first.machine.get(fact), second.machine.get(fact)
        if isinstance(old, dict) and isinstance(new, dict):
            for name in dict.fromkeys([*old, *new]):
                if old.get(name) != new.get(name):
                    yield f"{name}: {_plain(old.get(name))} → {_plain(new.get(name))}"
        elif old != new:
            yield f"{fact}: {_plain(old)} → {_plain(new)}"
    if first.baseline != second.baseline:
        yield f"baseline: {first.baseline} → {second.baseline}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _name(row: Row) -> str:
    one = row.combination
    return f"{title(one)} ×{one.scale} {one.height}x{one.width}"


def _mega(count: int | None) -> float | None:
    return None if count is None else count / 1e6
