from __future__ import annotations

import json
from pathlib import Path

import pytest

import ramedge as package
from ramedge.samples import sample_photo
from ramedge.weights import shipped_scales


def test_version(ramedge) -> None:
    ended = ramedge("--version")
    assert ended.code == 0
    assert ended.out.strip() == f"ramedge {package.__version__}"


@pytest.mark.parametrize("command", ["upscale", "eval", "export", "train", "study", "doctor"])
def test_every_command_explains_itself(ramedge, command: str) -> None:
    assert ramedge("--help").out.count(command) >= 1
    ended = ramedge(command, "--help")
    assert ended.code == 0
    assert "Usage" in ended.out


def test_an_unknown_option_is_a_usage_error(ramedge) -> None:
    ended = ramedge("upscale", "x.png", "--nonsense")
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_eval_prints_a_table_and_writes_json(ramedge, photo_folder: Path, tmp_path: Path) -> None:
    ended = ramedge("eval", photo_folder, "--json", tmp_path / "scores.json")
    assert ended.code == 0, ended.err
    assert "mean" in ended.out
    document = json.loads((tmp_path / "scores.json").read_text())
    assert document["precision"] == "fp32"
    assert len(document["images"]) == 2
    assert f"{document['mean']['psnr']:.2f}" in ended.out


@pytest.mark.slow
def test_train_export_and_upscale_hang_together(
    ramedge, photo_folder: Path, tmp_path: Path
) -> None:
    run, model, output = tmp_path / "run", tmp_path / "model", tmp_path / "cat.png"
    trained = ramedge(
        "train", "--data", photo_folder, "--scales", "2,3", "--steps", 2, "--blocks", 1,
        "--recipe", "paper", "--patch", 16, "--batch", 1, "--device", "cpu", "-o", run,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert "PSNR-Y on held-out photos" in trained.out
    weights = run / "weights.safetensors"
    exported = ramedge("export", "--weights", weights, "--scale", 3, "-o", model)
    assert exported.code == 0, exported.err
    assert "agrees with PyTorch" in exported.out
    upscaled = ramedge("upscale", sample_photo("chelsea.png"), "--model", model, "-o", output)
    assert upscaled.code == 0, upscaled.err
    assert "×3 on openvino" in upscaled.err
    assert output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "2", "--scales", "2,3"), "not both"),
        (("--scales", "two"), "not a list"),
        (("--scale", "5"), "Scale 5"),
        (("--attention", "magic"), "Unknown attention"),
        (("--data", "/nonexistent"), "No such folder"),
        (("--learning-rate", "-1"), "positive"),
        (("--decay", "1.5"), "a share of the steps"),
        (("--scales", "2,3", "--shares", "1"), "one number for each scale"),
        (("--scales", "2,3", "--shares", "1,much"), "not a list of numbers"),
        (("--scales", "2,3", "--shares", "1,0"), "must be a positive number"),
        (("--reduced", "half"), "not a list of numbers such as 0.75,0.5"),
        (("--reduced", "0.5,1"), "must lie between 0 and 1"),
        (("--decay", "0.5", "--recipe", "paper"), "needs --recipe fast"),
        (("--seed", "-5"), "The seed must lie between"),
        (("--seed", "99999999999999999999999"), "The seed must lie between"),
    ],
)
def test_impossible_training(ramedge, photo_folder: Path, tmp_path: Path, options, message) -> None:
    ended = ramedge("train", "--data", photo_folder, "--steps", 1, "-o", tmp_path / "run", *options)
    assert ended.code in {1, 2}
    assert message in ended.error
    assert not (tmp_path / "run").exists()


def test_runtimes_say_which_model_they_take(ramedge, small_weights: Path, tmp_path: Path) -> None:
    photo = sample_photo("chelsea.png")
    ended = ramedge("upscale", photo, "--model", small_weights, "--runtime", "openvino")
    assert ended.code == 2
    assert "ramedge export" in ended.error
    ended = ramedge("upscale", photo, "--model", tmp_path)
    assert ended.code == 2
    assert "not an exported model" in ended.error


def test_a_scale_that_is_not_shipped_is_a_usage_error(ramedge, tmp_path: Path) -> None:
    missing = sorted({2, 3, 4} - set(shipped_scales()))
    if not missing:
        pytest.skip("every scale is shipped")
    photo = sample_photo("chelsea.png")
    ended = ramedge("upscale", photo, "--scale", missing[0], "-o", tmp_path / "out.png")
    assert ended.code == 2
    assert f"No weights are shipped for ×{missing[0]}" in ended.error
    assert not (tmp_path / "out.png").exists()
