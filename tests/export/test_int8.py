from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.audit import audit_file
from ramedge.calibration.pictures import CalibrationSettings
from ramedge.calibration.quantize import QuantizationPlan
from ramedge.errors import GateError, UsageError
from ramedge.export import int8 as int8_module
from ramedge.export.int8 import Int8Settings
from ramedge.export.model import ExportSettings, export_model
from ramedge.network.weights import load_weights
from ramedge.quality import int8_budget as worth
from ramedge.quality.gate import gate_photos
from ramedge.quality.int8_budget import Budget
from ramedge.quality.metrics import agreement
from ramedge.runtimes.onnxruntime import session as onnxruntime
from ramedge.runtimes.openvino import session as openvino
from ramedge.samples import PHOTOS, sample_photo

FOUND: list[object] = []


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 crops of real photos."""
    folder = tmp_path_factory.mktemp("calibration")
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            photo = opened.convert("RGB")
        for index in range(10):
            left, top = 37 * index % (photo.width - 64), 23 * index % (photo.height - 64)
            crop = photo.crop((left, top, left + 64, top + 64))
            crop.save(folder / f"{Path(name).stem}_{index}.png")
    return folder


@pytest.fixture(scope="session")
def settings(pictures: Path, small_weights: Path) -> Callable[..., ExportSettings]:
    def make(output: Path | None, loss: float = 1.0, strict: bool = False) -> ExportSettings:
        return ExportSettings(
            output,
            precision="int8",
            runtime="onnx",
            weights=small_weights,
            strict=strict,
            int8=Int8Settings(CalibrationSettings((pictures,), frames=20), Budget.of(loss)),
        )

    return make


@pytest.fixture
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small a network gains nothing from INT8."""
    turns = iter(range(1_000_000))
    monkeypatch.setattr(worth, "milliseconds", lambda _network, _image: 1.0 + next(turns) % 2)


