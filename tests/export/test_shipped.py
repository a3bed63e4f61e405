"""The first sentence of the README, as it is typed, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ramedge.samples import PHOTOS, sample_photo
from ramedge.weights import WEIGHTS

_WITHOUT_TORCH = """
import sys
for name in ("torch", "onnxruntime", "onnxsim", "onnxscript", "tensorrt", "tensorrt_rtx"):
    sys.modules[name] = None
from ramedge.cli.entry import main
main()
"""


def ramedge_without_torch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.base
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--precision", "fp16"), "srram_x2_fp16_openvino"),
        (("--precision", "fp16", "--runtime", "onnx", "-s", "3"), "srram_x3_fp16_onnx"),
        (("--precision", "int8", "--scale", "4"), "srram_x4_int8_openvino"),
    ],
)
@pytest.mark.slow
def test_what_was_exported_upscales_as_the_shipped_model_does(
    tmp_path: Path, options: tuple[str, ...], name: str
) -> None:
    ended = ramedge_without_torch(tmp_path, "export", *options)
    assert ended.returncode == 0, ended.stderr
    assert "agrees with the shipped FP32 model" in ended.stdout
    assert f"Model: {name}" in ended.stdout
    manifest = json.loads((tmp_path / name / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["gate"]["compared_with"] == "the shipped FP32 model"
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        opened.convert("RGB").crop((100, 60, 164, 108)).save(tmp_path / "photo.png")
    pictures = []
    for model in (("--model", name), ("--scale", name[7], "--precision", "fp32")):
        output = f"out{len(pictures)}.png"
        ended = ramedge_without_torch(tmp_path, "upscale", "photo.png", *model, "-o", output)
        assert ended.returncode == 0, ended.stderr
        with Image.open(tmp_path / output) as upscaled:
            pictures.append(np.asarray(upscaled, np.float64))
    error = np.mean((pictures[0] - pictures[1]) ** 2)
    # 8-bit rounding alone is 58.9 dB where the pictures differ everywhere by less than a level.
    assert 10 * np.log10(255**2 / max(error, 1e-9)) >= (40 if "int8" in name else 55)


def test_the_second_export_asks_before_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "srram_x2_fp16_openvino").mkdir()
    (tmp_path / "srram_x2_fp16_openvino" / "manifest.json").write_text("{}", encoding="utf-8")
    ended = ramedge_without_torch(tmp_path, "export", "--precision", "fp16")
    assert ended.returncode == 2
    assert "replace it with -y" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("strict", [False, True])
def test_shipped_int8_has_to_hold_the_budget_too(tmp_path: Path, strict: bool) -> None:
    options = ["--strict"] if strict else []
    ended = ramedge_without_torch(
        tmp_path, "export", "-p", "int8", "--max-loss", "0.0001", "-o", "model", *options
    )
    assert "raise --max-loss" in " ".join(ended.stderr.split())
    if strict:
        assert ended.returncode == 1
        assert not (tmp_path / "model").exists()
    else:
        assert ended.returncode == 0
        manifest = json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["precision"] == "fp16"
        assert "raise --max-loss" in manifest["refused"]["int8"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-m", "missing.safetensors"), "No such weights file"),
        (("-m", "text.safetensors"), "is not a safetensors file"),
        (("-m", "text.onnx"), "is not a safetensors file"),
        (("-s", "5"), "choose among 2, 3 and 4"),
        (("-p", "fp16", "--max-loss", "0.1"), "--max-loss needs --precision int8"),
        (("-p", "fp16", "--calibration-frames", "20"), "needs --precision int8"),
        (("-p", "int8", "--calibration-frames", "20"), "needs --calibration"),
        (("-o", "text.onnx/model"), "Choose another with -o"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    for name in ("text.safetensors", "text.onnx"):
        (tmp_path / name).write_text("hello", encoding="utf-8")
    ended = ramedge_without_torch(tmp_path, "export", *options)
    assert ended.returncode in {1, 2}
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.onnx", "text.safetensors"]


@pytest.mark.slow
def test_the_shipped_weights_by_name_need_no_pytorch(tmp_path: Path) -> None:
    ended = ramedge_without_torch(
        tmp_path, "export", "-s", "3", "--runtime", "onnx", "-m", str(WEIGHTS), "-o", "model"
    )
    assert ended.returncode == 0, ended.stderr
    assert "agrees with the shipped FP32 model exactly" in ended.stdout
    text = (tmp_path / "model" / "manifest.json").read_text(encoding="utf-8")
    assert "Infinity" not in text
    assert json.loads(text)["scale"] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", limit + _WITHOUT_TORCH, "export", "--runtime", "onnx", "-o", "m"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "Cannot write" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_exported_int8_model_is_evaluated_and_an_edited_one_is_not(tmp_path: Path) -> None:
    ended = ramedge_without_torch(tmp_path, "export", "-p", "int8", "--runtime", "onnx", "-o", "m")
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "photos").mkdir()
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        opened.convert("RGB").crop((100, 60, 164, 108)).save(tmp_path / "photos" / "cat.png")
    ended = ramedge_without_torch(tmp_path, "eval", "photos", "--model", "m")
    assert ended.returncode == 0, ended.stderr
    path = tmp_path / "m" / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"scale": 2', '"scale": 3'), "utf-8")
    ended = ramedge_without_torch(tmp_path, "upscale", "photos/cat.png", "--model", "m")
    assert ended.returncode == 1
    assert "manifest.json is not what was exported" in " ".join(ended.stderr.split())
