from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ramedge.bench.compare import compare
from ramedge.bench.result import BenchResult

NOISY = (0.50, 0.55, 0.60, 0.52, 0.58)


def verdicts(first, second) -> dict[str, bool]:
    return {change.figure: change.real for change in compare(first, second).changes}


def run(result: BenchResult, *rows) -> BenchResult:
    return replace(result, rows=rows)


def test_a_run_does_not_differ_from_itself(result: BenchResult) -> None:
    found = compare(result, result)
    assert not any(change.real for change in found.changes)
    assert (found.machine, found.missing) == ((), ())


def test_a_drift_of_the_machine_moves_times_but_not_ratios(result: BenchResult, row) -> None:
    ratios = (2.0, 2.1, 1.9, 2.0, 2.05)
    slower = [1.4 * seconds for seconds in NOISY]
    found = verdicts(
        run(result, row("openvino", rounds=NOISY, ratios=ratios)),
        run(result, row("openvino", rounds=slower, ratios=ratios)),
    )
    assert found["time"]
    assert not found["speed against the baseline"]


def test_rounds_that_overlap_are_noise(result: BenchResult, row) -> None:
    later = [seconds * 1.05 for seconds in NOISY]
    assert not verdicts(run(result, row(rounds=NOISY)), run(result, row(rounds=later)))["time"]


def test_a_tiny_step_is_noise_however_steady_the_rounds(result: BenchResult, row) -> None:
    found = verdicts(run(result, row(rounds=[1.0] * 5)), run(result, row(rounds=[1.01] * 5)))
    assert not found["time"]


def test_what_has_no_spread_has_a_step(result: BenchResult, row) -> None:
    def memory(peak: int) -> bool:
        return verdicts(run(result, row()), run(result, row(peak=peak)))["peak memory"]

    assert not memory(310_000_000)
    assert memory(330_000_000)


def test_quality_that_turns_bad_is_a_change(result: BenchResult, row) -> None:
    found = verdicts(run(result, row()), run(result, row(failure="A tint.")))
    assert found["quality"]


def test_machines_and_missing_combinations_are_named(result: BenchResult) -> None:
    libraries = {"libraries": {"openvino": "2"}}
    first = replace(result, machine={**result.machine, "libraries": {"openvino": "1"}})
    second = replace(result, machine={**result.machine, **libraries, "cpu": "Z81"})
    found = compare(first, run(second, *result.rows[:2]))
    assert set(found.machine) == {"cpu: Z80 → Z81", "openvino: 1 → 2"}
    assert found.missing == ("OpenVINO fp16 (ran bf16) ×2 180x320: only in the first",)


def test_the_command_prints_both_lists(ramedge, result: BenchResult, row, tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, factor in zip(paths, (1, 2), strict=True):
        rows = [row(rounds=[factor * seconds for seconds in NOISY])]
        path.write_text(json.dumps(run(result, *rows).as_dict()))
    ended = ramedge("bench", "--compare", *paths)
    assert ended.code == 0, ended.err
    changed, noise = ended.out.split("Noise")
    assert "+100.0%" in changed
    assert "550 ms" in changed
    assert "peak memory" in noise
