"""Bugs and broken packages as a user meets them: one line, an exit code, and a log file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from faulty import Faulty, one_error
from PIL import Image

from ramedge.samples import sample_clip, sample_photo

pytestmark = [
    pytest.mark.base,
    pytest.mark.skipif(sys.platform != "linux", reason="logs belong elsewhere on other systems"),
]

BROKEN_NETWORK = """
import openvino
def core(*arguments): raise RuntimeError("injected [fault]\\n of two lines")
openvino.Core = core
"""
BROKEN_FILES = """
import av
import PIL.Image
def breaking(opener):
    def opened(file, *arguments, **options):
        if "bad" in str(file):
            raise RuntimeError("injected fault")
        return opener(file, *arguments, **options)
    return opened
av.open = breaking(av.open)
PIL.Image.open = breaking(PIL.Image.open)
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty.make(tmp_path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    with Image.open(sample_photo("chelsea.png")) as opened:
        opened.crop((120, 80, 184, 128)).save(path)
    return path


def test_a_bug_is_one_line_and_a_log_file(faulty: Faulty, photo: Path) -> None:
    faulty.startup(BROKEN_NETWORK)
    ended = faulty.run("upscale", photo)
    assert ended.returncode == 70
    (log,) = faulty.state.rglob("*.log")
    assert one_error(ended) == (
        "error: Unexpected error while running ramedge upscale: RuntimeError: injected [fault] of "
        f"two lines. The details are in {log}; please report it."
    )
    assert log.parent == faulty.state / "ramedge" / "log"
    text = faulty.log()
    for words in (
        "Traceback (most recent call last)",
        "RuntimeError: injected [fault]\n of two lines",
        f"upscale {photo}",
        "ramedge 0.",
        "Python 3.",
        "numpy ",
        "(numpy>=1.26)",
    ):
        assert words in text


def test_the_variable_shows_the_traceback_instead(faulty: Faulty, photo: Path) -> None:
    faulty.startup(BROKEN_NETWORK)
    ended = faulty.run("upscale", photo, RAMEDGE_DEBUG="1")
    assert ended.returncode == 70
    assert ended.stderr.count("Traceback (most recent call last)") == 1
    assert "╭" not in ended.stderr
    assert "The details are above." in ended.stderr
    assert not faulty.state.exists()


def test_a_log_that_cannot_be_written_goes_to_the_temporary_folder(
    faulty: Faulty, photo: Path, tmp_path: Path
) -> None:
    faulty.startup(BROKEN_NETWORK)
    faulty.state.write_text("a file where a folder should be")
    (tmp_path / "temp").mkdir()
    ended = faulty.run("upscale", photo, TMPDIR=str(tmp_path / "temp"))
    assert ended.returncode == 70
    (log,) = (tmp_path / "temp").glob("*.log")
    assert str(log) in one_error(ended)
    assert "injected" in log.read_text()


def test_no_log_at_all_is_said(faulty: Faulty, photo: Path) -> None:
    no_folder = "import tempfile\ndef none(): raise FileNotFoundError('no usable folder')\n"
    faulty.startup(BROKEN_NETWORK + no_folder + "tempfile.gettempdir = none\n")
    faulty.state.write_text("a file where a folder should be")
    ended = faulty.run("upscale", photo)
    assert ended.returncode == 70
    assert "No log file could be written: RAMEDGE_DEBUG=1 shows the details" in one_error(ended)


def test_a_bug_in_one_file_does_not_stop_the_others(
    faulty: Faulty, photo: Path, tmp_path: Path
) -> None:
    faulty.startup(BROKEN_FILES)
    clip = shutil.copy(sample_clip(), tmp_path / "bad.mp4")
    shutil.copy(photo, tmp_path / "zebra.png")
    inputs = (photo, clip, tmp_path / "zebra.png", "--frames", 1)
    ended = faulty.run("upscale", *inputs, "-o", tmp_path / "out", "--json", tmp_path / "x.json")
    assert ended.returncode == 70
    assert "2 done, 0 skipped, 1 failed" in ended.stderr
    line = one_error(ended)
    assert f"Unexpected error while upscaling {clip}: RuntimeError: injected fault." in line
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert "injected fault" in faulty.log()
    results = json.loads((tmp_path / "x.json").read_text())
    assert [result["unexpected"] for result in results] == [False, True, False]


def test_expected_failures_of_a_batch_keep_their_exit_code(
    faulty: Faulty, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    ended = faulty.run("upscale", photo, tmp_path / "text.png", "-o", tmp_path / "out")
    assert ended.returncode == 1
    assert "text.png" in one_error(ended)
    assert not faulty.state.exists()


def test_a_bug_at_one_photo_does_not_end_a_measurement(
    faulty: Faulty, photo: Path, tmp_path: Path
) -> None:
    faulty.startup(BROKEN_FILES)
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(photo, folder / "good.png")
    shutil.copy(photo, folder / "bad.png")
    ended = faulty.run("eval", folder)
    assert ended.returncode == 70
    assert f"while measuring {folder / 'bad.png'}: RuntimeError: injected" in one_error(ended)
    assert "good.png" in ended.stdout
    (folder / "good.png").unlink()
    assert faulty.run("eval", folder).returncode == 70


def test_many_bugs_are_one_log_file(faulty: Faulty, photo: Path, tmp_path: Path) -> None:
    faulty.startup(BROKEN_FILES)
    for index in range(3):
        shutil.copy(sample_clip(), tmp_path / f"bad{index}.mp4")
    ended = faulty.run("upscale", *sorted(tmp_path.glob("bad*.mp4")))
    assert ended.returncode == 70
    assert ended.stderr.count("Unexpected error") == 3
    assert faulty.log().count("Traceback (most recent call last)") == 3


def test_a_damaged_model_does_not_stop_an_audit(faulty: Faulty, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    ended = faulty.run("audit", tmp_path / "text.onnx", tmp_path / "none.onnx")
    assert ended.returncode == 1
    assert [name in ended.stderr for name in ("text.onnx", "none.onnx")] == [True, True]


@pytest.mark.parametrize(
    ("package", "version", "code", "reason", "works"),
    [
        (
            "av", "99.0", "raise ImportError('libavcodec.so.99: no such file')",
            "ImportError: libavcodec.so.99: no such file", "av>=16.1,<20",
        ),
        ("av", "8.0", "", "No module named 'av.", "av>=16.1,<20"),
        ("safetensors", "0.1", "", "cannot import name", "safetensors>=0.5"),
        ("numpy", "1.9", "int.no_such_thing", "AttributeError", "numpy>=1.26"),
        ("openvino", "2020.1", "raise OSError('libtbb.so: no')", "OSError", "openvino>=2025.3"),
    ],
)  # fmt: skip
def test_a_package_that_cannot_be_imported(
    faulty: Faulty, photo: Path, package: str, version: str, code: str, reason: str, works: str
) -> None:
    faulty.module(package, code)
    faulty.installed(package, version)
    ended = faulty.run("upscale", photo)
    assert ended.returncode == 1, ended.stderr
    line = one_error(ended)
    assert line.startswith(f"error: {package} {version} cannot be used (")
    assert reason in line
    assert f"ramedge works with {works}. Install it with: pip install '{works}'" in line
    assert not faulty.state.exists()


@pytest.mark.parametrize("package", ["rich", "typer", "platformdirs"])
def test_the_packages_of_the_command_line_itself(faulty: Faulty, package: str) -> None:
    faulty.module(package, "raise ImportError('broken')")
    ended = faulty.run("--version")
    assert ended.returncode == 1, ended.stderr
    assert one_error(ended).startswith(f"error: {package} ")
    assert "cannot be used (ImportError: broken)" in one_error(ended)


def test_the_package_that_reads_versions(faulty: Faulty, photo: Path) -> None:
    faulty.module("packaging", "raise ImportError('broken')")
    faulty.startup(BROKEN_NETWORK)
    ended = faulty.run("upscale", photo)
    assert ended.returncode == 70, ended.stderr
    assert "injected [fault]" in one_error(ended)
    assert "injected [fault]" in faulty.log()


def test_doctor_says_which_package_cannot_be_imported(faulty: Faulty, tmp_path: Path) -> None:
    faulty.module("av", "raise ImportError('libavcodec.so.99: no such file')")
    faulty.installed("av", "99.0")
    ended = faulty.run("doctor", "--json", tmp_path / "doctor.json")
    assert ended.returncode == 1
    assert "Upscaling does not work here" in one_error(ended)
    checks = json.loads((tmp_path / "doctor.json").read_text())["checks"]
    found = {check["name"]: check for check in checks}
    for name in ("Packages", "Videos", "Upscaled video"):
        assert found[name]["status"] == "broken"
        assert found[name]["remedy"] == "pip install 'av>=16.1,<20'"
    assert "av 99.0, needed is av>=16.1,<20" in found["Packages"]["detail"]
    assert found["OpenVINO"]["status"] == "ok"


def test_doctor_tries_a_video_in_earnest(faulty: Faulty, tmp_path: Path) -> None:
    """As an API of PyAV that is gone: it imports, and fails at the first file."""
    faulty.startup(
        "import av\nopener = av.open\ndef opened(file, mode=None, **options):\n"
        "    if mode == 'r': raise TypeError('unexpected keyword argument')\n"
        "    return opener(file, mode, **options)\nav.open = opened\n"
    )
    ended = faulty.run("doctor", "--json", tmp_path / "doctor.json")
    assert ended.returncode == 1
    checks = json.loads((tmp_path / "doctor.json").read_text())["checks"]
    found = {check["name"]: check for check in checks}
    assert found["Videos"]["status"] == found["Upscaled picture"]["status"] == "ok"
    assert found["Upscaled video"]["status"] == "broken"
    assert "TypeError: unexpected keyword argument" in found["Upscaled video"]["detail"]
    assert found["Upscaled video"]["remedy"].startswith("pip install ")


def test_doctor_says_which_version_is_outside(faulty: Faulty, tmp_path: Path) -> None:
    faulty.installed("pillow", "5.0")
    ended = faulty.run("doctor", "--json", tmp_path / "doctor.json")
    assert ended.returncode == 0, ended.stderr
    checks = json.loads((tmp_path / "doctor.json").read_text())["checks"]
    packages = next(check for check in checks if check["name"] == "Packages")
    assert packages["status"] == "broken"
    assert "pillow 5.0, needed is pillow>=11.2.1" in packages["detail"]
    assert packages["remedy"] == "pip install 'pillow>=11.2.1'"
