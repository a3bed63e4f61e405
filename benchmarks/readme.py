"""Writing a generated block into a page, between its two marks."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
MEASUREMENTS = ROOT / "docs" / "research" / "quality_and_speed.md"


def rewrite(page: str, name: str, text: str) -> str:
    """`page` with `text` between the marks of that name."""
    opening, closing = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = page.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise SystemExit(f"The page has no {opening} … {closing} to write between.")
    return f"{before}{opening}\n{text}{closing}{after}"
