"""What `follow` and `exact` cost beside `fast` on a video, and how near they come to whole frames.

    python benchmarks/tiled_video.py CLIP... [--width 320] [--frames 12] [--tile 64] [--json FILE]

Frames wider than `--width` are reduced to it, so that runs stay short. All modes run on the same
frame in turn, in one process, with the same tiles: `fast` with its own halo, and with that of the
mode it is compared with. The first frame, for which there is none before, is left out of the times.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge import Upscaler
from ramedge.halos import Halos
from ramedge.machine import describe_machine
from ramedge.media.video import VideoReader
from ramedge.runtimes.select import RuntimeSettings
from ramedge.tiles import LoneTiler

MODES = ("exact", "follow", "fast")


@dataclass
class Tally:
    """One mode on one clip."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    flipped: list[float] = field(default_factory=list)
    largest_flip: int = 0

    def compare(self, found: np.ndarray, whole: np.ndarray) -> None:
        difference = np.abs(found.astype(int) - whole)
        mean_square = float((difference.astype(float) ** 2).mean()) / 255**2
        # No difference at all counts as one level in one value: a mean of infinities says nothing.
        mean_square = max(mean_square, 1 / 255**2 / difference.size)
        self.psnr.append(-10 * float(np.log10(mean_square)))
        self.flipped.append(float((difference > 0).mean()))
        self.largest_flip = max(self.largest_flip, int(difference.max()))


def read_frames(path: Path, count: int, width: int) -> list[np.ndarray]:
    with VideoReader(path, None, count, False) as reader:
        frames = [frame.pixels.copy() for frame in reader]
    if frames[0].shape[1] <= width:
        return frames
    size = width, round(frames[0].shape[0] * width / frames[0].shape[1])
    return [
        np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        for frame in frames
    ]


def fast_like(mode: str, settings: RuntimeSettings, tile: int) -> Upscaler:
    """`fast` with the halo of another mode."""
    upscaler = Upscaler(settings, tile, tile_mode="fast")
    halos = Halos(upscaler.model.halos.rendering(mode, 8))  # type: ignore[arg-type]
    upscaler.model = replace(upscaler.model, halos=halos)
    upscaler._tiler = LoneTiler(upscaler._infer, upscaler.scale, halos)
    return upscaler


def run(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    frames = read_frames(path, arguments.frames, arguments.width)
    settings = RuntimeSettings(
        scale=arguments.scale, precision=arguments.precision, model=arguments.model
    )
    whole = Upscaler(settings, tile=0)
    upscalers = {mode: Upscaler(settings, arguments.tile, tile_mode=mode) for mode in MODES}  # type: ignore[arg-type]
    for mode in ("exact", "follow"):
        upscalers[f"fast like {mode}"] = fast_like(mode, settings, arguments.tile)
    for upscaler in upscalers.values():
        upscaler.upscale(frames[0])  # compiles
        upscaler.cut()
    tallies = {name: Tally() for name in upscalers}
    for frame in frames:
        expected = whole.upscale(frame)
        for name, upscaler in upscalers.items():
            started = time.perf_counter()
            found = upscaler.upscale(frame)
            tallies[name].seconds.append(time.perf_counter() - started)
            tallies[name].compare(found, expected)
    result: dict[str, object] = {"clip": path.name, "size": frames[0].shape[1::-1], "modes": {}}
    for name, tally in tallies.items():
        row = {
            "halo": upscalers[name].model.halos.rendering(
                name if name in MODES else "fast",  # type: ignore[arg-type]
                8,
            ),
            "seconds": float(np.median(tally.seconds[1:])),
            "lowest_psnr": min(tally.psnr),
            "flipped": float(np.mean(tally.flipped)),
            "largest_flip": tally.largest_flip,
        }
        if f"fast like {name}" in tallies:
            other = np.array(tallies[f"fast like {name}"].seconds[1:])
            row["times_fast"] = float(np.median(np.array(tally.seconds[1:]) / other))
        result["modes"][name] = row  # type: ignore[index]
        print(path.name, name, row, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [run(clip, arguments) for clip in arguments.clips]
    if arguments.json:
        record = {
            "machine": describe_machine(),
            "scale": arguments.scale,
            "precision": arguments.precision,
            "tile": arguments.tile,
            "frames": arguments.frames,
            "clips": results,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
