from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.storage import external_files
from ramedge.errors import ExportError, GateError, UsageError, WeightsError
from ramedge.export import model as export_module
from ramedge.export.model import ExportSettings, export_model
from ramedge.export.onnx import export_onnx
from ramedge.export.openvino import convert_to_openvino
from ramedge.files import file_digest
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.quality.gate import gate_photos
from ramedge.quality.metrics import agreement
from ramedge.runtimes.onnxruntime.session import open_onnx
from ramedge.runtimes.torch.session import open_torch
from ramedge.samples import PHOTOS, sample_photo
from ramedge.weights import (
    shipped_artifact,
    shipped_precisions,
    shipped_scales,
    shipped_weights,
)

WITHOUT_TORCH = """
import sys
for name in ("torch", "onnxruntime", "onnxsim", "onnxscript"):
    sys.modules[name] = None
from ramedge.cli.entry import main
main()
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "fp16"
    export_model(ExportSettings(folder, precision="fp16", runtime="onnx", weights=small_weights))
    return folder


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}


def test_fp32_onnx_is_dynamic_and_agrees_with_pytorch(small_network: SRRAM, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(small_network, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in [(1, 3, 1, 1), (1, 3, 3, 5), (3, 3, 17, 12)]:
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        got = session.run(None, {"image": image})[0]
        with torch.no_grad():
            expected = small_network(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_fp16_onnx_keeps_variance_and_output_in_fp32(exported: Path) -> None:
    model = onnx.load(load_artifact(exported).model)
    kinds = types(model)
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    half = [n for n in convolutions if kinds.get(n.output[0]) == onnx.TensorProto.FLOAT16]
    # Everything but the two layers of each block's channel attention and the picture's own way.
    assert len(convolutions) - len(half) == 2 * 2 + 1
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.slow
def test_openvino_artifact_of_each_scale(scale: int, multi_weights: Path, tmp_path: Path) -> None:
    config = load_weights(multi_weights).config
    artifact = export_model(ExportSettings(tmp_path / "out", scale=scale, weights=multi_weights))
    manifest = artifact.manifest
    assert (manifest.scale, manifest.precision, manifest.runtime) == (scale, "fp32", "openvino")
    assert manifest.gate["psnr"] >= 80
    assert manifest.receptive_field == config.receptive_field(scale)
    cut = {f"{name}.xml" for name in ("statistics", "part0", "part1", "part2")}
    files = {"attention.safetensors", "model.xml", "model.bin", "tile.xml"} | cut
    assert set(manifest.files) == files
    assert set(manifest.cut.values()) == cut
    assert {p.name for p in artifact.folder.iterdir()} == files | {"manifest.json"}
    assert manifest.gate["tile"]["psnr"] >= 80


def test_weights_without_the_scale_are_refused(small_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not for ×3"):
        export_model(ExportSettings(tmp_path / "out", scale=3, weights=small_weights))
    assert not (tmp_path / "out").exists()


def refuse(precision: str):
    real = export_module.check

    def check(candidate, reference, wanted, runtime):
        if wanted == precision:
            raise GateError("Agreement with PyTorch is 12.0 dB.")
        return real(candidate, reference, wanted, runtime)

    return check


def test_a_refused_precision_falls_back_aloud(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "check", refuse("fp16"))
    said: list[str] = []
    settings = ExportSettings(
        tmp_path / "out", precision="fp16", runtime="onnx", weights=small_weights
    )
    artifact = export_model(settings, said.append)
    assert artifact.manifest.precision == "fp32"
    assert artifact.manifest.refused == {"fp16": "Agreement with PyTorch is 12.0 dB."}
    assert "refused fp16" in said[0]


@pytest.mark.parametrize(("precision", "strict"), [("fp16", True), ("fp32", False)])
def test_what_the_gate_refuses_for_good_leaves_nothing(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision, strict: bool
) -> None:
    monkeypatch.setattr(export_module, "check", refuse(precision))
    settings = ExportSettings(
        tmp_path / "out", precision=precision, runtime="onnx", weights=small_weights, strict=strict
    )
    with pytest.raises(GateError):
        export_model(settings)
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_are_respected(small_weights: Path, tmp_path: Path) -> None:
    settings = ExportSettings(tmp_path / "out", runtime="onnx", weights=small_weights)
    export_model(settings)
    with pytest.raises(UsageError, match="-y"):
        export_model(settings)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="other files"):
            export_model(
                ExportSettings(tmp_path / "mine", weights=small_weights, overwrite=overwrite)
            )
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_overwriting_replaces_the_whole_artifact(small_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export_model(ExportSettings(folder, runtime="onnx", weights=small_weights))
    export_model(ExportSettings(folder, weights=small_weights, overwrite=True))
    assert not (folder / "model.onnx").exists()
    assert load_artifact(folder).manifest.runtime == "openvino"


def test_an_artifact_whose_model_changed_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(WeightsError, match="not what was exported"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "tile.onnx", "attention.safetensors"])
@pytest.mark.parametrize("fault", ["missing", "cut", "changed"])
def test_one_line_names_the_file_that_is_not_as_it_was(
    ramedge, exported: Path, tmp_path: Path, name: str, fault: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    path = folder / name
    data = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    ended = ramedge("upscale", sample_photo(PHOTOS[0]), "--model", folder, "-o", tmp_path / "x.png")
    assert ended.code == 1
    assert str(path) in ended.error
    assert ("is missing" if fault == "missing" else "cut or changed") in ended.error
    assert not (tmp_path / "x.png").exists()


def test_an_artifact_holds_its_weights_once(exported: Path, small_weights: Path) -> None:
    files = {path.name: path.stat().st_size for path in exported.iterdir()}
    store = files.pop("weights.safetensors")
    assert store < 0.7 * small_weights.stat().st_size  # FP16
    assert max(files.values()) < store
    assert external_files(exported / "model.onnx") == external_files(exported / "tile.onnx")


@pytest.mark.slow
def test_the_shipped_model_is_exported_without_pytorch(tmp_path: Path) -> None:
    """And agrees with what PyTorch computes: the gate's reference is the shipped FP32 model."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "export", "-p", "fp16", "--runtime", "onnx",
         "-o", str(tmp_path / "model")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "agrees with the shipped FP32 model" in done.stdout
    manifest = load_artifact(tmp_path / "model").manifest
    assert (manifest.precision, manifest.weights) == ("fp16", file_digest(shipped_weights(2)))
    assert manifest.gate["psnr"] >= 60
    network = load_weights(shipped_weights(2)).network.take(2)
    image = next(iter(gate_photos().values()))[:, :, :48, :64]
    image = np.ascontiguousarray(image)
    expected = open_torch(network, "fp32", "cpu").infer_float(image)
    found = open_onnx(tmp_path / "model" / "model.onnx", 2).infer_float(image)
    assert agreement(found.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1)).psnr >= 60


