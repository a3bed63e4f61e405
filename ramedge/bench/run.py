"""The run: every combination opened in a process of its own, timed in interleaved rounds."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from ramedge.bench.energy import find_meters
from ramedge.bench.inputs import chosen_sizes, frame_of
from ramedge.bench.quality import Judge, Pictures
from ramedge.bench.result import BenchResult, EndToEnd, Row
from ramedge.bench.rounds import (
    Lane,
    OnProgress,
    measure_rooflines,
    open_lane,
    run_end_to_end,
    run_rounds,
)
from ramedge.bench.settings import (
    BenchSettings,
    Candidate,
    Size,
    chosen_candidates,
    reference_of,
)
from ramedge.bench.worker import Worker
from ramedge.errors import UsageError
from ramedge.host_memory import available_bytes
from ramedge.network.config import config_of
from ramedge.samples import sample_clip
from ramedge.system import describe_machine, has_torch, usable_cores
from ramedge.tiling.network_memory import estimated_memory, peak_bytes


def run_bench(
    settings: BenchSettings,
    on_progress: OnProgress = lambda _stage, _done, _total, _next: None,
    command: str = "",
) -> tuple[BenchResult, list[Pictures]]:
    """Measure everything that the settings ask for.

    Ctrl-C after the first round gives what was measured until then, `complete` being false.

    Args:
        settings: what to measure.
        on_progress: told how far it is.
        command: stored in the result.

    Returns:
        The figures, and the pictures that each candidate made of the shipped photos.

    Raises:
        UsageError: nothing to measure, or more than the memory holds.
        RamedgeError: a model cannot be opened, or an input not read.
    """
    asked = chosen_candidates(settings)
    references = {candidate: reference_of(candidate, asked) for candidate in asked}
    added = [one for one in dict.fromkeys(references.values()) if one and one not in asked]
    references |= {reference: reference for reference in added}
    candidates = [*added, *asked]
    sizes = chosen_sizes(settings)
    _check_memory(candidates, sizes)
    judge = Judge()
    lanes: list[Lane] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramedge_bench_")))
        everything = [(candidate, size) for candidate in candidates for size in sizes]
        for index, (candidate, size) in enumerate(everything):
            on_progress("Opening", index, len(everything), f"{candidate.title} ×{candidate.scale}")
            worker = stack.enter_context(closing(Worker(candidate, frame_of(settings, size))))
            lane = open_lane(worker, candidate, size, settings.warmup, judge, references[candidate])
            lanes.append(lane)
        on_progress("Opening", len(everything), len(everything), "")
        meters = [stack.enter_context(closing(meter)) for meter in find_meters()]
        complete = run_rounds(lanes, settings, meters, on_progress)
        source = sample_clip() if settings.input is None else settings.input
        if complete:
            measure_rooflines(lanes)
        if complete and settings.end_to_end:
            complete = run_end_to_end(lanes, source, settings.seconds, folder, on_progress)
    baselines = [_baseline(lane, lanes, references[lane.candidate]) for lane in lanes]
    rows = [_row(lane, other) for lane, other in zip(lanes, baselines, strict=True)]
    ends = [
        EndToEnd(lane.combination, source.name, tuple(lane.stages)) for lane in lanes if lane.stages
    ]
    result = BenchResult(
        rows=tuple(rows),
        end_to_end=tuple(ends),
        baseline=", ".join(dict.fromkeys(other.candidate.title for other in baselines)),
        notes=tuple(dict.fromkeys(_notes(added, references, rows))),
        complete=complete,
        machine=describe_machine(),
        command=command,
    )
    return result, judge.pictures


def _notes(
    added: Sequence[Candidate], references: dict[Candidate, Candidate | None], rows: Sequence[Row]
) -> Iterator[str]:
    threads, cores = os.environ.get("OMP_NUM_THREADS"), usable_cores()
    if threads is not None and threads != str(cores):
        yield f"OMP_NUM_THREADS={threads}: PyTorch obeys it, OpenVINO uses all {cores} cores."
    if not has_torch():
        yield "PyTorch is not installed: all is compared with OpenVINO in FP32 instead."
    for candidate in added:
        yield f"{candidate.title} is measured as well: the baseline of the others."
    for candidate, reference in references.items():
        if reference is None:
            yield (
                f"{candidate.title}: the weights it was made from are not known here, so its "
                "agreement is not. Name them as another --model."
            )
    for row in rows:
        yield from row.notes


def _check_memory(candidates: Sequence[Candidate], sizes: Sequence[Size]) -> None:
    needed = sum(
        peak_bytes(estimated_memory("frame", candidate.scale, "float32"), size.height * size.width)
        for candidate in candidates
        for size in sizes
    )
    free = available_bytes()
    if needed > free:
        raise UsageError(
            f"{len(candidates) * len(sizes)} combinations, all open at a time, need about "
            f"{needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free: choose a "
            "smaller --size, or fewer with --runtime and --precision."
        )


def _baseline(lane: Lane, lanes: Sequence[Lane], reference: Candidate | None) -> Lane:
    """The lane that ratios are against: the reference's, or the first one alike."""
    alike = [
        other
        for other in lanes
        if (other.candidate.scale, other.size) == (lane.candidate.scale, lane.size)
    ]
    return next((other for other in alike if other.candidate == reference), alike[0])


def _row(lane: Lane, baseline: Lane) -> Row:
    config = config_of(lane.opened.network, lane.candidate.scale)
    each = None
    if config is not None:
        # PyTorch runs the network as it was trained, the others what was exported.
        as_trained = lane.candidate.runtime == "torch"
        count = config.multiply_adds if as_trained else config.collapsed_multiply_adds
        each = count(lane.candidate.scale)
    return Row(
        combination=lane.combination,
        rounds=tuple(lane.rounds),
        ratios=tuple(
            statistics.fmean(other) / statistics.fmean(own)
            for other, own in zip(baseline.rounds, lane.rounds, strict=True)
        ),
        load_seconds=lane.opened.load_seconds,
        model_bytes=lane.opened.model_bytes,
        peak_bytes=lane.peak.host,
        device_peak_bytes=lane.peak.device,
        multiply_adds=None if each is None else each * lane.size.height * lane.size.width,
        roofline=lane.roofline,
        joules={
            name: statistics.fmean(one[name] for one in lane.joules)
            for name in (lane.joules[0] if lane.joules else ())
        },
        quality=lane.quality,
        notes=lane.opened.notes,
    )
