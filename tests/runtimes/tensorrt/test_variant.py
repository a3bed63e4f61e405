"""How an installation of TensorRT is told from what merely carries its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from ramedge.errors import RuntimeUnavailableError
from ramedge.runtimes.tensorrt.variant import Variant

NAME = "tensorrt_of_a_folder"  # no package has it, so that none hides the folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the module's name: Python takes it for a namespace package."""
    (tmp_path / NAME).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return tmp_path / NAME


def test_a_folder_of_the_name_is_not_an_installation(folder: Path) -> None:
    variant = Variant(NAME, "TensorRT", NAME, "tensorrt", False, False)
    assert not variant.installed()
    assert variant.version() == ""
    with pytest.raises(RuntimeUnavailableError, match="not installed: pip install"):
        variant.load()


def test_a_package_of_the_name_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "__init__.py").write_text("__version__ = '10.3'\n")
    importlib.invalidate_caches()
    variant = Variant(NAME, "TensorRT", NAME, "tensorrt", False, False)
    assert variant.installed()
    assert variant.version() == "10.3"
