"""Whether tiles with the same attention are the whole frame, and whether the frame's own graph is.

    python benchmarks/tile_graph.py [--scale 2] [--tile 64] [--json FILE]

The tile graph runs a part of a shipped photo as a whole and in tiles with the receptive field
around them, both with the attention that it found itself; the frame graph runs the whole. All by
OpenVINO.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge.media.pixels import Pixels
from ramedge.network.config import NetworkConfig
from ramedge.runtimes.backend import PrecisionName
from ramedge.runtimes.runtime import Runtime
from ramedge.samples import PHOTOS, sample_photo
from ramedge.system import describe_machine
from ramedge.tiling.attention.fixed_point import AttentionSolver
from ramedge.tiling.grid import TilePlan
from ramedge.upscaling.open_model import RuntimeSettings, open_model

CANDIDATES: tuple[PrecisionName, ...] = ("fp32", "auto", "int8")
BOX = 100, 100, 233, 251
"""Left, top, right, bottom of the part."""


@dataclass(frozen=True)
class Agreement:
    """PSNR of 8-bit values in dB (`None` where all are the same) and the share that differs."""

    psnr: float | None
    differ: float

    @classmethod
    def of(cls, found: Pixels, expected: Pixels) -> Agreement:
        difference = found.astype(int) - expected
        mean_square = float((difference**2).mean()) / 255**2
        psnr = -10 * float(np.log10(mean_square)) if mean_square else None
        return cls(psnr, float((difference != 0).mean()))


def tiled(runtime: Runtime, pixels: Pixels, logits: np.ndarray, plan: TilePlan) -> Pixels:
    scale = runtime.scale
    found = np.zeros((scale * plan.height, scale * plan.width, 3), pixels.dtype)
    for tile in plan:
        inner = tile.interior.within(tile.source)
        output, _ = runtime.infer_tile(pixels[tile.source.slices], logits, inner)
        found[tile.interior.scaled(scale).slices] = output[inner.scaled(scale).slices]
    return found


def measure(precision: PrecisionName, scale: int, side: int) -> dict[str, object]:
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB").crop(BOX))
    height, width, _ = pixels.shape
    halo = NetworkConfig(scales=(scale,)).receptive_field(scale)
    runtime = open_model(RuntimeSettings(precision=precision, scale=scale)).runtime
    assert runtime.excitation is not None
    whole_plan = TilePlan(height, width, max(height, width), 0)
    logits = AttentionSolver(runtime, runtime.excitation).solve(pixels, whole_plan).logits
    whole = tiled(runtime, pixels, logits, whole_plan)
    tiles = tiled(runtime, pixels, logits, TilePlan(height, width, side, halo))
    frame = runtime.infer(pixels[None])[0]
    ran = runtime.precision
    runtime.close()
    return {
        "precision": ran,
        "tiles_against_whole": asdict(Agreement.of(tiles, whole)),
        "frame_graph_against_tile_graph": asdict(Agreement.of(frame, whole)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(precision, options.scale, options.tile) for precision in CANDIDATES]
    for row in rows:
        print(json.dumps(row), flush=True)
    if options.json:
        record = {
            "machine": describe_machine(),
            "scale": options.scale,
            "tile": options.tile,
            "rows": rows,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
