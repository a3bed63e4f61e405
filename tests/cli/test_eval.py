from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ramedge.weights import shipped_scales


@pytest.fixture
def sets(photo: np.ndarray, tmp_path: Path) -> list[Path]:
    """Folders `set5` and `other` with a small photo each."""
    for index, name in enumerate(("set5", "other")):
        (tmp_path / name).mkdir()
        Image.fromarray(photo[index : index + 48]).save(tmp_path / name / "photo.png")
    return [tmp_path / "set5", tmp_path / "other"]


def test_one_set_at_one_scale_keeps_its_table_and_json(
    ramedge, sets: list[Path], tmp_path: Path
) -> None:
    table, scores = tmp_path / "t.md", tmp_path / "s.json"
    ended = ramedge("eval", sets[0], "--scale", "2", "--json", scores, "--markdown", table)
    assert ended.code == 0, ended.err
    assert "photo.png" in ended.out
    assert "gain dB" in ended.out
    document = json.loads(scores.read_text())
    assert (document["scale"], document["network"]) == (2, "srram_r10c64")
    assert document["failed"] == []
    assert document["paper"] == {"psnr": 37.82, "ssim": 0.9592}
    assert document["machine"]["libraries"]["numpy"] == np.__version__
    assert not document["ensemble"]
    assert "| ×2 | SRRAM_R10C64, the paper | 37.82 / 0.9592 |" in table.read_text(encoding="utf-8")


def test_a_table_that_is_piped_is_not_folded(ramedge, sets: list[Path], tmp_path: Path) -> None:
    more = [tmp_path / f"a_set_with_quite_a_long_name_{index}" for index in range(3)]
    for folder in more:
        folder.symlink_to(sets[1])
    ended = ramedge("eval", sets[0], *more)
    assert ended.code == 0, ended.err
    rows = [line for line in ended.out.splitlines() if "×2" in line]
    assert len(rows) == 3
    assert all(line.count(" / ") == 4 for line in (rows[0], rows[2]))
    assert all(f" {folder.name} " in ended.out for folder in more)


def test_several_sets_give_a_table_of_means(ramedge, sets: list[Path], tmp_path: Path) -> None:
    ended = ramedge("eval", *sets, "--json", tmp_path / "s.json")
    assert ended.code == 0, ended.err
    assert "photo.png" not in ended.out
    lines = [line for line in ended.out.splitlines() if "the paper" in line]
    assert len(lines) == 1
    assert "37.82 / 0.9592" in lines[0]
    assert "–" in lines[0]
    document = json.loads((tmp_path / "s.json").read_text())
    assert [part["name"] for part in document["evaluations"]] == ["set5", "other"]
    assert document["evaluations"][0]["images"][0]["name"] == "photo.png"
    assert document["evaluations"][1]["paper"] is None
    for part in document["evaluations"]:
        mean = part["mean"]
        assert f"{mean['psnr']:.2f} / {mean['ssim']:.4f}" in ended.out
        assert f"{mean['bicubic_psnr']:.2f} / {mean['bicubic_ssim']:.4f}" in ended.out


