"""The README's table of quality is what was measured."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "quality_table.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source tree")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as running it does
        yield importlib.import_module("quality_table")


def test_the_readme_shows_the_results(script: ModuleType) -> None:
    document = json.loads(script.QUALITY.read_text(encoding="utf-8"))
    readme = script.README.read_text(encoding="utf-8")
    assert script.rewrite(readme, script.NAME, script.block(document)) == readme


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


def test_only_the_block_is_replaced(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nafter\n")
    monkeypatch.setattr(sys, "argv", ["quality_table.py", str(script.QUALITY), str(readme)])
    script.main()
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- quality:begin -->\n| scale |")
    assert text.endswith("\n<!-- quality:end -->\nafter\n")
    assert "old" not in text
    with pytest.raises(SystemExit, match="no <!-- quality:begin -->"):
        script.rewrite("nothing", script.NAME, "table")
