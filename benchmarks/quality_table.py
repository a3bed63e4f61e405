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

from ramedge.evaluation import Evaluation
from ramedge.files import write_text
from ramedge.summary import as_markdown, summarize

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"
RUNTIMES = {"openvino": "OpenVINO", "torch": "PyTorch"}


def block(document: Mapping[str, Any]) -> str:
    """The table, and a line on when and where it was measured if `document` says so."""
    parts = document.get("evaluations", [document])  # one set at one scale stands alone
    evaluations = [Evaluation.from_dict(part) for part in parts]
    text = as_markdown(summarize(evaluations))
    machine = document.get("machine")
    return text if machine is None else f"{text}\n{measured(machine, evaluations[0])}\n"


def measured(machine: Mapping[str, Any], evaluation: Evaluation) -> str:
    runtime = RUNTIMES.get(evaluation.runtime, evaluation.runtime)
    version = machine["libraries"].get(evaluation.runtime, "")
    return (
        f"Measured on {machine['date']} by {f'{runtime} {version}'.rstrip()} in "
        f"{evaluation.precision.upper()} on {machine['cores']} cores of {machine['cpu']}."
    )


def rewrite(readme: str, table: str) -> str:
    """`readme` with `table` between the marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"The README has no {BEGIN} … {END} to write between.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("readme", type=Path, nargs="?", default=README)
    options = parser.parse_args()
    table = block(json.loads(options.results.read_text(encoding="utf-8")))
    write_text(options.readme, rewrite(options.readme.read_text(encoding="utf-8"), table))
    print(table, end="")


if __name__ == "__main__":
    main()
