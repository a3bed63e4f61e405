"""The README's table is what was measured."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "summary_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("summary_table")


def test_the_readme_shows_the_results(script: ModuleType) -> None:
    readme = script.README.read_text(encoding="utf-8")
    quality, int8 = (
        json.loads(path.read_text(encoding="utf-8")) for path in (script.QUALITY, script.INT8)
    )
    assert script.rewrite(readme, script.NAME, script.block(quality, int8)) == readme


def test_quality_and_int8_were_measured_on_one_machine(script: ModuleType) -> None:
    """Otherwise the line below the table, which names one, would be wrong."""
    machines = [
        json.loads(path.read_text(encoding="utf-8"))["machine"]
        for path in (script.QUALITY, script.INT8)
    ]
    for part in ("date", "cpu", "cores"):
        assert machines[0][part] == machines[1][part]
