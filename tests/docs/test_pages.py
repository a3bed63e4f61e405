"""The pages: links exist, the README is short, and dates are in docs/research only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README_WORDS = 600

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(`{3,}|~{3,})")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_MENTION = re.compile(r"\b(?:docs|benchmarks|scripts)/[\w./-]*\w\.(?:md|png|py|json)\b")


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository, those not yet committed included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip("not run from a git checkout")
    return [ROOT / name for name in sorted(set(ended.stdout.split())) if (ROOT / name).is_file()]


def without_code(text: str) -> str:
    """The text with empty lines in place of its fences, and without inline code."""
    kept, mark = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line.strip())
        if fence and (not mark or line.strip() == mark):
            mark = "" if mark else fence[1]
            kept.append("")
        else:
            kept.append("" if mark else line)
    return re.sub(r"`[^`\n]*`", "", "\n".join(kept))


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them from its headings."""
    text, found, seen = page.read_text(encoding="utf-8"), set(), {}
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line.strip()):
            fenced = not fenced
        heading = re.match(r"#{1,6} (.+)", line)
        if fenced or heading is None:
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def test_every_relative_link_exists() -> None:
    pages = tracked("*.md")
    checked, broken = 0, []
    for page in pages:
        for target in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            checked += 1
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)
    assert checked > 100


def test_files_that_code_and_pages_mention_exist() -> None:
    missing = []
    for path in tracked("*.md", "*.py", "*.toml", "scripts/*", ".ci/*"):
        for mention in _MENTION.findall(path.read_text(encoding="utf-8")):
            inside = [ROOT / mention, path.parent / mention]
            if path != Path(__file__) and not any(one.exists() for one in inside):
                missing.append(f"{path.relative_to(ROOT)}: {mention}")
    assert not missing, "\n".join(missing)


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in tracked("docs/*.md"):
        assert f"({page.relative_to(ROOT).as_posix()}" in readme, page


def test_every_picture_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in tracked("*.md"))
    for picture in tracked("docs/*.png"):
        assert f"{picture.name})" in shown, picture


def test_the_readme_is_short_and_begins_with_commands_that_work() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.split()) <= README_WORDS
    lines = readme.splitlines()
    assert sum(line.startswith("python3 -m venv ") for line in lines) == 2
    for sentence in (
        "ramedge export --precision fp16",
        "ramedge upscale video.mp4",
        "ramedge bench",
    ):
        assert any(line.split("  ")[0] == sentence for line in lines), sentence
    assert len(re.findall(r"^\|(?:-+:?\|)+$", readme, flags=re.MULTILINE)) == 1  # one table


def test_guides_and_explanations_have_no_dates() -> None:
    """What was measured when and where belongs to docs/research."""
    for page in tracked("docs/guide/*.md", "docs/explanation/*.md", "docs/reference/*.md"):
        assert not _DATE.search(page.read_text(encoding="utf-8")), page


def test_every_term_of_the_glossary_has_an_explanation() -> None:
    text = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)\n(.*)", text, flags=re.MULTILINE)
    names = [name for name, _ in terms]
    assert names == sorted(names, key=str.lower)
    assert all(explanation for _, explanation in terms)
