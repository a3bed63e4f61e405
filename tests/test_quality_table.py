"""The tables of quality of the pages and the model cards are what was measured."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ramedge.weights import shipped_scales

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "quality_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("quality_table")


def test_every_page_shows_the_results(script: ModuleType) -> None:
    document = json.loads(script.QUALITY.read_text(encoding="utf-8"))
    pages = script.pages(document)
    assert [page.name for page in pages] == [
        "quality_and_speed.md", *(f"srram_r10c64_x{scale}.md" for scale in shipped_scales())
    ]  # fmt: skip
    for page, table in pages.items():
        text = page.read_text(encoding="utf-8")
        assert script.rewrite(text, script.NAME, table) == text


def test_the_results_are_of_whole_sets(script: ModuleType) -> None:
    document = json.loads(script.QUALITY.read_text(encoding="utf-8"))
    assert document["machine"]["date"]
    for part in document.get("evaluations", [document]):
        assert not part["failed"]
        assert not Path(part["folder"]).is_absolute()


def test_one_set_and_several_are_read(script: ModuleType, tmp_path: Path) -> None:
    single = json.loads(script.QUALITY.read_text(encoding="utf-8"))
    part = single.get("evaluations", [single])[0]
    several = {"evaluations": [part, part | {"folder": "Set14", "name": "Set14"}]}
    assert "| Set5 |" in script.block(part)
    assert "Measured" not in script.block(several)
    assert "| Set14 |" in script.block(several)


def test_only_the_block_is_replaced(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nafter\n")
    script.write_page(page, "| scale |\n")
    assert page.read_text(encoding="utf-8") == (
        "before\n<!-- quality:begin -->\n| scale |\n<!-- quality:end -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="no <!-- quality:begin -->"):
        script.rewrite("nothing", script.NAME, "table")