@pytest.mark.slow
def test_shipped_int8_is_exported_as_it_is(tmp_path: Path) -> None:
    settings = ExportSettings(tmp_path / "model", precision="int8", runtime="onnx")
    artifact = export_model(settings)
    shipped = load_artifact(shipped_artifact(2, "int8"))
    assert artifact.manifest.int8 == shipped.manifest.int8
    assert artifact.manifest.gate["truth"] == shipped.manifest.gate["truth"]
    image = next(iter(gate_photos().values()))[:, :, :48, :64]
    image = np.ascontiguousarray(image)
    one, other = (open_onnx(a.model, 2).infer_float(image) for a in (artifact, shipped))
    np.testing.assert_array_equal(one, other)


def test_a_manifest_cannot_point_outside_its_folder(exported: Path, tmp_path: Path) -> None:
    document = json.loads((exported / "manifest.json").read_text())
    document["model"] = "../elsewhere.onnx"
    document["files"] = {"../elsewhere.onnx": "0" * 64}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError):
        load_artifact(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', "null"])
def test_damaged_manifests_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError):
        load_artifact(tmp_path)


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ramedge export"):
        load_artifact(tmp_path)


def test_openvino_refuses_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot convert"):
        convert_to_openvino({"model.xml": onnx.ModelProto()}, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_an_output_error(small_weights: Path, tmp_path: Path) -> None:
    from ramedge.errors import OutputError

    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        export_model(ExportSettings(tmp_path / "out", weights=small_weights))


def test_shipped_artifacts_are_made_from_the_shipped_weights() -> None:
    assert 2 in shipped_scales()
    for scale in shipped_scales():
        assert "fp32" in shipped_precisions(scale)
        for precision in shipped_precisions(scale):
            manifest = load_artifact(shipped_artifact(scale, precision)).manifest
            assert manifest.weights == file_digest(shipped_weights(scale))
            assert (manifest.scale, manifest.precision) == (scale, precision)


def test_a_scale_that_is_not_shipped_is_refused() -> None:
    missing = {2, 3, 4} - set(shipped_scales())
    for scale in missing:
        with pytest.raises(UsageError, match=f"No weights are shipped for ×{scale}"):
            shipped_weights(scale)