@pytest.mark.parametrize(
    "options", [("--scale", "2,3,4"), ("-s", "2", "-s", "3", "--scale", "4,2")]
)
def test_a_network_of_several_scales(
    ramedge, sets: list[Path], multi_weights: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    table = tmp_path / "t.md"
    ended = ramedge("eval", *sets, *options, "--model", multi_weights, "--markdown", table)
    assert ended.code == 0, ended.err
    for scale in (2, 3, 4):
        assert f"×{scale} on torch" in ended.err
    rows = [line.split(" | ")[:2] for line in table.read_text(encoding="utf-8").splitlines()[2:]]
    # Not the network of the paper: no row of it.
    assert rows == [[f"| ×{s}", method] for s in (2, 3, 4) for method in ("bicubic", "ours")]


def test_the_ensemble_is_named_and_recorded(ramedge, sets: list[Path], tmp_path: Path) -> None:
    ended = ramedge("eval", sets[0], "--ensemble", "--json", tmp_path / "s.json")
    assert ended.code == 0, ended.err
    assert "mean over 8 flips and turns" in ended.err
    assert "self-ensemble" in ended.out
    assert json.loads((tmp_path / "s.json").read_text())["ensemble"] is True


def test_upscale_takes_the_ensemble_and_records_it(
    ramedge, sets: list[Path], small_weights: Path, tmp_path: Path
) -> None:
    photo = sets[0] / "photo.png"
    pictures = []
    for options in ((), ("--ensemble",)):
        output = tmp_path / f"out{len(options)}.png"
        ended = ramedge(
            "upscale", photo, "--model", small_weights, "-o", output,
            "--json", tmp_path / "r.json", *options,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert json.loads((tmp_path / "r.json").read_text())[0]["ensemble"] is bool(options)
        pictures.append(np.asarray(Image.open(output)).astype(int))
    assert (pictures[0] != pictures[1]).any()


def test_bad_images_are_reported_at_the_end_and_left_out(
    ramedge, sets: list[Path], tmp_path: Path
) -> None:
    (sets[0] / "bad.png").write_bytes(b"bad")
    Image.new("RGB", (12, 12)).save(sets[0] / "dot.png")
    for folders in (sets[:1], sets):
        ended = ramedge("eval", *folders, "--json", tmp_path / "s.json")
        assert ended.code == 1
        assert "Traceback" not in ended.err
        errors = [line for line in ended.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 2
        assert "bad.png" in errors[0]
        assert "dot.png is too small" in errors[1]
        document = json.loads((tmp_path / "s.json").read_text())
        part = document.get("evaluations", [document])[0]
        assert [failure["name"] for failure in part["failed"]] == ["bad.png", "dot.png"]
        assert part["mean"]["psnr"] == part["images"][0]["psnr"]


def test_nothing_but_bad_images(ramedge, sets: list[Path], tmp_path: Path) -> None:
    (sets[0] / "photo.png").write_bytes(b"bad")
    (sets[0] / "other.png").write_bytes(b"bad")
    ended = ramedge("eval", sets[0], "--json", tmp_path / "s.json")
    assert ended.code == 1
    assert "None of the 2 images" in ended.error
    assert ended.out == ""
    assert not (tmp_path / "s.json").exists()


def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ramedge.cli.eval.evaluate_sets", lambda *_, **__: pytest.fail("it has begun")
    )


def test_a_scale_without_weights_is_said_before_any_work(
    ramedge, sets: list[Path], small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmeasured(monkeypatch)
    ended = ramedge("eval", *sets, "--scale", "2,3", "--model", small_weights)
    assert ended.code == 2
    assert "is for ×2, not for ×3" in ended.error
    missing = sorted({2, 3, 4} - set(shipped_scales()))
    if missing:
        ended = ramedge("eval", *sets, "--scale", f"2,{missing[0]}")
        assert ended.code == 2
        assert f"No weights are shipped for ×{missing[0]}" in ended.error


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--scale", "two"), 2, "'two' is not a number"),
        (("--scale", "2,"), 2, "is not a number"),
        (("--scale", "2,5"), 2, "Scale 5 is not supported"),
        (("--markdown", "table.txt"), 2, "must end with .md"),
        (("--markdown", "/nonexistent/table.md"), 1, "no such folder"),
        (("--json", "scores.txt"), 2, "must end with .json"),
        (("nothing",), 1, "No such folder: nothing"),
    ],
)
def test_impossible_requests(
    ramedge, sets: list[Path], monkeypatch: pytest.MonkeyPatch, options, code: int, message: str
) -> None:
    unmeasured(monkeypatch)
    ended = ramedge("eval", *sets, *options)
    assert ended.code == code
    assert message in ended.error
