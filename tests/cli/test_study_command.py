from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TINY = (
    "--steps", 2, "--blocks", 1, "--channels", 16, "--recipe", "paper", "--patch", 16,
    "--batch", 1, "--device", "cpu",
)  # fmt: skip


def test_a_study_from_the_command_line(ramedge, photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("study", "--data", photo_folder, "--eval", photo_folder, "-o", output, *TINY)
    ended = ramedge(*options)
    assert ended.code == 0, ended.err
    for name in ("none", "RAM CA", "CSAR", "study.md", "variances.png"):
        assert name in ended.out
    assert "CSAR (11/11)" in ended.err
    assert len(json.loads((output / "study.json").read_text(encoding="utf-8"))["rows"]) == 11
    for name in ("variances.png", "variances_ram.png", "features_ram.png"):
        with Image.open(output / name) as opened:
            assert min(opened.size) > 300

    again = ramedge(*options)
    assert again.code == 1
    assert "--resume" in again.error
    resumed = ramedge(*options, "--resume")
    assert resumed.code == 0
    assert resumed.out == ended.out


def test_figures_only(ramedge, small_weights: Path, photo_folder: Path, tmp_path: Path) -> None:
    ended = ramedge(
        "study", "--figures-only", small_weights, "--data", photo_folder, "-o", tmp_path
    )
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "features_ram.png", "variances_ram.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "/nonexistent"), "No such folder"),
        (("--eval", "/nonexistent"), "No such folder"),
        (("--channels", "8"), "too few"),
        (("--figures-only", "/nonexistent"), "No such weights file"),
    ],
)
def test_impossible_studies(
    ramedge, photo_folder: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = ramedge("study", "--data", photo_folder, *TINY, "-o", tmp_path / "out", *options)
    assert ended.code in {1, 2}
    assert message in ended.error
    assert not (tmp_path / "out").exists()


def test_a_study_needs_photos(ramedge) -> None:
    ended = ramedge("study")
    assert ended.code == 2
    assert "--data" in ended.error


@pytest.mark.parametrize("missing", ["torch", "matplotlib"])
def test_a_missing_extra_is_said_before_anything_runs(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\n"
    program += "from ramedge.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "study", "--data", "."],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert missing in done.stderr
    assert "pip install 'ramedge[train]'" in done.stderr
