"""Energy, where the platform counts it: RAPL, NVML, or the power rails of a Jetson.

All count a whole package, card or board, idle power included: what is drawn while a candidate
runs, not what it alone adds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
INA3221 = Path("/sys/bus/i2c/drivers/ina3221")
_BOARD_RAILS = frozenset({"VDD_IN", "POM_5V_IN", "SYS_VIN_5V0"})
"""Names of the rail that feeds a whole Jetson; the others are parts of it."""
_SAMPLE_SECONDS = 0.02


class Meter(Protocol):
    """Counts energy from some moment on.

    Attributes:
        name: what is counted, for the reader.
    """

    name: str

    def joules(self) -> float:
        """Energy since some fixed moment."""

    def close(self) -> None:
        """End what samples in the background; counting is over."""


def find_meters(powercap: Path = POWERCAP, ina3221: Path = INA3221) -> list[Meter]:
    """The energy meters of this machine: of CPU and GPU; none on most virtual machines.

    Args:
        powercap: folder of the RAPL counters in sysfs.
        ina3221: folder of a Jetson's power monitors in sysfs.
    """
    found = (rapl_meter(powercap), nvml_meter(), jetson_meter(ina3221))
    return [meter for meter in found if meter is not None]


class RaplMeter:
    """Intel's and AMD's counters of each processor package, in microjoules, which wrap."""

    name = "CPU package (RAPL)"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = self._read()
        self._total = 0

    def joules(self) -> float:
        """Energy since the meter was made."""
        now = self._read()
        for before, after, span in zip(self._last, now, self._ranges, strict=True):
            self._total += after - before if after >= before else after - before + span
        self._last = now
        return self._total / 1e6

    def close(self) -> None:
        """Nothing runs in the background: the processor counts."""

    def _read(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self._zones]


def rapl_meter(powercap: Path) -> RaplMeter | None:
    """The packages under `/sys/class/powercap`; `None` where there is none that may be read."""
    try:
        zones = [
            zone
            for zone in sorted(powercap.glob("intel-rapl:*"))
            if (zone / "name").read_text(encoding="utf-8").startswith("package")
        ]
        return RaplMeter(zones) if zones else None
    except (OSError, ValueError):  # the kernel lets only root read them, as a rule
        return None


class NvmlMeter:
    """An NVIDIA card's own counter, in millijoules, of the first card."""

    name = "GPU (NVML)"

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(0)
        self.joules()

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3

    def close(self) -> None:
        """Nothing runs in the background: the card counts."""


def nvml_meter() -> NvmlMeter | None:
    """`None` without the package `nvidia-ml-py`, a driver or a card that counts."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return NvmlMeter(pynvml)
    except Exception:  # absent, or any error of the driver's
        return None


class JetsonMeter:
    """The rail that feeds a Jetson, whose power is sampled and added up by a thread."""

    name = "board (INA3221)"

    def __init__(self, volts: Path, amperes: Path) -> None:
        self._volts, self._amperes = volts, amperes
        self._total = 0.0
        self._last = time.perf_counter(), self._watts()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="ramedge-power", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        """Energy since the meter was made, by the trapezoidal rule."""
        with self._lock:
            now = time.perf_counter(), self._watts()
            self._total += (now[0] - self._last[0]) * (now[1] + self._last[1]) / 2
            self._last = now
            return self._total

    def close(self) -> None:
        """End the sampling thread."""
        self._closed.set()
        self._thread.join()

    def _watts(self) -> float:
        return _number(self._volts) * _number(self._amperes) / 1e6  # millivolts, milliamperes

    def _sample(self) -> None:
        while not self._closed.wait(_SAMPLE_SECONDS):
            try:
                self.joules()
            except (OSError, ValueError):
                continue


def jetson_meter(driver: Path) -> JetsonMeter | None:
    """The sensors that jetson-stats reads as well; `None` where there is no rail of a board."""
    try:
        for label in sorted(driver.glob("*/hwmon/hwmon*/in*_label")):
            if label.read_text(encoding="utf-8").strip() in _BOARD_RAILS:
                number = label.name.removeprefix("in").removesuffix("_label")
                folder = label.parent
                return JetsonMeter(folder / f"in{number}_input", folder / f"curr{number}_input")
    except (OSError, ValueError):
        pass
    return None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
