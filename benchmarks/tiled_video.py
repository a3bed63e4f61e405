"""What `temporal` and `exact` cost beside `fast` on a video, and how they agree with whole frames.

    python benchmarks/tiled_video.py CLIP... [--frames 24] [--skip 20] [--tile 128] [--json FILE]

All modes run on the same frame in turn, in one process, with tiles of the same side. The first
frame, for which there is none before, is left out of the times; those are of all others together,
recomputed frames included. With `--width` wider frames are reduced to it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge import TilingOptions, Upscaler
from ramedge.media.video import VideoReader
from ramedge.system import describe_machine
from ramedge.tiling.options import TileMode
from ramedge.upscaling.open_model import RuntimeSettings

MODES: tuple[TileMode, ...] = ("exact", "temporal", "fast")


@dataclass
class Tally:
    """One mode on one clip."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    flipped: list[float] = field(default_factory=list)
    flipped_pixels: list[float] = field(default_factory=list)
    largest_flip: int = 0
    recomputed: int = 0

    def compare(self, found: np.ndarray, whole: np.ndarray) -> None:
        difference = np.abs(found.astype(int) - whole)
        mean_square = float((difference.astype(float) ** 2).mean()) / 255**2
        # No difference at all counts as one level in one value: a mean of infinities says nothing.
        mean_square = max(mean_square, 1 / 255**2 / difference.size)
        self.psnr.append(-10 * float(np.log10(mean_square)))
        self.flipped.append(float((difference > 0).mean()))
        self.flipped_pixels.append(float((difference > 0).any(axis=2).mean()))
        self.largest_flip = max(self.largest_flip, int(difference.max()))


def read_frames(path: Path, skip: int, count: int, width: int) -> list[np.ndarray]:
    with VideoReader(path, None, skip + count, False) as reader:
        frames = [frame.pixels.copy() for frame in reader][skip:]
    if frames[0].shape[1] <= width:
        return frames
    size = width, round(frames[0].shape[0] * width / frames[0].shape[1])
    return [
        np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        for frame in frames
    ]


def run(path: Path, arguments: argparse.Namespace) -> dict[str, object]:
    frames = read_frames(path, arguments.skip, arguments.frames, arguments.width)
    settings = RuntimeSettings(
        scale=arguments.scale, precision=arguments.precision, model=arguments.model
    )
    whole = Upscaler(settings, TilingOptions(tile="whole"))
    upscalers = {mode: Upscaler(settings, TilingOptions(arguments.tile, mode)) for mode in MODES}
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
            tallies[name].recomputed += not upscaler.attention_from_previous
    result: dict[str, object] = {"clip": path.name, "size": frames[0].shape[1::-1], "modes": {}}
    for name, tally in tallies.items():
        pixels = frames[0].shape[0] * frames[0].shape[1]
        seconds, beside = (np.array(t.seconds[1:]) for t in (tally, tallies["fast"]))
        row = {
            "seconds": float(np.mean(seconds)),
            "microseconds_per_pixel": 1e6 * float(np.mean(seconds)) / pixels,
            "times_fast": float(seconds.sum() / beside.sum()),
            "median_times_fast": float(np.median(seconds / beside)),
            "recomputed": tally.recomputed - 1 if name == "temporal" else None,
            "lowest_psnr": min(tally.psnr),
            "flipped": float(np.mean(tally.flipped)),
            "flipped_pixels": float(np.mean(tally.flipped_pixels)),
            "largest_flip": tally.largest_flip,
        }
        result["modes"][name] = row  # type: ignore[index]
        print(path.name, name, row, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--width", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [run(clip, arguments) for clip in arguments.clips]
    if arguments.json:
        record = {
            "machine": describe_machine(),
            "scale": arguments.scale,
            "precision": arguments.precision,
            "tile": arguments.tile,
            "frames": [arguments.skip, arguments.frames],
            "clips": results,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
