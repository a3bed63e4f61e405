"""How near tiles come to the whole frame, and what they cost, for each mode.

    python benchmarks/tiles.py IMAGE... [--scale 2]... [--precision fp32]... [--tile 64]...
        [--model DIR] [--crop 241x187] [--repeat 1] [--json FILE] [--picture FILE]

Images are downscaled by the scale first, as in `ramedge eval`; with `--crop` their middle is taken
as it is instead. Each mode is compared with the whole frame in 8 bits, and in FP32 in 16 bits as
well, from which the error and the PSNR are then. Times are of the last run in 8 bits: with
`--repeat 2` that no longer compiles anything. `--picture` shows the differences of the first image
at the first scale, precision and tile size, 32 times amplified. `benchmarks/tiles_table.py` makes
the table of docs/research/tiles.md from the JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge import TilingOptions, Upscaler
from ramedge.quality.photos import downscale
from ramedge.system import describe_machine
from ramedge.upscaling.open_model import RuntimeSettings

AMPLIFIED = 32


@dataclass(frozen=True)
class Row:
    image: str
    scale: int
    size: str
    precision: str
    tile: int
    mode: str
    max_error: float
    psnr: float | None
    flipped: float
    flipped_pixels: float
    largest_flip: int
    seconds: float
    whole_seconds: float


def read(path: Path, scale: int, crop: tuple[int, int] | None) -> np.ndarray:
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    if crop is None:
        return np.asarray(downscale(photo, scale)[0])
    left, top = (photo.width - crop[0]) // 2, (photo.height - crop[1]) // 2
    return np.asarray(photo.crop((left, top, left + crop[0], top + crop[1])))


@dataclass(frozen=True)
class Whole:
    """A photo and what the whole frame makes of it, in 8 bits and in FP32 in 16 as well."""

    name: str
    pixels: np.ndarray
    result: np.ndarray
    wide: np.ndarray | None
    precision: str
    seconds: float


def timed(upscaler: Upscaler, pixels: np.ndarray, repeat: int) -> tuple[np.ndarray, float]:
    seconds = 0.0
    for _ in range(repeat):
        upscaler.start_file()
        started = time.perf_counter()
        result = upscaler.upscale(pixels).astype(int)
        seconds = time.perf_counter() - started
    return result, seconds


def widened(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def upscale_whole(name: str, pixels: np.ndarray, settings: RuntimeSettings, repeat: int) -> Whole:
    with Upscaler(settings, TilingOptions(tile="whole")) as upscaler:
        precision = upscaler.model.runtime.precision
        result, seconds = timed(upscaler, pixels, repeat)
        wide = timed(upscaler, widened(pixels), 1)[0] if precision == "fp32" else None
    return Whole(name, pixels, result, wide, precision, seconds)


def compare(whole: Whole, tiled: Upscaler, repeat: int) -> tuple[Row, np.ndarray]:
    found, seconds = timed(tiled, whole.pixels, repeat)
    difference = np.abs(found - whole.result)
    error = difference / 255
    if whole.wide is not None:
        error = np.abs(timed(tiled, widened(whole.pixels), 1)[0] - whole.wide) / 65535
    mean_square = float((error**2).mean())
    assert isinstance(tiled.tiling.tile, int)
    row = Row(
        image=whole.name,
        scale=tiled.scale,
        size=f"{whole.pixels.shape[1]}x{whole.pixels.shape[0]}",
        precision=whole.precision,
        tile=tiled.tiling.tile,
        mode=tiled.tiling.mode,
        max_error=float(error.max()),
        psnr=-10 * float(np.log10(mean_square)) if mean_square else None,
        flipped=float((difference > 0).mean()),
        flipped_pixels=float((difference > 0).any(axis=2).mean()),
        largest_flip=int(difference.max()),
        seconds=seconds,
        whole_seconds=whole.seconds,
    )
    return row, np.clip(difference * AMPLIFIED, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--crop")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    crop = None
    if arguments.crop:
        width, height = map(int, arguments.crop.split("x"))
        crop = width, height
    rows, pictures = [], []
    for scale, precision in product(arguments.scale or [2], arguments.precision or ["fp32"]):
        settings = RuntimeSettings(scale=scale, precision=precision, model=arguments.model)
        for path in arguments.images:
            whole = upscale_whole(path.name, read(path, scale, crop), settings, arguments.repeat)
            for tile, mode in product(arguments.tile or [64], ("exact", "fast")):
                with Upscaler(settings, TilingOptions(tile, mode)) as tiled:
                    row, picture = compare(whole, tiled, arguments.repeat)
                rows.append(vars(row))
                pictures.append(picture)
                print(
                    f"{row.image:18} ×{scale} {row.precision} tile {tile:3} {mode:5} "
                    f"max {row.max_error:.1e} {row.psnr or np.inf:6.1f} dB, "
                    f"{row.flipped * 1e5:8.2f} in 100,000 differ by at most "
                    f"{row.largest_flip}; {row.seconds / row.whole_seconds:.2f} times the whole",
                    flush=True,
                )
    if arguments.json:
        record = {"machine": describe_machine(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    if arguments.picture:
        sheet = np.concatenate([pictures[1], np.full_like(pictures[0][:, :8], 255), pictures[0]], 1)
        Image.fromarray(sheet).save(arguments.picture)


if __name__ == "__main__":
    main()
