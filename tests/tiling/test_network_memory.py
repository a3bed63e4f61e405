from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ramedge.runtimes.limits import GraphMemory, Limits, MeasuredKind
from ramedge.runtimes.openvino.memory import MEASURED
from ramedge.tiling.choice import Whole
from ramedge.tiling.frame_memory import frame_memory
from ramedge.tiling.halos import Halos
from ramedge.tiling.network_memory import estimated_memory, network_memory, peak_bytes

EIGHT, SIXTEEN = np.dtype(np.uint8), np.dtype(np.uint16)
KINDS: tuple[MeasuredKind, ...] = ("frame", "tile", "statistics", "blocks")


@pytest.mark.parametrize(("kind", "scale", "dtype"), MEASURED)
def test_the_formula_is_at_most_a_quarter_above_what_was_measured(
    kind: MeasuredKind, scale: int, dtype: str
) -> None:
    found, measured = estimated_memory(kind, scale, dtype), MEASURED[kind, scale, dtype]
    assert measured.fixed_bytes <= found.fixed_bytes <= 1.25 * measured.fixed_bytes
    assert measured.bytes_per_pixel <= found.bytes_per_pixel <= 1.25 * measured.bytes_per_pixel


@pytest.mark.parametrize("kind", KINDS)
def test_another_network_is_counted_by_its_blocks_and_channels(kind: MeasuredKind) -> None:
    """Blocks add memory only where each has a graph of its own, apart from the weights."""
    small = estimated_memory(kind, 2, "float32", blocks=10, channels=32)
    large = estimated_memory(kind, 2, "float32", blocks=10, channels=64)
    deep = estimated_memory(kind, 2, "float32", blocks=21, channels=64)
    tail = 0 if kind == "statistics" else 96
    assert large.bytes_per_pixel - tail == 2 * (small.bytes_per_pixel - tail)
    grown = 2 if kind == "blocks" else 1
    assert deep.bytes_per_pixel - tail == grown * (large.bytes_per_pixel - tail)
    assert small.fixed_bytes < large.fixed_bytes < deep.fixed_bytes


def test_fp16_counts_as_bfloat16() -> None:
    for kind in KINDS:
        assert estimated_memory(kind, 3, "float16") == estimated_memory(kind, 3, "bfloat16")


def test_peak_grows_with_the_pixels() -> None:
    assert peak_bytes(GraphMemory(1000, 7), 100) == 1700


@pytest.mark.parametrize(
    ("precision", "computed", "pixels", "counted"),
    [
        ("fp32", "float32", EIGHT, "float32"),
        ("bf16", "bfloat16", EIGHT, "bfloat16"),
        ("bf16", "bfloat16", SIXTEEN, "float32"),
        ("int8", "bfloat16", EIGHT, "int8"),
        ("int8", "float32", EIGHT, "float32"),
        ("int8", "bfloat16", SIXTEEN, "float32"),
    ],
)
def test_the_measured_memory_is_that_of_what_really_runs(
    precision: str, computed: str, pixels: np.dtype, counted: str
) -> None:
    runtime = fake_runtime(precision, computed, (10, 64))
    found = network_memory(runtime, pixels)  # type: ignore[arg-type]
    assert found.frame == MEASURED["frame", 2, counted]
    assert found.blocks == MEASURED["blocks", 2, counted]
    memory = frame_memory(runtime, Halos(34), pixels)  # type: ignore[arg-type]
    assert memory.needed(100, 100, Whole()).total == peak_bytes(found.frame, 10_000)
    assert memory.feature_bytes == 2 * 64 * 2


def test_a_network_of_another_size_is_not_counted_as_measured() -> None:
    found = network_memory(fake_runtime("fp32", "float32", (20, 96)), EIGHT)  # type: ignore[arg-type]
    assert found.tile == estimated_memory("tile", 2, "float32", 20, 96)


def test_a_model_without_tiles_counts_as_the_shipped_network() -> None:
    found = network_memory(fake_runtime("fp32", "float32", None), EIGHT)  # type: ignore[arg-type]
    assert found.tile == MEASURED["tile", 2, "float32"]


def fake_runtime(
    precision: str, compute_dtype: str, shape: tuple[int, int] | None
) -> SimpleNamespace:
    """Says of itself what OpenVINO's would, and computes nothing."""
    return SimpleNamespace(
        scale=2,
        precision=precision,
        compute_dtype=compute_dtype,
        limits=Limits(measured=MEASURED),
        excitation=None if shape is None else SimpleNamespace(shape=shape),
        feature_type=lambda _pixels: np.dtype(np.float16),
    )
