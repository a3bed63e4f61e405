"""Peak memory of the network per low-resolution pixel, each size in a process of its own.

python benchmarks/memory.py [SIDE ...]
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np
from ramedge import Upscaler
side = int(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
with Upscaler(tile=0) as upscaler:
    upscaler.upscale(pixels[:16, :16])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    upscaler.upscale(pixels)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def main(sides: list[int]) -> None:
    for side in sides:
        command = [sys.executable, "-c", PROGRAM, str(side)]
        grown = int(subprocess.run(command, capture_output=True, check=True).stdout)
        print(f"{side}×{side}: {grown / 2**20:.0f} MiB, {grown / side**2:.0f} bytes per pixel")


if __name__ == "__main__":
    main([int(side) for side in sys.argv[1:]] or [256, 512, 1024])
