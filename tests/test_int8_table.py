"""The tables of docs/research/int8.md are what was measured, and hold what the page promises."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "int8_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("int8_table")


def test_the_page_shows_the_results(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.write(page, json.loads(script.INT8.read_text(encoding="utf-8"))) == page


def test_nobody_can_see_it(script: ModuleType) -> None:
    """The budget: 0.05 dB on the mean of a set, 0.15 on an image, a quarter of a level of tint."""
    result = json.loads(script.INT8.read_text(encoding="utf-8"))
    assert {row["scale"] for row in result["loss"]} == {2, 3, 4}
    for row in result["loss"]:
        assert row["mean"] <= 0.05, row
        assert row["worst"] <= 0.15, row
        assert row["bias_worst"] <= 0.25, row
