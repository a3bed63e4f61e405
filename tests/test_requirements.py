from __future__ import annotations

from importlib import metadata

import pytest

from ramedge import requirements
from ramedge.requirements import Need, need_of, needs

pytestmark = pytest.mark.base

TEXTS = [
    "av<20,>=16.1",
    "numpy>=1.26",
    "PyYAML>=6; extra == 'train'",
    "torch>=2.8; extra == 'train'",
    "torch>=2.8; extra == 'export'",
    "winonly>=1; sys_platform == 'nowhere'",
    "ramedge[train]; extra == 'all'",
    "pytest>=8; extra == 'dev'",
]
INSTALLED = {"av": "19.0.2", "numpy": "1.9", "torch": "2.13.0+cpu"}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Need]:
    def version(package: str) -> str:
        if package not in INSTALLED:
            raise metadata.PackageNotFoundError(package)
        return INSTALLED[package]

    monkeypatch.setattr(requirements.metadata, "requires", lambda name: TEXTS)
    monkeypatch.setattr(requirements.metadata, "version", version)
    return {need.package: need for need in needs()}


def test_what_a_user_may_need(known: dict[str, Need]) -> None:
    assert list(known) == ["av", "numpy", "PyYAML", "torch"]
    assert known["torch"].extra == "train"
    assert [need.package for need in known.values() if need.outside] == ["numpy"]


def test_the_command_that_mends_it(known: dict[str, Need]) -> None:
    assert known["av"].install == "pip install --force-reinstall 'av>=16.1,<20'"
    assert known["numpy"].install == "pip install 'numpy>=1.26'"
    assert known["PyYAML"].install == "pip install 'ramedge[train]'"
    assert need_of("pyyaml").extra == "train"


def test_packages_that_are_not_ramedges(known: dict[str, Need]) -> None:
    assert need_of("protobuf") == Need("protobuf", "", None, None)
    assert need_of("protobuf").install == "pip install 'protobuf'"


def test_a_source_tree_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> list[str]:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(requirements.metadata, "requires", none)
    assert needs() == ()


@pytest.mark.parametrize("version", ["unknown", "3.0.0"])
def test_a_version_that_is_none_is_outside(version: str) -> None:
    assert Need("av", ">=16.1,<3", None, version).outside
