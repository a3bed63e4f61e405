from __future__ import annotations

import numpy as np
import pytest

from ramedge.runtimes.limits import GraphMemory, MeasuredKind
from ramedge.runtimes.openvino.memory import MEASURED
from ramedge.runtimes.openvino.runtime import OpenVinoRuntime
from ramedge.tiling.choice import Whole
from ramedge.tiling.frame_memory import frame_memory
from ramedge.tiling.network_memory import estimated_memory, network_memory, peak_bytes
from ramedge.upscaling.open_model import RuntimeSettings, open_model

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
    opened = open_model(RuntimeSettings(precision="fp32"))
    with opened.runtime as runtime:
        runtime.precision, runtime.compute_dtype = precision, computed
        found = network_memory(runtime, pixels)
        assert found.frame == MEASURED["frame", 2, counted]
        assert found.blocks == MEASURED["blocks", 2, counted]
        memory = frame_memory(runtime, opened.halos, pixels)
    assert memory.needed(100, 100, Whole()).total == peak_bytes(found.frame, 10_000)


def test_a_network_of_another_size_is_not_counted_as_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_model(RuntimeSettings(precision="fp32")).runtime as runtime:
        assert isinstance(runtime, OpenVinoRuntime)
        excitation = runtime.excitation
        assert excitation is not None
        monkeypatch.setattr(type(excitation), "shape", (20, 96))
        found = network_memory(runtime, EIGHT)
        assert found.tile == estimated_memory("tile", 2, "float32", 20, 96)
        runtime.excitation = None
        assert network_memory(runtime, EIGHT).tile == MEASURED["tile", 2, "float32"]
