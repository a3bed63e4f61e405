from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ramedge.network.config import NetworkConfig
from ramedge.quality.evaluation import Evaluation, Failure, Score
from ramedge.quality.paper_results import NETWORK, TABLE_4, paper_figures
from ramedge.quality.tables import as_markdown, summarize

MEAN = Score("mean", 37.206, 0.95716, 33.672, 0.93034)


def evaluation(folder: str, scale: int = 2, **changes: object) -> Evaluation:
    plain = Evaluation(
        folder=folder, name=Path(folder).name, scale=scale, network="srram_r10c64",
        runtime="openvino", precision="fp32", ensemble=False, images=(MEAN,), mean=MEAN,
    )  # fmt: skip
    return replace(plain, **changes)


def test_the_papers_network_is_the_default_one() -> None:
    assert NetworkConfig().name == NETWORK


def test_published_figures_are_in_the_paper(paper_text: str) -> None:
    """Each row of Table 4 as it stands in the paper's text, one for each scale in order."""
    rows = re.findall(r"^\s*SRRAM\t([\d,]+)K\t(.*)$", paper_text, re.MULTILINE)
    light = [row for count, row in rows if count in {"942", "1,127", "1,090"}]
    assert len(light) == 3
    for scale, row in zip((2, 3, 4), light, strict=True):
        printed = re.findall(r"([\d.]+) / ([\d.]+)", row)
        ours = [(f"{f.psnr:.2f}", f"{f.ssim:.4f}") for f in TABLE_4[scale].values()]
        assert list(TABLE_4[scale]) == ["set5", "set14", "bsd100", "urban100"]
        assert ours == printed


@pytest.mark.parametrize("name", ["Set5", "SET5", "set5"])
def test_sets_are_known_by_name_in_any_case(name: str) -> None:
    assert paper_figures("srram_r10c64", name, 4) == TABLE_4[4]["set5"]


@pytest.mark.parametrize(
    ("network", "name"),
    [("srram_r16c64", "Set5"), ("srram_r10c64_csar", "Set5"), ("srram_r10c64", "photos")],
)
def test_the_paper_says_nothing_of_others(network: str, name: str) -> None:
    assert paper_figures(network, name, 2) is None


def test_a_table_as_the_papers() -> None:
    summary = summarize([evaluation("data/Set5"), evaluation("photos"), evaluation("data/Set5", 3)])
    assert as_markdown(summary).splitlines() == [
        "| scale | PSNR-Y (dB) / SSIM-Y | Set5 | photos |",
        "|---|---|---|---|",
        "| ×2 | bicubic | 33.67 / 0.9303 | 33.67 / 0.9303 |",
        "| ×2 | SRRAM_R10C64, the paper | 37.82 / 0.9592 | – |",
        "| ×2 | ours | 37.21 / 0.9572 | 37.21 / 0.9572 |",
        "| ×3 | bicubic | 33.67 / 0.9303 | – |",
        "| ×3 | SRRAM_R10C64, the paper | 34.30 / 0.9256 | – |",
        "| ×3 | ours | 37.21 / 0.9572 | – |",
    ]


def test_the_papers_row_is_left_out_where_it_says_nothing() -> None:
    for alone in (evaluation("photos"), evaluation("Set5", network="srram_r16c64")):
        assert [row[1] for row in summarize([alone]).rows] == ["bicubic", "ours"]


def test_the_ensemble_has_a_row_of_its_own() -> None:
    better = replace(MEAN, psnr=37.4)
    summary = summarize([evaluation("Set5"), evaluation("Set5", ensemble=True, mean=better)])
    assert [row[1:] for row in summary.rows[2:]] == [
        ("ours", "37.21 / 0.9572"), ("ours, self-ensemble", "37.40 / 0.9572"),
    ]  # fmt: skip


def test_sets_of_one_name_are_told_apart_and_bars_do_not_break_the_table() -> None:
    text = as_markdown(summarize([evaluation("a/Set5"), evaluation("b/Set5"), evaluation("x|y")]))
    assert text.splitlines()[0].endswith(r"| a/Set5 | b/Set5 | x\|y |")


def test_means_that_leave_images_out_say_so() -> None:
    failed = (Failure("bad.png", "Cannot read bad.png."),)
    text = as_markdown(summarize([evaluation("Set5", failed=failed)]))
    assert text.endswith("\n\n- Set5 ×2: 1 of 2 images\n")
