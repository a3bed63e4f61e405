from __future__ import annotations

import pytest

from ramedge.network.config import NetworkConfig
from ramedge.tiling.halos import CLOSE_PSNR, EXACT_MEAN_ERROR, HaloMeasurement, Halos, load_halos
from ramedge.upscaling.open_model import RuntimeSettings, open_model

MEASURED = (
    HaloMeasurement(4, 70.0, 1e-2, 1e-5, 1e-4),
    HaloMeasurement(8, CLOSE_PSNR, 1e-4, 1e-6, 1e-6),
    HaloMeasurement(20, 150.0, 1e-6, EXACT_MEAN_ERROR, 1e-9),
)


def test_the_smallest_halo_with_the_wanted_agreement() -> None:
    halos = Halos(34, MEASURED)
    assert halos.rendering("exact", 8) == 20
    assert halos.rendering("temporal", 8) == halos.rendering("fast", 8) == 8
    assert (halos.statistic(8), halos.statistic(16)) == (8, 20)


def test_what_the_receptive_field_cannot_do_is_not_asked_of_smaller_halos() -> None:
    """Where FP32's own rounding is above the wanted error, the smallest halo that adds none."""
    rounding = 5 * EXACT_MEAN_ERROR
    rows = (
        HaloMeasurement(8, 100.0, 1e-3, 20 * rounding, 2e-5),
        HaloMeasurement(12, 137.0, 1e-5, 1.2 * rounding, 5e-7),
        HaloMeasurement(16, 143.0, 1e-6, rounding, 5e-7),
        HaloMeasurement(34, 143.0, 1e-6, rounding, 5e-7),
    )
    assert Halos(34, rows).rendering("exact", 8) == 16


def test_int8_reads_further_where_tiles_are_to_be_the_frame() -> None:
    halos = Halos(34, (*MEASURED, HaloMeasurement(34, 150.0, 1e-6, 0.0, 1e-9)), minimum=24)
    assert (halos.rendering("exact", 8), halos.rendering("fast", 8)) == (34, 8)
    assert halos.statistic(8) == 24
    assert (Halos(10, minimum=24).rendering("exact", 8), Halos(10, minimum=24).statistic(8)) == (
        10,
        10,
    )


def test_16_bits_keep_the_receptive_field() -> None:
    assert Halos(34, MEASURED).rendering("exact", 16) == 34


@pytest.mark.parametrize("bits", [8, 16])
def test_without_measurements_the_receptive_field_counts(bits: int) -> None:
    assert Halos(34).rendering("exact", bits) == Halos(34).rendering("fast", bits) == 34
    assert Halos(34).statistic(bits) == 16
    assert Halos(10).statistic(bits) == 10


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_measurements_hold_for_the_shipped_weights_only(scale: int) -> None:
    """Fails after training: run benchmarks/halos.py on the new weights."""
    opened = open_model(RuntimeSettings(scale=scale))
    field = NetworkConfig().receptive_field(scale)
    assert opened.halos.receptive_field == field
    measured = opened.halos.measured
    assert [row.halo for row in measured] == sorted({row.halo for row in measured})
    assert measured[-1].halo == field
    # A wider halo never agrees less.
    assert [row.psnr for row in measured] == sorted(row.psnr for row in measured)
    assert load_halos("another network", scale, field, "fp32") == Halos(field)
    opened.runtime.close()
