"""The table of docs/research/tiles.md is what was measured, and holds what the page promises."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "tiles_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("tiles_table")


def test_the_page_shows_the_results(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.write(page, json.loads(script.TILES.read_text(encoding="utf-8"))) == page


def test_exact_tiles_in_fp32_are_the_whole_frame(script: ModuleType) -> None:
    """1e-4 of full scale at most; of 100,000 8-bit values at most one differs, by one."""
    rows = json.loads(script.TILES.read_text(encoding="utf-8"))["rows"]
    exact = [row for row in rows if row["mode"] == "exact" and row["precision"] == "fp32"]
    measured = {(row["scale"], row["tile"]) for row in exact}
    assert measured == {(scale, tile) for scale in (2, 3, 4) for tile in (48, 128, 256, 512)}
    for row in exact:
        assert row["max_error"] <= 1e-4, row
        assert row["flipped"] <= 1e-5, row
        assert row["largest_flip"] <= 1, row
