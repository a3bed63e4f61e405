"""What was measured, as JSON has it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramedge.bench.quality import Quality
from ramedge.bench.stages import Stages
from ramedge.errors import InputError
from ramedge.runtimes.registry import title_of

SCHEMA = 1
KIND = "ramedge bench"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some rounds, and what eight of ten lie between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Median, 10th and 90th percentile, the latter two of values that occurred."""
        low = float(np.percentile(values, 10, method="lower"))
        high = float(np.percentile(values, 90, method="higher"))
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True, slots=True)
class Combination:
    """What one row is about; `name` and `model` are the same in two runs of the same thing.

    Attributes:
        runtime, precision: as asked for.
        ran: the precision that really ran.
        model: folder or file name, empty for the shipped one.
        height, width: of the frame, in low-resolution pixels.
    """

    runtime: str
    precision: str
    ran: str
    device: str
    network: str
    model: str
    scale: int
    height: int
    width: int

    @property
    def key(self) -> tuple[Any, ...]:
        """By which two runs are compared."""
        return (self.runtime, self.precision, self.model, self.scale, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Row:
    """One combination, the network alone.

    Attributes:
        rounds: seconds of each run, by round.
        ratios: of each round, the baseline's mean time over this one's: above 1 is faster.
        load_seconds: see `Opened`.
        model_bytes: of the files on disk that are run.
        peak_bytes, device_peak_bytes: the most memory its process held until the timed runs.
        multiply_adds: of one frame; `None` where they are not known.
        roofline: operations a second of a matrix product in this precision (`measure_rooflines`).
        joules: per frame, by name of the meter; empty where nothing counts energy.
        notes: fallbacks taken.
    """

    combination: Combination
    rounds: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    load_seconds: float
    model_bytes: int
    peak_bytes: int | None
    device_peak_bytes: int | None
    multiply_adds: int | None
    roofline: float | None
    joules: Mapping[str, float]
    quality: Quality
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> Spread:
        """Speed against the baseline, round by round."""
        return Spread.of(list(self.ratios))

    @property
    def latency(self) -> Spread:
        """Seconds of a run, round by round."""
        return Spread.of([statistics.fmean(one) for one in self.rounds])

    @property
    def runs(self) -> int:
        """How many were timed."""
        return sum(map(len, self.rounds))

    def percentile(self, percent: float) -> float:
        """Of the seconds of all runs; a run that happened, of few the slowest."""
        every = [seconds for one in self.rounds for seconds in one]
        return float(np.percentile(every, percent, method="higher"))

    @property
    def frames_per_second(self) -> float:
        """By the median run."""
        return 1.0 / self.percentile(50)

    @property
    def operations(self) -> float | None:
        """Operations a second, a multiply-add counting as two, by the median run."""
        if self.multiply_adds is None:
            return None
        return 2.0 * self.multiply_adds / self.percentile(50)

    @property
    def roofline_share(self) -> float | None:
        """Of the machine's matrix product."""
        if self.operations is None or not self.roofline:
            return None
        return self.operations / self.roofline

    def as_dict(self) -> dict[str, Any]:
        """Plain values, what is derived beside what was measured."""
        derived = {
            "runs": self.runs,
            "p50_ms": 1e3 * self.percentile(50),
            "p90_ms": 1e3 * self.percentile(90),
            "p99_ms": 1e3 * self.percentile(99),
            "frames_per_second": self.frames_per_second,
            "ratio": asdict(self.ratio),
            "gflops": None if self.operations is None else self.operations / 1e9,
            "roofline_share": self.roofline_share,
        }
        return asdict(self) | {"derived": derived}


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One candidate from file to file, in rounds; `source` is the file's name."""

    combination: Combination
    source: str
    rounds: tuple[Stages, ...]

    @property
    def frames_per_second(self) -> Spread:
        """Of the finished file, by round."""
        return Spread.of([one.frames / one.seconds for one in self.rounds])

    @property
    def total(self) -> Stages:
        """All rounds together."""
        sums = {name: sum(getattr(one, name) for one in self.rounds) for name in Stages.__slots__}
        return Stages(**sums)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, what is derived beside what was measured."""
        derived = {
            "frames_per_second": asdict(self.frames_per_second),
            "limit": self.total.limit,
        }
        return asdict(self) | {"derived": derived}


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A whole run.

    Attributes:
        baseline: by scale and size, what ratios are against: its title.
        notes: what the reader should know.
        complete: whether nothing was cut short by Ctrl-C.
        machine: see `describe_machine`.
        command: as it was typed.
    """

    rows: tuple[Row, ...]
    end_to_end: tuple[EndToEnd, ...]
    baseline: str
    notes: tuple[str, ...]
    complete: bool
    machine: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def failures(self) -> list[str]:
        """Why a quality is bad, a line for each candidate."""
        lines = [
            f"{title(row.combination)} ×{row.combination.scale}: {row.quality.failure}"
            for row in self.rows
            if row.quality.failure
        ]
        return list(dict.fromkeys(lines))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "command": self.command,
            "complete": self.complete,
            "baseline": self.baseline,
            "notes": list(self.notes),
            "machine": dict(self.machine),
            "rows": [row.as_dict() for row in self.rows],
            "end_to_end": [one.as_dict() for one in self.end_to_end],
        }


def title(one: Combination) -> str:
    """For example `OpenVINO fp16 (ran bf16)`, with the model's name where it is not ours."""
    ran = "" if one.ran == one.precision else f" (ran {one.ran})"
    model = f" {one.model}" if one.model else ""
    return f"{title_of(one.runtime)} {one.precision}{ran}{model}"


def load_result(path: Path) -> BenchResult:
    """Read what `as_dict` gave.

    Raises:
        InputError: the file cannot be read, is another thing, or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValueError:
        raise InputError(f"{path} is not JSON.") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError(f"{path} is not a result of ramedge bench.")
    if document.get("schema") != SCHEMA:
        raise InputError(
            f"{path} has schema {document.get('schema')}, this ramedge reads {SCHEMA}: "
            "measure again with one version."
        )
    try:
        return BenchResult(
            rows=tuple(_row(row) for row in document["rows"]),
            end_to_end=tuple(_end_to_end(one) for one in document["end_to_end"]),
            baseline=document["baseline"],
            notes=tuple(document["notes"]),
            complete=document["complete"],
            machine=dict(document["machine"]),
            command=document["command"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): measure again.") from None


def _row(document: Mapping[str, Any]) -> Row:
    values = {name: value for name, value in document.items() if name != "derived"}
    values["combination"] = Combination(**values["combination"])
    quality = dict(values["quality"])
    bias = quality["channel_bias"]
    quality["channel_bias"] = None if bias is None else tuple(bias)
    values["quality"] = Quality(**quality)
    values["rounds"] = tuple(tuple(map(float, one)) for one in values["rounds"])
    values["ratios"] = tuple(map(float, values["ratios"]))
    values["notes"] = tuple(values["notes"])
    row = Row(**values)
    if not row.rounds or not all(row.rounds) or len(row.ratios) != len(row.rounds):
        raise ValueError("a combination without a round")
    return row


def _end_to_end(document: Mapping[str, Any]) -> EndToEnd:
    rounds = tuple(Stages(**one) for one in document["rounds"])
    if not rounds:
        raise ValueError("a file without a round")
    return EndToEnd(Combination(**document["combination"]), str(document["source"]), rounds)
