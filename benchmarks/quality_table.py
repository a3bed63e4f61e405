"""Writes the README's table of quality from the results of `ramedge eval`.

    ramedge eval Set5 Set14 BSD100 --scale 2 --json benchmarks/results/quality.json
    python benchmarks/quality_table.py [RESULTS.json] [README.md]

What stands between the two marks in the README is replaced; a test compares it with the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readme import README, RESULTS, rewrite

from ramedge.bench.settings import TITLES
from ramedge.evaluation import Evaluation
from ramedge.files import write_text
from ramedge.summary import as_markdown, summarize

NAME = "quality"
QUALITY = RESULTS / "quality.json"


def block(document: Mapping[str, Any]) -> str:
    """The table, and a line on when and where it was measured if `document` says so."""
    parts = document.get("evaluations", [document])  # one set at one scale stands alone
    evaluations = [Evaluation.from_dict(part) for part in parts]
    text = as_markdown(summarize(evaluations))
    machine = document.get("machine")
    return text if machine is None else f"{text}\n{measured(machine, evaluations[0])}\n"


def measured(machine: Mapping[str, Any], evaluation: Evaluation) -> str:
    runtime = TITLES.get(evaluation.runtime, evaluation.runtime)
    version = machine["libraries"].get(evaluation.runtime, "")
    return (
        f"Measured on {machine['date']} by {f'{runtime} {version}'.rstrip()} in "
        f"{evaluation.precision.upper()} on {machine['cores']} cores of {machine['cpu']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=QUALITY)
    parser.add_argument("readme", type=Path, nargs="?", default=README)
    options = parser.parse_args()
    table = block(json.loads(options.results.read_text(encoding="utf-8")))
    write_text(options.readme, rewrite(options.readme.read_text(encoding="utf-8"), NAME, table))
    print(table, end="")


if __name__ == "__main__":
    main()
