"""Writes the tables of docs/research/int8.md from a result of `benchmarks/int8.py`.

    python benchmarks/int8.py SETS... --json benchmarks/results/int8.json
    python benchmarks/int8_table.py [RESULTS.json] [PAGE.md]

What stands between the marks on the page is replaced; a test compares it with the results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from readme import RESULTS, ROOT, rewrite

from ramedge.files import write_text

INT8 = RESULTS / "int8.json"
PAGE = ROOT / "docs" / "research" / "int8.md"


def blocks(result: dict[str, Any]) -> dict[str, str]:
    """The text of each mark."""
    machine = result["machine"]
    measured = (
        f"Measured on {machine['date']} by `benchmarks/int8.py` with OpenVINO "
        f"{machine['libraries']['openvino']} on {machine['cores']} cores of {machine['cpu']} "
        f"({', '.join(machine['cpu_flags'])}).\n"
    )
    loss = [
        "| | set | loss, mean | loss, worst image | agreement | largest difference | tint |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["loss"]:
        loss.append(
            f"| ×{row['scale']} | {row['name']} | {row['mean']:.3f} | "
            f"{row['worst']:.3f} ({Path(row['worst_image']).stem}) | "
            f"{row['agreement_least']:.1f} dB | {row['peak']:.0f} levels | "
            f"{row['bias_mean']:.2f}, {row['bias_worst']:.2f} |"
        )
    speed = [
        "| | FP32 | half precision | INT8 | against FP32 | against half | of an int8 product |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["speed"]:
        times, over = list(row["milliseconds"].values()), list(row["int8_over"].values())
        speed.append(
            f"| ×{row['scale']} | {' | '.join(f'{time:.1f}' for time in times)} | "
            f"{' | '.join(f'{ratio:.2f}' for ratio in over)} | {row['share_of_roofline']:.0%} |"
        )
    return {
        "loss": "\n".join([*loss, "", measured]),
        "speed": "\n".join([*speed, "", measured]),
    }


def write(page: str, result: dict[str, Any]) -> str:
    """The page with all its tables from `result`."""
    for name, text in blocks(result).items():
        page = rewrite(page, name, text)
    return page


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, nargs="?", default=INT8)
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    options = parser.parse_args()
    result = json.loads(options.results.read_text(encoding="utf-8"))
    page = write(options.page.read_text(encoding="utf-8"), result)
    write_text(options.page, page)
    print("\n".join(blocks(result).values()))


if __name__ == "__main__":
    main()
