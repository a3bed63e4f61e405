from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from ramedge.network.config import ATTENTION_NAMES
from ramedge.study.paper import PARAMETERS_THOUSANDS, paper_psnr
from ramedge.study.report import as_report, table
from ramedge.study.result import Photos, Row, SetScore, Study
from ramedge.study.settings import StudySettings
from ramedge.training.recipe import FAST

MACHINE = {"date": "2026-01-02", "cores": 2, "cpu": "A CPU"}


def row(attention: str, psnr: float, held_out: float | None = 30.0) -> Row:
    score = SetScore("set14", "/sets/set14", psnr, 0.9, 30.24, 0.87, 14, 0)
    return Row(attention, 1234567, held_out, (score,), f"{attention}/w.safetensors", "00")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    settings = StudySettings(
        data=tmp_path, output=tmp_path, recipe=FAST, steps=2000, sets=(Path("/sets/set14"),)
    )
    rows = tuple(row(name, 31 + i / 100) for i, name in enumerate(ATTENTION_NAMES))
    return Study(settings, Photos("0" * 64, 100, 3), MACHINE, rows)


def lines(study: Study) -> dict[str, tuple[str, ...]]:
    """Cells by label; the paper's under the label of the row above and " paper"."""
    found: dict[str, tuple[str, ...]] = {}
    last = ""
    for label, *cells in table(study).rows:
        last = f"{last} paper" if label.startswith("the paper") else label
        found[last] = tuple(cells)
    return found


def test_the_table_is_laid_out_as_table_2(study: Study) -> None:
    assert table(study).header[1:] == (
        "none", "RAM CA", "RAM SA", "RAM", "RCAB", "CBAM CA", "CBAM SA", "CBAM", "CSAR CA",
        "CSAR SA", "CSAR",
    )  # fmt: skip
    found = lines(study)
    assert list(found) == [
        "parameters", "parameters paper", "held-out photos (3)", "set14", "set14 paper",
    ]  # fmt: skip
    assert found["parameters"] == ("1,234,567",) * 11
    assert found["set14"][0] == "31.00"
    assert found["set14"][10] == "**31.10**"
    assert found["set14 paper"][2] == "**33.59**"


def test_the_report_says_what_was_run_and_what_the_paper_ran(study: Study) -> None:
    text = as_report(study)
    for part in (
        "R = 4, C = 32", "2,000 steps of 16 patches of 48×48", "`fast`", "seed 0", "100 photos",
        "R = 16, C = 64 and 1,000,000 steps", "A CPU", "Bicubic: set14 30.24 dB",
    ):  # fmt: skip
        assert part in text
    assert "are done" not in text


def test_a_study_on_the_way_leaves_places_empty(study: Study) -> None:
    partial = dataclasses.replace(study, rows=study.rows[:2])
    assert lines(partial)["set14"] == ("31.00", "**31.01**", *("–",) * 9)
    assert "2 of 11 are done" in as_report(partial)


def test_without_held_out_photos_there_is_no_such_row(study: Study) -> None:
    rows = tuple(dataclasses.replace(row, held_out=None) for row in study.rows)
    assert not any("held-out" in label for label in lines(dataclasses.replace(study, rows=rows)))


def test_a_set_of_ours_has_no_row_of_the_paper(study: Study) -> None:
    settings = dataclasses.replace(study.settings, sets=(Path("/sets/holiday"),))
    assert "holiday paper" not in lines(dataclasses.replace(study, settings=settings))


def test_rows_survive_json(study: Study) -> None:
    document = json.loads(json.dumps(study.as_dict(), allow_nan=False))
    assert tuple(Row.from_dict(row) for row in document["rows"]) == study.rows


def test_the_figures_are_the_papers(paper_text: str) -> None:
    table_2 = paper_text[paper_text.index("# params.") : paper_text.index("Table 2: Performance")]
    printed = {
        line.split("\t")[0]: line.split("\t")[1:] for line in table_2.splitlines() if "\t" in line
    }
    assert [f"{count}K" for count in PARAMETERS_THOUSANDS.values()] == printed["# params."]
    for name in ("Set5", "Set14", "BSD100", "Urban100", "Manga109"):
        values = paper_psnr(name)
        assert values is not None
        assert list(values) == list(ATTENTION_NAMES)
        assert [f"{value:.2f}" for value in values.values()] == printed[name]
    assert not re.search(r"Set\d+", " ".join(printed.keys() - {"Set5", "Set14"}))
