"""How near a whole upscaled video comes to the network's own speed, in one run.

python benchmarks/end_to_end.py VIDEO [--frames N] [--rounds N] [--json FILE]

In turn: the network alone on the frames of the video, decoded before, and `upscale_files` on
the video itself, decoding and encoding included. The ratio of the two, round by round, is what
counts; the times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from ramedge import Upscaler, UpscaleSettings, upscale_files
from ramedge.media.video import VideoReader


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with VideoReader(options.video, frames=options.frames) as reader:
        frames = [frame.pixels for frame in reader]
    ratios, alone, whole = [], [], []
    for _ in range(options.rounds):
        with Upscaler() as upscaler:
            upscaler.upscale(frames[0])
            started = time.perf_counter()
            for pixels in frames:
                upscaler.upscale(pixels)
            alone.append(len(frames) / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory() as folder:
            settings = UpscaleSettings(output=Path(folder) / "out.mp4", frames=options.frames)
            (result,) = upscale_files([str(options.video)], settings)
        if result.error is not None:
            raise SystemExit(result.error)
        whole.append(result.frames / result.seconds)
        ratios.append(whole[-1] / alone[-1])
        print(f"network {alone[-1]:.3f} fps, end to end {whole[-1]:.3f} fps: {ratios[-1]:.1%}")
    print(f"median ratio {median(ratios):.1%} ({min(ratios):.1%} to {max(ratios):.1%})")
    if options.json is not None:
        figures = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "video": options.video.name,
            "frames": len(frames),
            "size": list(frames[0].shape[:2]),
            "network_fps": alone,
            "end_to_end_fps": whole,
            "ratio": ratios,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
