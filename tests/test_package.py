from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ramedge

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="not run from a source tree"
)


def table() -> dict:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = pytest.importorskip("tomli")
    with (ROOT / "pyproject.toml").open("rb") as opened:
        return tomllib.load(opened)["tool"]["setuptools"]


def test_every_package_on_disk_is_in_the_wheel() -> None:
    on_disk = {"ramedge"}
    for folder, name in [
        ("ramedge", "ramedge"),
        ("export", "ramedge.export"),
        ("runtimes", "ramedge.runtimes"),
        ("calibration", "ramedge.calibration"),
    ]:
        for found in (ROOT / folder).rglob("__init__.py"):
            if any(p.is_symlink() for p in found.parents):
                continue
            parts = found.parent.relative_to(ROOT / folder).parts
            on_disk.add(".".join((name, *parts)))
    assert set(table()["packages"]) == on_disk


def test_every_data_file_on_disk_is_in_the_wheel() -> None:
    patterns = table()["package-data"]
    assert "benchmarks.txt" in {p.name for p in (ROOT / "calibration").glob("*.txt")}
    assert patterns["ramedge.calibration"] == ["*.txt"]
    for package, folder in [("ramedge.samples", "samples"), ("ramedge.weights", "weights")]:
        base = ROOT / "ramedge" / folder
        matched = {p for pattern in patterns[package] for p in base.glob(pattern)}
        data = {
            p for p in base.rglob("*")
            if p.is_file() and p.suffix not in {".py", ".pyc"} and ".partial" not in p.name
        }  # fmt: skip
        assert matched == data


def test_a_clone_is_small() -> None:
    """What is tracked is at most 28 MiB: every clone and every small device pays for it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    size = sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())
    assert 0 < size <= 28 * 2**20


@pytest.mark.parametrize("name", ["export", "runtimes", "calibration"])
def test_the_folders_beside_the_package_are_linked(name: str) -> None:
    link = ROOT / "ramedge" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
    assert not Path(link.readlink()).is_absolute()


def test_the_public_names_exist() -> None:
    for name in ramedge.__all__:
        assert getattr(ramedge, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = ramedge.nothing


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in which torch, onnxruntime and onnxsim cannot be imported."""
    block = "import sys\nfor n in ('torch', 'onnxruntime', 'onnxsim', 'onnxscript'):\n"
    block += "    sys.modules[n] = None\n"
    return subprocess.run(
        [sys.executable, "-c", block + program, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("from ramedge.cli.entry import main\nmain()\n", *arguments)


def test_upscaling_needs_no_torch(tmp_path: Path) -> None:
    from ramedge.samples import sample_photo

    output = tmp_path / "out.png"
    done = command("upscale", str(sample_photo("chelsea.png")), "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert output.exists()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "--data", ".", "--steps", "1"), "train"),
        (("export", "--weights", "own.safetensors"), "export"),
        (("export", "-p", "int8", "--calibration", "."), "export"),
        (("upscale", "x.png", "--runtime", "torch"), "export"),
    ],
)
def test_a_missing_extra_is_one_line_that_says_how(
    arguments: tuple[str, ...],
    extra: str,
    small_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copyfile(small_weights, tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'ramedge[{extra}]'" in done.stderr


def test_a_public_name_that_needs_torch_says_so() -> None:
    done = run("import ramedge\nramedge.load_weights\n")
    assert "MissingExtraError: ramedge.load_weights needs torch" in done.stderr


def test_importing_ramedge_is_light() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, ramedge; print(0, 'torch' in sys.modules,"
         " 'openvino' in sys.modules, 'numpy' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[1:] == ["False", "False", "False"]
