"""Writes the table of docs/research/tiles.md from a result of `benchmarks/tiles.py`.

    python benchmarks/tiles.py ramedge/samples/coffee.png --crop 597x389 --scale 2 --scale 3
        --scale 4 --precision fp32 --precision fp16 --precision int8 --tile 48 --tile 128
        --tile 256 --tile 512 --json benchmarks/results/tiles.json
    python benchmarks/tiles_table.py [RESULTS.json] [PAGE.md]

What stands between the marks on the page is replaced; a test compares it with the results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from readme import RESULTS, ROOT, rewrite

from ramedge.files import write_text

NAME = "tiles"
TILES = RESULTS / "tiles.json"
PAGE = ROOT / "docs" / "research" / "tiles.md"

_ARITHMETIC = {"fp32": "FP32", "bf16": "bfloat16", "fp16": "FP16", "int8": "INT8"}


def block(result: dict[str, Any]) -> str:
    """The table, and a line on when and where it was measured."""
    lines = ["| | tile | `exact` | `fast` |", "|---|---|---|---|"]
    modes = {
        mode: [row for row in result["rows"] if row["mode"] == mode] for mode in ("exact", "fast")
    }
    for exact, fast in zip(modes["exact"], modes["fast"], strict=True):
        lines.append(
            f"| ×{exact['scale']}, {_ARITHMETIC[exact['precision']]} | {exact['tile']} | "
            f"{_cell(exact)} | {_cell(fast)} |"
        )
    machine = result["machine"]
    measured = (
        f"Measured on {machine['date']} by `benchmarks/tiles.py` with OpenVINO "
        f"{machine['libraries']['openvino']} on {machine['cores']} cores of {machine['cpu']}.\n"
    )
    return "\n".join([*lines, "", measured])


def _cell(row: dict[str, Any]) -> str:
    if row["psnr"] is None:
        return "every value the same"
    flipped = row["flipped"] * 1e5
    said = f"{flipped:.1f}" if flipped < 10 else f"{flipped:,.0f}"
    agreement = f"{row['psnr']:.0f} dB" if row["psnr"] >= 100 else f"{row['psnr']:.1f} dB"
    error = f"{row['max_error']:.1e}, ".replace("e-0", "e-") if row["precision"] == "fp32" else ""
    return f"{error}{agreement}; {said} of 100,000, by {row['largest_flip']}"


def write(page: str, result: dict[str, Any]) -> str:
    """The page with its table from `result`."""
    return rewrite(page, NAME, block(result))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=TILES)
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    options = parser.parse_args()
    result = json.loads(options.results.read_text(encoding="utf-8"))
    write_text(options.page, write(options.page.read_text(encoding="utf-8"), result))
    print(block(result))


if __name__ == "__main__":
    main()
