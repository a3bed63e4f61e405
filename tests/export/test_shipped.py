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

pytestmark = pytest.mark.base

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


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--precision", "fp16"), "srram_x2_fp16_openvino"),
        (("--precision", "fp16", "--runtime", "onnx", "-s", "3"), "srram_x3_fp16_onnx"),
        (("--precision", "int8", "--scale", "4"), "srram_x4_int8_openvino"),
    ],
)
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
