"""How far the pixels round a tile matter: agreement with the whole frame for each halo.

    python benchmarks/halos.py PHOTOS [--scale 2]... [--count 6] [--json FILE]

With the whole frame's attention, in FP32 floats before rounding, a halo of the receptive field
agrees but for the order of sums; this measures smaller ones on crops of real photos, in tiles of 64
pixels (larger tiles have less border, hence agree better). The figures go to
`ramedge/weights/halos.json`, from which `ramedge.tiling.halos` chooses, for the weights they were
measured on and no others: run it again after training. Never run it on benchmark images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge.network.channel_statistics import attention_change, merge
from ramedge.quality.photos import find_photos
from ramedge.runtimes.runtime import Runtime
from ramedge.system import describe_machine
from ramedge.tiling.grid import TilePlan
from ramedge.tiling.halos import HALOS_FILE
from ramedge.types import Window
from ramedge.upscaling.open_model import RuntimeSettings, open_model

TILE = 64
CROP = 192, 288
SMALLER = (2, 4, 6, 8, 12, 16, 20, 24, 28)


def crops(folder: Path, count: int) -> list[np.ndarray]:
    """Middles of photos at half size, so that they are as sharp as a photo from a camera is not."""
    photos = find_photos(folder)
    chosen = photos[:: max(1, len(photos) // count)][:count]
    parts = []
    for path in chosen:
        with Image.open(path) as opened:
            half = opened.convert("RGB").reduce(2)
        height, width = min(CROP[0], half.height), min(CROP[1], half.width)
        left, top = (half.width - width) // 2, (half.height - height) // 2
        parts.append(np.asarray(half.crop((left, top, left + width, top + height))))
    return parts


class Photo:
    """A photo, its whole frame's attention and its output with that."""

    def __init__(self, runtime: Runtime, pixels: np.ndarray) -> None:
        assert runtime.excitation is not None
        self.runtime, self.pixels = runtime, pixels
        self.excitation = runtime.excitation
        whole = Window(0, 0, *pixels.shape[:2])
        self.logits = np.zeros(self.excitation.shape)
        for _ in range(self.excitation.shape[0]):
            statistic = runtime.infer_statistic(pixels, self.logits, whole)
            self.logits = self.excitation.logits(statistic.variance)
        self.output = self.run(whole, whole)

    def run(self, source: Window, interior: Window) -> np.ndarray:
        image = self.pixels[source.slices].transpose(2, 0, 1)[None].astype(np.float32) / 255
        mask = np.zeros((1, 1, source.height, source.width), np.float32)
        mask[0, 0][interior.within(source).slices] = 1
        logits = self.logits[None].astype(np.float32)
        return self.runtime.infer_tile_float(np.ascontiguousarray(image), logits, mask)[0][0]

    def output_error(self, halo: int) -> np.ndarray:
        error = np.full(self.output.shape, np.nan)
        for tile in TilePlan(*self.pixels.shape[:2], TILE, halo):
            found = self.run(tile.source, tile.interior)
            scale = self.runtime.scale
            kept = tile.interior.within(tile.source).scaled(scale).slices
            place = tile.interior.scaled(scale).slices
            error[(..., *place)] = found[(..., *kept)] - self.output[(..., *place)]
        return np.abs(error)

    def attention_error(self, halo: int) -> float:
        parts = [
            self.runtime.infer_statistic(
                self.pixels[tile.source.slices], self.logits, tile.interior.within(tile.source)
            )
            for tile in TilePlan(*self.pixels.shape[:2], TILE, halo)
        ]
        return attention_change(self.logits, self.excitation.logits(merge(parts).variance))


def measure(scale: int, parts: list[np.ndarray]) -> dict[str, object]:
    opened = open_model(RuntimeSettings(scale=scale, precision="fp32"))
    runtime = opened.runtime
    photos = [Photo(runtime, part) for part in parts]
    rows = []
    for halo in (*SMALLER, opened.halos.receptive_field):
        errors = [photo.output_error(halo) for photo in photos]
        worst = max(float((error**2).mean()) for error in errors)
        rows.append(
            {
                "halo": halo,
                "psnr": round(-10 * float(np.log10(max(worst, 1e-20))), 1),
                "max_error": float(f"{max(error.max() for error in errors):.2e}"),
                "mean_error": float(f"{max(error.mean() for error in errors):.2e}"),
                "attention_error": float(
                    f"{max(photo.attention_error(halo) for photo in photos):.2e}"
                ),
            }
        )
        print(f"×{scale}", rows[-1], flush=True)
    return {
        "weights": opened.weights,
        "receptive_field": opened.halos.receptive_field,
        "halos": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--scale", type=int, action="append")
    parser.add_argument("--count", type=int, default=6, help="photos that are measured")
    parser.add_argument("--json", type=Path, default=HALOS_FILE)
    arguments = parser.parse_args()
    parts = crops(arguments.photos, arguments.count)
    known = json.loads(arguments.json.read_text())["scales"] if arguments.json.exists() else {}
    for scale in arguments.scale or (2, 3, 4):
        known[str(scale)] = measure(scale, parts)
    record = {
        "source": f"benchmarks/halos.py: {len(parts)} photos, worst of them, tiles of {TILE}",
        "machine": describe_machine(),
        "scales": known,
    }
    arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
