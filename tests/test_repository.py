"""Files for contributors: what they name exists, and they agree with the code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import ramedge

ROOT = Path(__file__).resolve().parents[1]
YAML = (
    ".pre-commit-config.yaml",
    ".github/workflows/check.yml",
    ".github/ISSUE_TEMPLATE/bug.yml",
    ".github/ISSUE_TEMPLATE/feature.yml",
    "CITATION.cff",
)

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="not run from a source tree"
)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_indented_by_two_spaces(name: str) -> None:
    for line in text(name).splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        assert "\t" not in indent
        assert len(indent) % 2 == 0


@pytest.mark.parametrize("name", YAML)
def test_yaml_parses(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(text(name)), dict)


def test_the_workflow_runs_both_scripts() -> None:
    runs = re.findall(r"^\s*- run: (scripts/\S+)$", text(".github/workflows/check.yml"), re.M)
    assert runs == ["scripts/check", "scripts/check_pythons"]
    for name in runs:
        assert os.access(ROOT / name, os.X_OK)


def test_the_hooks_are_commands_of_the_check() -> None:
    checks = text("scripts/check")
    hooks = re.findall(r"^\s*entry: (\S+(?: [a-z]+)?)", text(".pre-commit-config.yaml"), re.M)
    assert hooks == ["ruff check", "ruff format", "mypy"]
    assert all(hook in checks for hook in hooks)
    assert "pre-commit install" in text("CONTRIBUTING.md")


def test_the_citation_is_of_this_version_and_the_paper() -> None:
    citation = text("CITATION.cff")
    assert re.search(rf"^version: {re.escape(ramedge.__version__)}$", citation, re.M)
    assert "RAM: Residual Attention Module for Single Image Super-Resolution" in citation
    assert "arXiv:1811.12043" in citation
    license_name = re.search(r'^license = "(.+)"$', text("pyproject.toml"), re.M)
    assert license_name is not None
    assert f"\nlicense: {license_name[1]}\n" in citation


def test_a_bug_report_asks_for_doctor_and_the_log_file() -> None:
    bug = text(".github/ISSUE_TEMPLATE/bug.yml")
    assert "ramedge doctor" in bug
    assert "log file" in bug