@pytest.fixture(scope="module")
def exported(
    settings: Callable[..., ExportSettings], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "model"
    with pytest.MonkeyPatch.context() as patch:
        turns = iter(range(1_000_000))
        patch.setattr(worth, "milliseconds", lambda _network, _image: 1.0 + next(turns) % 2)
        search = int8_module.search

        def remember(*arguments: object) -> object:
            FOUND.append(search(*arguments))  # type: ignore[arg-type]
            return FOUND[-1]

        patch.setattr(int8_module, "search", remember)
        export_model(settings(folder))
    return folder


@pytest.fixture
def searched(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search takes its time, and finds the same again."""
    monkeypatch.setattr(int8_module, "search", lambda *_arguments: FOUND[0])


def test_the_artifact_is_int8_and_says_how(exported: Path, pictures: Path) -> None:
    artifact = load_artifact(exported)
    manifest = artifact.manifest
    assert manifest.precision == "int8"
    assert manifest.refused == {}
    names = [entry["name"] for entry in manifest.int8["calibration"]["frames"]]
    assert sorted(names) == sorted(path.name for path in pictures.iterdir())
    checked = set(manifest.gate["truth"]["photos"]) - set(gate_photos())
    assert checked <= set(names)
    assert manifest.gate["speed"]["speedup"] == pytest.approx(2.0)
    for model in (artifact.model, exported / manifest.tile):
        audit_file(model)
        assert b"QuantizeLinear" in model.read_bytes()


def test_it_is_in_fp32_around_int8(exported: Path) -> None:
    """Engines make FP16 of it when they are built: `ramedge.artifacts.half`."""
    model = onnx.load(load_artifact(exported).model)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert onnx.TensorProto.FLOAT16 not in kinds


def test_onnx_runtime_and_openvino_make_one_picture_of_it(exported: Path) -> None:
    artifact = load_artifact(exported)
    image = gate_photos()[PHOTOS[0]]
    first = onnxruntime.open_onnx(artifact.model, 2).infer_float(image)
    with openvino.open_onnx(artifact.model, 2, "int8") as runtime:
        assert runtime.precision == "int8"
        second = runtime.infer_float(image, fp32=True)
    found = agreement(first.transpose(0, 2, 3, 1), second.transpose(0, 2, 3, 1))
    assert found.psnr >= 45


def test_it_agrees_with_pytorch_on_pictures_it_did_not_see(
    exported: Path, small_weights: Path
) -> None:
    import torch

    network = load_weights(small_weights).network
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB"))[250:330, 400:500]
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    with openvino.open_onnx(load_artifact(exported).model, 2, "int8") as runtime:
        output = runtime.infer_float(image)
    assert agreement(output.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1)).psnr >= 40


@pytest.mark.usefixtures("always_faster", "searched")
def test_one_scale_100_times_off_is_refused(
    settings: Callable[..., ExportSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = QuantizationPlan.apply

    def spoiled(self: QuantizationPlan, model: Path, output: Path) -> None:
        # The blocks of a random network hardly change its output: the last one counts.
        last = max(i for i, ranges in enumerate(self.ranges) if ranges is not None)
        wrong = list(self.ranges)
        wrong[last] = tuple(100 * limit for limit in wrong[last] or ())
        apply(QuantizationPlan(tuple(wrong)), model, output)

    found = int8_module.search

    def search(*arguments: object, **named: object) -> object:
        result = found(*arguments, **named)
        monkeypatch.setattr(QuantizationPlan, "apply", spoiled)
        return result

    monkeypatch.setattr(int8_module, "search", search)
    with pytest.raises(GateError, match=r"Agreement|One value|tint"):
        export_model(settings(tmp_path / "model", strict=True))
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("searched")
def test_int8_that_is_slower_falls_back_aloud(
    settings: Callable[..., ExportSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(range(1_000_000))
    monkeypatch.setattr(worth, "milliseconds", lambda _network, _image: 2.0 - next(turns) % 2)
    notices: list[str] = []
    artifact = export_model(settings(tmp_path / "model"), notices.append)
    assert artifact.manifest.precision == "fp16"
    assert "not faster here: 2 ms, openvino" in artifact.manifest.refused["int8"]
    assert [text for text in notices if "refused int8" in text and "Exporting fp16" in text]


def test_a_loss_that_none_can_hold_falls_back_and_the_folder_says_so(
    settings: Callable[..., ExportSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = export_model(settings(None, loss=-9.0))
    assert artifact.manifest.precision == "fp16"
    assert "raise --max-loss" in artifact.manifest.refused["int8"]
    assert [path.name for path in tmp_path.iterdir()] == ["srram_x2_fp16_onnx"]
    with pytest.raises(UsageError, match="srram_x2_fp16_onnx holds a model already"):
        export_model(settings(None, loss=-9.0))
    assert [path.name for path in tmp_path.iterdir()] == ["srram_x2_fp16_onnx"]


def test_int8_without_pictures_is_refused(small_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calibration DIR"):
        ExportSettings(tmp_path / "model", precision="int8", weights=small_weights)


def test_upscale_takes_the_int8_model(
    exported: Path, ramedge: Callable, tmp_path: Path, photo: np.ndarray
) -> None:
    source = tmp_path / "cat.png"
    Image.fromarray(photo).save(source)
    ended = ramedge("upscale", source, "--model", exported, "-o", tmp_path / "large.png")
    assert ended.code == 0, ended.err
    assert "int8" in ended.err
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (photo.shape[1] * 2, photo.shape[0] * 2)
    tiled = ramedge(
        "upscale", source, "--model", exported, "-o", tmp_path / "tiled.png", "--tile", "16"
    )
    assert tiled.code == 0, tiled.err


def test_precisions_that_contradict_the_model_are_one_line(
    exported: Path, ramedge: Callable, tmp_path: Path, small_weights: Path, photo: np.ndarray
) -> None:
    source = tmp_path / "cat.png"
    Image.fromarray(photo).save(source)
    ended = ramedge("upscale", source, "--model", exported, "--precision", "fp32")
    assert (ended.code, "leave --precision out" in ended.error) == (2, True)
    ended = ramedge("upscale", source, "--model", small_weights, "--precision", "int8")
    assert (ended.code, "ramedge export --precision int8" in ended.error) == (2, True)


def test_the_command_line_exports_int8(
    ramedge: Callable, pictures: Path, small_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    ended = ramedge(
        "export", "--precision", "int8", "--weights", small_weights, "-o", folder,
        "--calibration", pictures, "--calibration-frames", 16, "--max-loss", 2, "--runtime", "onnx",
        "--report", tmp_path / "report.md",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["precision"] == "int8":
        assert "times as fast" in ended.out
        report = (tmp_path / "report.md").read_text()
        assert report.count("| yes |") + report.count("| no |") == 7
        with Image.open(tmp_path / "report.png") as picture:
            assert picture.width > 400
    else:
        assert "note: The gate refused int8" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int8"], "--calibration DIR"),
        (["--precision", "fp16", "--calibration", "."], "needs --precision int8"),
        (["--precision", "int8", "--calibration", "nowhere"], "No such calibration source"),
        (["--precision", "fp16", "--report", "report.md"], "needs --precision int8"),
        (
            ["--precision", "int8", "--calibration", ".", "--calibration-frames", 3],
            "at least 16 pictures: raise --calibration-frames",
        ),
        (
            ["--precision", "int8", "--calibration", ".", "--report", "there.md"],
            "there.md exists already",
        ),
        (
            ["--precision", "int8", "--calibration", ".", "--report", "holiday.md"],
            "holiday.png exists already",
        ),
    ],
)
def test_mistakes_are_one_line(
    ramedge: Callable,
    small_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.md", "holiday.png"):
        Path(name).write_text("mine")
    ended = ramedge("export", *arguments, "--weights", small_weights, "-o", tmp_path / "model")
    assert ended.code in {1, 2}
    assert words in ended.error
    assert not (tmp_path / "model").exists()
    assert Path("there.md").read_text() == Path("holiday.png").read_text() == "mine"
