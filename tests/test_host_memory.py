from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ramedge import host_memory
from ramedge.host_memory import available_bytes, peak_resident_bytes, resident_bytes

pytestmark = pytest.mark.base


def test_what_the_system_tells_is_plausible() -> None:
    block = bytearray(64 << 20)
    assert len(block) < resident_bytes() < 1 << 40
    assert available_bytes() > 1 << 20


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("1000\n", "300\n", 700),
        ("1000\n", "3000\n", 0),
        ("max\n", "300\n", 5000),
        (None, "1", 5000),
    ],
)
def test_a_containers_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, used: str, expected: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    monkeypatch.setattr(host_memory, "_CGROUP", tmp_path)
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    assert available_bytes() == expected


def test_windows_tells_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(psutil, "Process", lambda: told)
    assert peak_resident_bytes() == 123


def test_another_system_hides_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "sunos5")
    assert peak_resident_bytes() is None
