"""Combinations while they are measured: opened one by one, then timed in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ramedge.bench.energy import Meter
from ramedge.bench.inputs import first_frame
from ramedge.bench.quality import Judge, Quality
from ramedge.bench.result import Combination
from ramedge.bench.settings import FEWEST_ROUNDS, BenchSettings, Candidate, Size, model_name
from ramedge.bench.stages import Stages
from ramedge.bench.worker import Opened, Peak, Worker
from ramedge.jobs.output_paths import Job

_TURN_SECONDS = 0.05
"""A candidate that is faster than this does several runs in its turn."""
_WARMUP_SECONDS = 2.0
_OVERTIME = 1.5
"""Rounds are planned from the warm-up; on a machine that slows down they end here."""
_END_TO_END_ROUNDS = 3
_END_TO_END_SHARE = 0.5
"""What is run end to end takes this share of the timed seconds on top of them."""
_END_TO_END_FRAMES = (2, 100)

OnProgress = Callable[[str, int, int, str], None]
"""Told a stage, how many of its steps are done, of how many, and what the next one is."""


@dataclass(slots=True)
class Lane:
    """A combination while it is measured."""

    candidate: Candidate
    size: Size
    worker: Worker
    opened: Opened
    seconds: float
    peak: Peak
    quality: Quality
    roofline: float | None
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    joules: list[dict[str, float]] = field(default_factory=list)
    stages: list[Stages] = field(default_factory=list)

    @property
    def turn(self) -> int:
        """Runs in one turn."""
        return max(1, int(_TURN_SECONDS / self.seconds))

    @property
    def combination(self) -> Combination:
        """What its row is about."""
        return Combination(
            runtime=self.candidate.runtime,
            precision=self.candidate.precision,
            ran=self.opened.precision,
            device=self.opened.device,
            network=self.opened.network,
            model=model_name(self.candidate.model),
            scale=self.candidate.scale,
            height=self.size.height,
            width=self.size.width,
        )


def open_lane(
    worker: Worker,
    candidate: Candidate,
    size: Size,
    warmup: int,
    judge: Judge,
    reference: Candidate | None,
) -> Lane:
    """Open, warm up, and measure what is measured once."""
    opened = worker.open()
    seconds: list[float] = []
    while len(seconds) < warmup and sum(seconds) < _WARMUP_SECONDS:
        seconds += worker.time(1)
    return Lane(
        candidate=candidate,
        size=size,
        worker=worker,
        opened=opened,
        seconds=min(seconds),
        peak=worker.peak(),  # before the photos, whose size is another
        quality=judge.assess(worker, candidate, opened.precision, reference),
        roofline=worker.roofline(),
    )


def measure_rooflines(lanes: Sequence[Lane]) -> None:
    """Once more after the rounds; the roofline is the best of all in one precision on one device.

    A machine can do what any of its runtimes does.
    """
    best: dict[tuple[str, str], float] = {}
    for lane in lanes:
        key = lane.opened.precision, lane.opened.device.lower()
        again = lane.worker.roofline()
        best[key] = max(best.get(key, 0.0), lane.roofline or 0.0, again or 0.0)
    for lane in lanes:
        lane.roofline = best[lane.opened.precision, lane.opened.device.lower()] or None


def run_rounds(
    lanes: Sequence[Lane],
    settings: BenchSettings,
    meters: Sequence[Meter],
    on_progress: OnProgress,
) -> bool:
    """A B C A B C …: what drifts hits all alike. False where Ctrl-C cut it short."""
    round_seconds = sum(lane.turn * lane.seconds for lane in lanes)
    planned = int(settings.seconds / round_seconds)
    count = min(max(planned, FEWEST_ROUNDS), settings.iterations)
    started = time.perf_counter()
    try:
        for number in range(count):
            late = time.perf_counter() - started > _OVERTIME * settings.seconds
            if late and number >= FEWEST_ROUNDS:
                break
            for index, lane in enumerate(lanes):
                done = number * len(lanes) + index
                on_progress("Timing", done, count * len(lanes), lane.candidate.title)
                before = [meter.joules() for meter in meters]
                lane.rounds.append(tuple(lane.worker.time(lane.turn)))
                lane.joules.append(
                    {
                        meter.name: (meter.joules() - first) / lane.turn
                        for meter, first in zip(meters, before, strict=True)
                    }
                )
        on_progress("Timing", count * len(lanes), count * len(lanes), "")
    except KeyboardInterrupt:
        whole = min(len(lane.rounds) for lane in lanes)
        if whole == 0:
            raise
        for lane in lanes:
            del lane.rounds[whole:], lane.joules[whole:]
        return False
    return True


def run_end_to_end(
    lanes: Sequence[Lane], source: Path, seconds: float, folder: Path, on_progress: OnProgress
) -> bool:
    """Each candidate on the file, in rounds as well. False where Ctrl-C cut it short."""
    candidates = list({lane.candidate: lane for lane in reversed(lanes)}.values())[::-1]
    frames = 1
    if not Job(source, source).is_image:
        height, width = first_frame(source).shape[:2]
        each = sum(
            lane.seconds * height * width / (lane.size.height * lane.size.width)
            for lane in candidates
        )
        least, most = _END_TO_END_FRAMES
        budget = _END_TO_END_SHARE * seconds / _END_TO_END_ROUNDS
        frames = min(max(int(budget / each), least), most)
    total = _END_TO_END_ROUNDS * len(candidates)
    try:
        for number in range(_END_TO_END_ROUNDS):
            for index, lane in enumerate(candidates):
                done = number * len(candidates) + index
                on_progress("End to end", done, total, lane.candidate.title)
                lane.stages.append(lane.worker.end_to_end(source, frames, folder))
        on_progress("End to end", total, total, "")
    except KeyboardInterrupt:
        return False
    return True
