"""How near tiles come to the whole frame, and what they cost, for each mode.

    python benchmarks/tiles.py IMAGE... [--scale 2] [--tile 64]... [--json FILE] [--picture FILE]

Images are downscaled by the scale first, as in `ramedge eval`. Each mode is compared with the whole
frame in 8 and in 16 bits; times are of one run each, whole and tiled in turn. `--picture` shows the
differences of the first image at the first tile size, 32 times amplified.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge import Upscaler
from ramedge.machine import describe_machine
from ramedge.photos import downscale
from ramedge.runtimes.select import RuntimeSettings

AMPLIFIED = 32


@dataclass(frozen=True)
class Row:
    image: str
    tile: int
    mode: str
    max_error: float
    psnr: float
    flipped: float
    largest_flip: int
    seconds: float
    whole_seconds: float


def compare(path: Path, tile: int, mode: str, scale: int) -> tuple[Row, np.ndarray]:
    with Image.open(path) as opened:
        low = np.asarray(downscale(opened.convert("RGB"), scale)[0])
    wide = low.astype(np.uint16) * 257
    settings = RuntimeSettings(scale=scale, precision="fp32")
    with Upscaler(settings, tile=0) as whole, Upscaler(settings, tile, tile_mode=mode) as tiled:  # type: ignore[arg-type]
        expected16, found16 = whole.upscale(wide).astype(int), tiled.upscale(wide).astype(int)
        seconds = []
        outputs = []
        for upscaler in (whole, tiled):
            upscaler.upscale(low)
            started = time.perf_counter()
            outputs.append(upscaler.upscale(low).astype(int))
            seconds.append(time.perf_counter() - started)
            upscaler.start_file()
    error = np.abs(found16 - expected16) / 65535
    difference = np.abs(outputs[1] - outputs[0])
    mean_square = float((error**2).mean())
    row = Row(
        image=path.name,
        tile=tile,
        mode=mode,
        max_error=float(error.max()),
        psnr=float("inf") if mean_square == 0 else -10 * float(np.log10(mean_square)),
        flipped=float((difference > 0).mean()),
        largest_flip=int(difference.max()),
        seconds=seconds[1],
        whole_seconds=seconds[0],
    )
    return row, np.clip(difference * AMPLIFIED, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    rows, pictures = [], []
    for tile in arguments.tile or [64]:
        for path in arguments.images:
            for mode in ("exact", "fast"):
                row, picture = compare(path, tile, mode, arguments.scale)
                rows.append(vars(row))
                pictures.append(picture)
                print(
                    f"{row.image:18} tile {tile:3} {mode:5} max {row.max_error:.1e} "
                    f"{row.psnr:6.1f} dB, {row.flipped * 1e5:8.2f} in 100,000 differ by at most "
                    f"{row.largest_flip}; {row.seconds / row.whole_seconds:.2f} times the whole",
                    flush=True,
                )
    if arguments.json:
        record = {"machine": describe_machine(), "scale": arguments.scale, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    if arguments.picture:
        sheet = np.concatenate([pictures[1], np.full_like(pictures[0][:, :8], 255), pictures[0]], 1)
        Image.fromarray(sheet).save(arguments.picture)


if __name__ == "__main__":
    main()
