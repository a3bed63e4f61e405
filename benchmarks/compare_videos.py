"""What upscaling changed in a video besides its size, checked with PyAV alone.

python benchmarks/compare_videos.py SOURCE UPSCALED

Frames, timestamps, duration, the packets of every sound stream, and the mean of each colour
channel, frame by frame.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np

# Bicubic, accurate rounding, full chroma: swscale's defaults are a level off.
ACCURATE = 0x4 | 0x40000 | 0x2000 | 0x4000


def packets(path: Path) -> dict[int, list[tuple[float, bytes]]]:
    found: dict[int, list[tuple[float, bytes]]] = {}
    with av.open(str(path)) as container:
        streams = [*container.streams.audio, *container.streams.subtitles]
        for packet in container.demux(*streams) if streams else ():
            if packet.dts is not None:
                time = float(packet.pts * packet.time_base)
                found.setdefault(packet.stream.index, []).append((time, bytes(packet)))
    return found


def means(frame: av.VideoFrame) -> np.ndarray:
    rgb = frame.reformat(format="rgb24", interpolation=ACCURATE)
    return rgb.to_ndarray().mean(axis=(0, 1))


def main(source: Path, upscaled: Path) -> None:
    with av.open(str(source)) as one, av.open(str(upscaled)) as two:
        rate = float(one.streams.video[0].average_rate or 25)
        durations = one.duration / 1e6, two.duration / 1e6
        first, second = one.decode(video=0), two.decode(video=0)
        count, late, worst = 0, 0.0, np.zeros(3)
        total = np.zeros(3)
        for before, after in zip(first, second, strict=True):
            count += 1
            late = max(late, abs(before.time - after.time))
            change = means(after) - means(before)
            worst = np.maximum(worst, np.abs(change))
            total += change
    sounds = list(packets(source).values()), list(packets(upscaled).values())
    print(f"frames: {count} in both")
    print(f"timestamps: at most {late * 1000:.3f} ms apart")
    print(f"duration: {durations[0]:.3f} s and {durations[1]:.3f} s, a frame is {1 / rate:.3f} s")
    print(f"sound and subtitle packets identical: {sounds[0] == sounds[1]}")
    print(
        f"channel means: {np.round(total / count, 3)} levels on average, {np.round(worst, 3)} worst"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
