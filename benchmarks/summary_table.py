"""Writes the README's table of quality and speed from results of `ramedge eval` and `int8.py`.

    python benchmarks/summary_table.py

What stands between the two marks in the README is replaced; a test compares it with the results.
"""

from __future__ import annotations

import json
from typing import Any

from readme import README, RESULTS, rewrite

from ramedge.files import write_text

NAME = "summary"
QUALITY = RESULTS / "quality.json"
INT8 = RESULTS / "int8.json"
SET = "Set5"

_ARITHMETIC = {"fp32": "FP32", "bf16": "bfloat16", "fp16": "FP16", "int8": "INT8"}


def block(quality: dict[str, Any], int8: dict[str, Any]) -> str:
    """A column for each scale: PSNR-Y on one set, then the time for a frame in each precision."""
    scores = {part["scale"]: part for part in quality["evaluations"] if part["name"] == SET}
    losses = {row["scale"]: row["mean"] for row in int8["loss"] if row["name"] == SET}
    speeds = {row["scale"]: row["milliseconds"] for row in int8["speed"]}
    rows = [
        (f"{SET} PSNR-Y, dB", [f"×{scale}" for scale in scores]),
        ("bicubic", [f"{part['mean']['bicubic_psnr']:.2f}" for part in scores.values()]),
        ("**ramedge**", [f"**{part['mean']['psnr']:.2f}**" for part in scores.values()]),
        ("the paper", [f"{part['paper']['psnr']:.2f}" for part in scores.values()]),
        ("INT8 loses", [f"{losses[scale]:.2f}" for scale in scores]),
    ]
    for precision in next(iter(speeds.values())):
        times = [f"{speeds[scale][precision]:.0f}" for scale in scores]
        rows.append((f"ms per 320×180 frame, {_ARITHMETIC[precision]}", times))
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    lines.insert(1, "|---" + "|---:" * len(scores) + "|")
    machine = int8["machine"]
    measured = (
        f"OpenVINO {machine['libraries']['openvino']}, {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['date']}."
    )
    return "\n".join([*lines, "", measured, ""])


def main() -> None:
    quality = json.loads(QUALITY.read_text(encoding="utf-8"))
    table = block(quality, json.loads(INT8.read_text(encoding="utf-8")))
    write_text(README, rewrite(README.read_text(encoding="utf-8"), NAME, table))
    print(table, end="")


if __name__ == "__main__":
    main()
