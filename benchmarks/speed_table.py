"""Writes the table of speed into docs/research from a result of `ramedge bench`.

    ramedge bench --json benchmarks/results/speed.json
    python benchmarks/speed_table.py [RESULTS.json] [PAGE.md]

What stands between the two marks of the page is replaced; a test compares it with the results.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from readme import MEASUREMENTS, RESULTS, rewrite

from ramedge.bench.result import BenchResult, load_result, title
from ramedge.bench.table import alike, figure_lines
from ramedge.files import write_text
from ramedge.runtimes.registry import title_of

NAME = "speed"
SPEED = RESULTS / "speed.json"
LEFT_OUT = (
    "p99 ms",
    "timed runs",
    "of a matrix product",
    "load, s",
    "largest error, levels",
    "tint R G B, levels",
)
"""What the command prints as well: the table is to fit its page."""


def block(result: BenchResult) -> str:
    """Each scale and size as a table, then the way from file to file, then when and where."""
    parts = []
    for rows in alike(result.rows):
        one = rows[0].combination
        lines = [
            (f"{one.width}×{one.height} ×{one.scale}", [title(row.combination) for row in rows]),
            *(line for line in figure_lines(rows, result.baseline) if line[0] not in LEFT_OUT),
        ]
        for end in result.end_to_end[:1]:
            found = {other.combination.key: other for other in result.end_to_end}
            ends = [found.get(row.combination.key) for row in rows]
            texts = ["–" if e is None else f"{e.frames_per_second.median:.3g}" for e in ends]
            lines.append((f"{end.source} from file to file, frames/s", texts))
        table = [f"| {name} | {' | '.join(cells)} |" for name, cells in lines]
        table.insert(1, "|---" + "|---:" * len(rows) + "|")
        parts.append("\n".join(table) + "\n")
    return "\n".join([*parts, measured(result) + "\n"])


def measured(result: BenchResult) -> str:
    machine = result.machine
    used = dict.fromkeys(row.combination.runtime for row in result.rows)
    versions = machine["libraries"]
    names = [f"{title_of(name)} {versions.get(name, '')}".rstrip() for name in used]
    return (
        f"Measured on {machine['date']} by `ramedge bench` with {' and '.join(names)} on "
        f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['cpu_flags'])})."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=SPEED)
    parser.add_argument("page", type=Path, nargs="?", default=MEASUREMENTS)
    options = parser.parse_args()
    table = block(load_result(options.results))
    write_text(options.page, rewrite(options.page.read_text(encoding="utf-8"), NAME, table))
    print(table, end="")


if __name__ == "__main__":
    main()
