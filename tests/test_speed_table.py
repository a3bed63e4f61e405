"""The table of speed is what was measured."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ramedge.bench.result import load_result

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "speed_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("speed_table")


def test_the_page_shows_the_results(script: ModuleType) -> None:
    page = script.MEASUREMENTS.read_text(encoding="utf-8")
    table = script.block(load_result(script.SPEED))
    assert script.rewrite(page, script.NAME, table) == page


def test_the_results_are_whole_and_good(script: ModuleType) -> None:
    result = load_result(script.SPEED)
    assert result.complete
    assert result.failures == []
    assert result.baseline == "PyTorch fp32"
    assert result.machine["date"] in script.block(result)
    assert result.machine["cpu"] in script.block(result)
