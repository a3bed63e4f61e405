"""docs/reference says what the code says."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

import ramedge
from ramedge.cli.app import app

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_reference"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("make_reference", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(script: ModuleType) -> dict[str, str]:
    return {page.name: text for page, text in script.pages().items()}


def test_no_page_is_stale(script: ModuleType) -> None:
    stale = [page.name for page in script.stale(script.pages())]
    assert not stale, f"docs/reference: {', '.join(stale)} differ from the code: run {SCRIPT.name}"


def test_a_changed_page_is_stale(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "same.md").write_text("text\n", encoding="utf-8")
    (tmp_path / "other.md").write_text("old\n", encoding="utf-8")
    expected = {tmp_path / f"{name}.md": "text\n" for name in ("same", "other", "none")}
    assert [page.name for page in script.stale(expected)] == ["other.md", "none.md"]


def test_the_terminal_does_not_matter(
    script: ModuleType, pages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert script.command_line() == pages["cli.md"]


def test_every_option_has_a_row_with_a_sentence(pages: dict[str, str]) -> None:
    import typer

    def visit(command: object) -> int:
        below = getattr(command, "commands", {})
        options = [one for one in command.params if one.param_type_name == "option"]  # type: ignore[attr-defined]
        for one in options if not below else ():
            if one.name != "help":
                rows = [line for line in pages["cli.md"].splitlines() if f"`{one.opts[0]}`" in line]
                assert rows, one.opts
                assert (one.help or "").endswith((".", "…")), one.opts
        return len(options) + sum(visit(one) for one in below.values())

    assert visit(typer.main.get_command(app)) > 60


def test_every_public_name_has_a_section(pages: dict[str, str]) -> None:
    for name in ramedge.__all__:
        assert f"## {name}\n" in pages["api.md"]
    assert " at 0x" not in pages["api.md"]


def test_every_kind_of_error_has_a_row(pages: dict[str, str]) -> None:
    assert "`UsageError` | 2 |" in pages["errors.md"]
    assert "`UnexpectedError` | 70 |" in pages["errors.md"]
    assert pages["errors.md"].count("\n| &nbsp;") == 12
