"""`ramedge export --runtime tensorrt…`, `ramedge engines`, and the choice of a runtime."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeGpu, driver_modules, fake_tensorrt
from PIL import Image

from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.variant import RTX
from ramedge.upscaling.open_model import RuntimeSettings, open_model
from ramedge.weights import shipped_artifact

needs_rtx = pytest.mark.skipif(
    not RTX.installed(), reason="TensorRT-RTX is not installed: pip install tensorrt-rtx"
)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "home" / name))
    return tmp_path / "home" / "ramedge" / "engines"


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(path)
    return path


@pytest.mark.parametrize(("runtime", "extra"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "rtx")])
def test_without_tensorrt_one_line_names_the_command(
    ramedge, no_tensorrt: None, picture: Path, runtime: str, extra: str
) -> None:
    for arguments in (("upscale", picture), ("export", "-p", "fp16")):
        ended = ramedge(*arguments, "--runtime", runtime)
        assert ended.code == 1
        assert "is not installed" in ended.error
        assert f"pip install 'ramedge[{extra}]'" in ended.error


def test_without_a_gpu_one_line_names_what_is_missing(
    ramedge, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(FakeGpu()))
    with driver_modules(None, name=""):
        ended = ramedge("upscale", picture, "--runtime", "tensorrt")
        assert "No NVIDIA GPU" in ended.error
        assert "pip install cuda-python" in ended.error
        ended = ramedge("export", "--runtime", "tensorrt", "-p", "fp16")
        assert "no NVIDIA GPU is found" in ended.error


def test_auto_goes_to_openvino_and_says_why(
    ramedge, no_tensorrt: None, picture: Path, tmp_path: Path
) -> None:
    ended = ramedge("upscale", picture, "-o", tmp_path / "out.png")
    assert ended.code == 0
    assert "on openvino" in ended.err
    assert "TensorRT is not installed" in ended.err


def test_auto_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramedge.runtimes.tensorrt.variant.Variant.installed", lambda self: True)
    with driver_modules(None, name=""):
        opened = open_model(RuntimeSettings())
    assert opened.runtime.name == "openvino"
    assert "no NVIDIA GPU can be used" in opened.reason


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu()
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(gpu))
    monkeypatch.setattr("ramedge.runtimes.tensorrt.variant.Variant.installed", lambda self: True)
    with driver_modules(gpu, name="cuda-python"):
        opened = open_model(RuntimeSettings())
        assert (opened.runtime.name, opened.runtime.precision) == ("tensorrt", "fp16")
        assert "Fake GPU" in opened.reason
        assert opened.runtime.excitation is not None
        assert opened.runtime.notes == ()
        opened.runtime.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runtime", "tensorrt-rtx", "--max-shape", "big"), "height x width"),
        (("--runtime", "tensorrt-rtx", "--min-shape", "9x9", "--max-shape", "8x8"), "must grow"),
        (("--runtime", "tensorrt-rtx", "--opt-level", "9"), "0 to 5"),
        (("--runtime", "tensorrt-rtx", "--workspace", "0"), "MiB"),
        (("--runtime", "onnx", "--rebuild"), "are for --runtime tensorrt"),
        (("--runtime", "openvino", "--max-shape", "8x8"), "are for --runtime tensorrt"),
    ],
)
def test_options_that_make_no_sense_are_one_line(ramedge, arguments: tuple, words: str) -> None:
    ended = ramedge("export", *arguments)
    assert ended.code == 2
    assert words in ended.error


@needs_rtx
@pytest.mark.slow
def test_an_engine_is_built_then_found_then_listed_then_pruned(
    ramedge, cache_home: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    command = (
        "export", "--runtime", "tensorrt-rtx", "-p", "fp16", "--max-shape", "720x1280", "-o", model,
    )  # fmt: skip
    first, second = ramedge(*command), ramedge(*command, "-y")
    assert (first.code, second.code) == (0, 0), first.err
    assert "built in" in first.out
    assert "from the cache" in second.out
    # Head, 20 and 10 depth-wise ones in blocks, body, collapsed tail, and the rim's four strips of
    # two layers and of the tail; two layers of each attention and the picture's own way.
    assert "21 give FLOAT, 45 give HALF" in first.out
    listed = ramedge("engines", "list")
    assert "1 engine in" in listed.out
    assert "1x1/360x640/720x1280" in listed.out
    assert ramedge("engines", "verify").code == 0
    (plan,) = cache_home.glob("*.engine")
    data = bytearray(plan.read_bytes())
    data[100] ^= 1
    plan.write_bytes(data)
    ended = ramedge("engines", "verify")
    assert ended.code == 1
    assert "hash differs" in ended.error
    (cache_home / "lonely.json").write_text("{}")
    assert "1 more cannot be read" in ramedge("engines", "list").err
    third = ramedge(*command, "-y")
    assert "refused" in third.err
    assert "built in" in third.out
    assert "1 left" in ramedge("engines", "prune").out
    with pytest.MonkeyPatch.context() as patch:
        # Another environment of the same user, without the library.
        patch.setitem(sys.modules, "tensorrt_rtx", None)
        assert "1 left" in ramedge("engines", "prune").out
    assert "Removed 1 engine, 0 left" in ramedge("engines", "prune", "--all").out
    assert EngineCache(cache_home).records() == []


@needs_rtx
def test_what_cannot_be_built_from_is_one_line(ramedge, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nonsense")
    command = ("export", "--runtime", "tensorrt-rtx")
    assert "damaged or not an ONNX" in ramedge(*command, "-m", bad).error
    assert "No such" in ramedge(*command, "-m", tmp_path / "none.safetensors").error
    assert "not an exported model" in ramedge(*command, "-m", tmp_path).error


@needs_rtx
@pytest.mark.slow
def test_weights_become_onnx_and_then_an_engine(
    ramedge, small_weights: Path, tmp_path: Path
) -> None:
    ended = ramedge(
        "export", "--runtime", "tensorrt-rtx", "-m", small_weights, "-o", tmp_path / "model"
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "model" / "manifest.json").is_file()
    again = ramedge("export", "--runtime", "tensorrt-rtx", "-m", tmp_path / "model")
    assert "from the cache" in again.out
    half = ramedge("export", "--runtime", "tensorrt-rtx", "-p", "fp16", "-m", tmp_path / "model")
    assert "fp16 for tensorrt-rtx" in half.out
    wrong = ramedge("export", "--runtime", "tensorrt-rtx", "-p", "int8", "-m", tmp_path / "model")
    assert "it runs in fp32 and fp16" in wrong.error
    ended = ramedge("export", "--runtime", "openvino", "-m", tmp_path / "model")
    assert (ended.code, "exported model already" in ended.error) == (2, True)


@needs_rtx
@pytest.mark.slow
def test_a_copied_artifact_gets_its_engine_on_another_machine(ramedge, tmp_path: Path) -> None:
    exported = ramedge("export", "-p", "fp16", "--runtime", "onnx", "-o", tmp_path / "model")
    assert exported.code == 0, exported.err
    shutil.copytree(tmp_path / "model", tmp_path / "copied")
    command = ("engines", "build", tmp_path / "copied", "--runtime", "tensorrt-rtx")
    first, second = ramedge(*command), ramedge(*command)
    assert (first.code, second.code) == (0, 0), first.err
    assert "fp16 for tensorrt-rtx" in first.out
    assert "from the cache" in second.out
    ended = ramedge("engines", "build", tmp_path, "--runtime", "tensorrt-rtx")
    assert (ended.code, "not an exported model" in ended.error) == (2, True)
    ended = ramedge("engines", "build", tmp_path / "x.png", "--runtime", "tensorrt-rtx")
    assert (ended.code, "is no exported model" in ended.error) == (2, True)


def test_without_a_gpu_no_engine_is_chosen(ramedge) -> None:
    with driver_modules(None, name=""):
        ended = ramedge("engines", "build", shipped_artifact(2, "fp32"))
    assert ended.code == 1
    assert "No engine can be built here" in ended.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runtime", "tensorrt-rtx", "--device", "CPU"), "use --runtime openvino"),
        (
            ("--runtime", "openvino", "--device", "cuda"),
            "use --runtime tensorrt, onnxruntime or torch",
        ),
        (("--device", "cuda:0", "--precision", "fp16"), "Leave --device out"),
        (("--device", "NPU7", "--precision", "fp16"), "choose among"),
        (("--runtime", "torch", "--device", "cuda:7"), "try --device cpu"),
    ],
)
def test_devices_that_cannot_be_say_what_can(
    ramedge, picture: Path, arguments: tuple, words: str
) -> None:
    with driver_modules(None, name=""):
        ended = ramedge("upscale", picture, *arguments)
    assert ended.code in {1, 2}
    assert words in ended.error


def test_export_says_what_it_is_for_and_why(
    ramedge, no_tensorrt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = ramedge("export", "--precision", "fp16")
    assert ended.code == 0, ended.err
    assert "Exporting for OpenVINO: TensorRT is not installed." in ended.err
    assert "Model: srram_x2_fp16_openvino" in ended.out
    assert (tmp_path / "srram_x2_fp16_openvino" / "manifest.json").is_file()


@pytest.mark.slow
def test_on_a_gpu_export_makes_a_folder_and_an_engine_that_upscale_uses(
    ramedge, cache_home: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(gpu))
    monkeypatch.setattr("ramedge.runtimes.tensorrt.variant.Variant.installed", lambda self: True)
    with driver_modules(gpu, name="cuda-python"):
        ended = ramedge("export", "--precision", "fp16")
        assert ended.code == 0, ended.err
        assert "Exporting for TensorRT: there is an NVIDIA GPU." in ended.err
        assert "Model: srram_x2_fp16_tensorrt" in ended.out
        (plan,) = cache_home.glob("*.engine")
        built = plan.stat().st_mtime_ns
        ended = ramedge("upscale", picture, "--model", "srram_x2_fp16_tensorrt")
        assert ended.code == 0, ended.err
        assert "on tensorrt (Fake GPU" in ended.err
    assert [path.stat().st_mtime_ns for path in cache_home.glob("*.engine")] == [built]
