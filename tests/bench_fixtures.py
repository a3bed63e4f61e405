"""Fixtures of the tests of `ramedge.bench`; `conftest.py` takes them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ramedge.bench.quality import Pictures, Quality, sample_pairs
from ramedge.bench.result import BenchResult, Combination, EndToEnd, Row
from ramedge.bench.stages import Stages

MACHINE = {"date": "2026-01-02", "cpu": "Z80", "cores": 2, "cpu_flags": ["avx2"], "gpus": []}


def make_row(
    runtime: str = "torch",
    precision: str = "fp32",
    rounds: Sequence[float] = (1.0, 1.1, 1.2),
    ratios: Sequence[float] | None = None,
    failure: str = "",
    model: str = "",
    peak: int | None = 300_000_000,
) -> Row:
    return Row(
        combination=Combination(
            runtime, precision, "bf16" if precision == "fp16" else precision, "cpu",
            "srram_r10c64", model, 2, 180, 320,
        ),
        rounds=tuple((seconds,) for seconds in rounds),
        ratios=(1.0,) * len(rounds) if ratios is None else tuple(ratios),
        load_seconds=1.5,
        model_bytes=3_800_000,
        peak_bytes=peak,
        device_peak_bytes=None,
        multiply_adds=53_913_600_000,
        roofline=2e11,
        joules={},
        quality=Quality("PyTorch fp32", 60.0, 0.004, (0.0, 0.0001, -0.0002), 34.88, 32.92, failure),
    )  # fmt: skip


@pytest.fixture
def row() -> Callable[..., Row]:
    return make_row


@pytest.fixture
def result() -> BenchResult:
    rows = (
        make_row(),
        make_row("openvino", "fp32", (0.5, 0.5, 0.6), (2.0, 2.2, 2.0)),
        make_row("openvino", "fp16", (0.2, 0.3, 0.2), (5.0, 3.7, 6.0)),
    )
    ends = (EndToEnd(rows[1].combination, "clip.mp4", (Stages(4, 2.0, 0.1, 1.8, 0.3),) * 3),)
    return BenchResult(rows, ends, "PyTorch fp32", ("a note",), True, MACHINE, "ramedge bench")


@pytest.fixture(scope="session")
def pictures() -> list[Pictures]:
    found = [Pictures(photo, 2) for photo in sample_pairs(2)]
    for one in found:
        worse = np.clip(one.photo.truth.astype(int) + 3, 0, 255).astype(np.uint8)
        one.outputs.update({"PyTorch fp32": one.photo.truth, "OpenVINO fp16": worse})
    return found
