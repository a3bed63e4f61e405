"""Writes the table of quality into docs/research and the model cards, from a result of `eval`.

    ramedge eval Set5 Set14 BSD100 --scale 2,3,4 --json benchmarks/results/quality.json
    python benchmarks/quality_table.py [RESULTS.json]

What stands between the two marks of a page is replaced; a test compares it with the results. A
card shows the rows of its scale.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readme import MEASUREMENTS, RESULTS, rewrite

from ramedge.files import write_text
from ramedge.quality.evaluation import Evaluation
from ramedge.quality.tables import as_markdown, summarize
from ramedge.runtimes.registry import title_of
from ramedge.weights import FOLDER as CARDS
from ramedge.weights import NETWORK

NAME = "quality"
QUALITY = RESULTS / "quality.json"


def pages(document: Mapping[str, Any]) -> dict[Path, str]:
    """The table for each page that has one."""
    parts = document.get("evaluations", [document])  # one set at one scale stands alone
    scales = sorted({part["scale"] for part in parts})
    cards = {CARDS / f"{NETWORK}_x{scale}.md": block(document, scale) for scale in scales}
    return {MEASUREMENTS: block(document)} | cards


def block(document: Mapping[str, Any], scale: int | None = None) -> str:
    """The table (of one scale), and a line on when and where it was measured if known."""
    parts = document.get("evaluations", [document])
    evaluations = [Evaluation.from_dict(part) for part in parts if scale in {None, part["scale"]}]
    text = as_markdown(summarize(evaluations))
    machine = document.get("machine")
    return text if machine is None else f"{text}\n{measured(machine, evaluations[0])}\n"


def measured(machine: Mapping[str, Any], evaluation: Evaluation) -> str:
    runtime = title_of(evaluation.runtime)
    version = machine["libraries"].get(evaluation.runtime, "")
    return (
        f"Measured on {machine['date']} by {f'{runtime} {version}'.rstrip()} in "
        f"{evaluation.precision.upper()} on {machine['cores']} cores of {machine['cpu']}."
    )


def write_page(page: Path, table: str) -> None:
    write_text(page, rewrite(page.read_text(encoding="utf-8"), NAME, table))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=QUALITY)
    document = json.loads(parser.parse_args().results.read_text(encoding="utf-8"))
    for page, table in pages(document).items():
        write_page(page, table)
    print(block(document), end="")


if __name__ == "__main__":
    main()
