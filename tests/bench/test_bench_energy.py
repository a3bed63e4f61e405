from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ramedge.bench import energy
from ramedge.bench.energy import NvmlMeter, find_meters, jetson_meter, rapl_meter


def package(powercap: Path, number: int, joules: float, name: str = "package") -> Path:
    zone = powercap / f"intel-rapl:{number}"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(f"{name}-{number}\n")
    (zone / "max_energy_range_uj").write_text("100000000\n")
    (zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    return zone


def test_packages_are_added_and_their_counters_wrap(tmp_path: Path) -> None:
    package(tmp_path, 0, 10)
    package(tmp_path, 1, 95)
    package(tmp_path, 2, 50, name="psys")
    meter = rapl_meter(tmp_path)
    assert meter is not None
    assert meter.joules() == 0
    package(tmp_path, 0, 13)
    package(tmp_path, 1, 1)  # 5 J to the end of 100, then 1
    package(tmp_path, 2, 90, name="psys")
    assert meter.joules() == pytest.approx(9)
    package(tmp_path, 0, 14)
    assert meter.joules() == pytest.approx(10)


def test_no_counter_is_no_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rapl_meter(tmp_path) is None
    assert jetson_meter(tmp_path) is None
    zone = package(tmp_path, 0, 1)
    (zone / "energy_uj").write_text("")
    assert rapl_meter(tmp_path) is None
    (zone / "energy_uj").unlink()
    (zone / "energy_uj").mkdir()  # reading fails as without the permission, for root as well
    assert rapl_meter(tmp_path) is None
    monkeypatch.setattr(energy, "nvml_meter", lambda: None)
    assert find_meters(powercap=tmp_path, ina3221=tmp_path) == []


def test_a_jetson_s_board_rail_is_integrated(tmp_path: Path) -> None:
    folder = tmp_path / "1-0040" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    for number, (label, millivolts, milliamperes) in enumerate(
        [("VDD_CPU_GPU_CV", 5000, 900), ("VDD_IN", 5000, 2000)], 1
    ):
        (folder / f"in{number}_label").write_text(f"{label}\n")
        (folder / f"in{number}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")
    meter = jetson_meter(tmp_path)
    assert meter is not None
    before, started = meter.joules(), time.perf_counter()
    time.sleep(0.1)
    drawn, seconds = meter.joules() - before, time.perf_counter() - started
    meter.close()
    assert drawn == pytest.approx(10 * seconds, rel=0.05)  # 5 V × 2 A
    assert not [t for t in threading.enumerate() if t.name == "ramedge-power"]


def test_nvml_counts_in_millijoules() -> None:
    class Nvml:
        @staticmethod
        def nvmlDeviceGetHandleByIndex(index: int) -> str:  # noqa: N802
            return f"card {index}"

        @staticmethod
        def nvmlDeviceGetTotalEnergyConsumption(handle: str) -> int:  # noqa: N802
            assert handle == "card 0"
            return 12_500

    assert NvmlMeter(Nvml()).joules() == 12.5
