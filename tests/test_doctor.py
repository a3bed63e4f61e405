from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ramedge import doctor, system
from ramedge.doctor import Check, Diagnosis, diagnose
from ramedge.errors import WeightsError

pytestmark = pytest.mark.base


@pytest.fixture(scope="module")
def found() -> dict[str, Check]:
    return {check.name: check for check in diagnose().checks}


def test_this_machine_can_upscale(found: dict[str, Check]) -> None:
    assert Diagnosis(tuple(found.values())).works
    working = ("OpenVINO", "Shipped models", "Upscaling", "Images", "Videos")
    for name in ("Python", *working, "Upscaled picture", "Upscaled video"):
        assert found[name].status == "ok", found[name]
        assert found[name].required
    assert "libx264" in found["Videos"].detail


def test_what_is_not_ok_and_can_be_mended_names_the_command(found: dict[str, Check]) -> None:
    for name in ("PyTorch", "Export", "TensorRT", "TensorRT-RTX"):
        if found[name].status != "ok":
            assert found[name].remedy.startswith("pip install")
            assert not found[name].required


def test_the_command_prints_and_writes_it(ramedge, tmp_path: Path) -> None:
    ended = ramedge("doctor", "--json", tmp_path / "doctor.json")
    assert ended.code == 0
    assert "Upscaling works" in ended.out
    document = json.loads((tmp_path / "doctor.json").read_text())
    assert document["works"] is True
    assert {check["status"] for check in document["checks"]} <= {"ok", "missing", "broken"}


def test_a_damaged_model_is_found(ramedge, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(folder: Path) -> None:
        raise WeightsError("model.onnx is missing or not what was exported")

    monkeypatch.setattr("ramedge.artifacts.artifact.load_artifact", damaged)
    ended = ramedge("doctor")
    assert ended.code == 1
    assert "broken" in ended.out
    assert "does not work" in ended.error


def test_a_tint_of_the_runtime_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from ramedge.upscaling.upscaler import Upscaler

    real = Upscaler.upscale
    monkeypatch.setattr(Upscaler, "upscale", lambda self, pixels: real(self, pixels) // 2)
    check = doctor._inference()
    assert check.status == "broken"
    assert "instead of 128" in check.detail


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_a_file_that_comes_out_wrong_is_found(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from ramedge.media.pixels import Pixels
    from ramedge.upscaling.upscaler import Upscaler

    real = Upscaler.upscale_many

    def darker(self: Upscaler, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        return (pixels // 2 for pixels in real(self, frames))

    whole = Upscaler.upscale
    monkeypatch.setattr(Upscaler, "upscale", lambda self, pixels: whole(self, pixels) // 2)
    monkeypatch.setattr(Upscaler, "upscale_many", darker)
    name = f"Upscaled {kind}"
    look = doctor._upscaled_picture if kind == "picture" else doctor._upscaled_video
    check = doctor._check(name, look)
    assert check.status == "broken"
    assert check.required
    assert "came out as (" in check.detail
    assert check.remedy.startswith("pip install ")


@pytest.mark.parametrize(
    ("code", "output", "status", "detail"),
    [
        (0, "NVIDIA H100, 550.54, 9.0\n", "ok", "NVIDIA H100 (driver 550.54"),
        (0, "", "missing", "sees none"),
        (9, "NVIDIA-SMI has failed because\n", "broken", "has failed"),
    ],
)
def test_the_gpu_is_what_the_driver_says(
    monkeypatch: pytest.MonkeyPatch, code: int, output: str, status: str, detail: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    done = subprocess.CompletedProcess([], code, output, "")
    monkeypatch.setattr(system.subprocess, "run", lambda *a, **k: done)
    check = doctor._gpu()
    assert check.status == status
    assert detail in check.detail


def test_a_module_that_fails_to_load_is_broken_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_native_thing.py").write_text("raise OSError('libnvinfer.so.10: not found')")
    (tmp_path / "half_installed_thing.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._import("broken_native_thing") == "libnvinfer.so.10: not found"
    assert doctor._import("half_installed_thing") == (
        "half_installed_thing needs a_module_that_is_not_there"
    )
    assert doctor._import("no_such_thing_at_all") == ""


def test_a_jetson_is_known_by_its_release_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "nv_tegra_release"
    monkeypatch.setattr(doctor, "JETSON_RELEASE", release)
    assert doctor._jetpack().status == "missing"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 1\n")
    assert doctor._jetpack().detail.startswith("R36 (release)")


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor._disk().status == "broken"


def test_it_runs_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from ramedge.doctor import diagnose\n"
        "found = diagnose(); assert found.works\n"
        "torch = next(c for c in found.checks if c.name == 'PyTorch')\n"
        "assert torch.status == 'missing', torch\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
