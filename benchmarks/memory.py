"""Peak memory of each graph kind per low-resolution pixel, each size in a process of its own.

    python benchmarks/memory.py [--scale 2]... [--precision fp32]... [--side 128]... [--json F]

Counted is what the process grew by from the opened model, before any graph is compiled, to its
peak. A line through the sizes gives the fixed part and the bytes per pixel that stand in
`runtimes/openvino/memory.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ramedge.system import describe_machine

KINDS = ("frame", "tile", "statistics", "blocks")
PROGRAM = """
import sys
import numpy as np
from ramedge.host_memory import peak_resident_bytes, resident_bytes
from ramedge.upscaling.open_model import RuntimeSettings, open_model
from ramedge.types import Window
from ramedge.runtimes.runtime import Features
kind, scale, precision, side = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
runtime = open_model(RuntimeSettings(scale=scale, precision=precision)).runtime
logits = np.zeros(runtime.excitation.shape)
blocks, channels = logits.shape
features = np.ones((channels, side, side), runtime.feature_type(pixels.dtype))
features = Features(features, features)
interior = Window(0, 0, side, side)
before = resident_bytes()
for _ in range(2):
    if kind == "frame":
        runtime.infer(pixels[None])
    elif kind == "tile":
        runtime.infer_tile(pixels, logits, interior)
    elif kind == "blocks":
        runtime.begin(pixels, interior)
        for block in range(1, blocks):
            runtime.advance(block, features, logits, interior)
        runtime.finish(features, logits, pixels)
    else:
        runtime.infer_statistic(pixels, logits, interior)
peak = peak_resident_bytes()
print(peak - before, runtime.precision)
"""


def grown(kind: str, scale: int, precision: str, side: int) -> tuple[int, str]:
    """Bytes, and the arithmetic that really ran."""
    command = [sys.executable, "-c", PROGRAM, kind, str(scale), precision, str(side)]
    words = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return int(words[0]), words[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--side", type=int, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sides = arguments.side or [128, 256, 384, 512]
    rows = []
    for scale in arguments.scale or (2, 3, 4):
        for wanted in arguments.precision or ("fp32", "fp16", "int8"):
            for kind in KINDS:
                measured = [grown(kind, scale, wanted, side) for side in sides]
                peaks = [bytes_ for bytes_, _ in measured]
                slope, fixed = np.polyfit([side**2 for side in sides], peaks, 1)
                rows.append(
                    {
                        "kind": kind,
                        "scale": scale,
                        "precision": measured[0][1],
                        "sides": sides,
                        "peak_bytes": peaks,
                        "bytes_per_pixel": round(slope),
                        "fixed_mib": round(fixed / 2**20),
                    }
                )
                print(rows[-1], flush=True)
    if arguments.json:
        record = {"machine": describe_machine(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
