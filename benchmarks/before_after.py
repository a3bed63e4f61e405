"""Makes the picture of the README: a photo enlarged by bicubic, and by ramedge.

python benchmarks/before_after.py docs/guide/before_after.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ramedge import Upscaler
from ramedge.samples import sample_photo

CROP = (150, 60, 310, 180)  # of chelsea.png: left, top, right, bottom
ZOOM = 3  # of the result, pixel by pixel, so that a browser shows what there is


def main(target: Path) -> None:
    with Image.open(sample_photo("chelsea.png")) as opened:
        photo = opened.convert("RGB")
    with Upscaler() as upscaler:
        scale = upscaler.scale
        after = Image.fromarray(upscaler.upscale(np.asarray(photo)))
    before = photo.resize(after.size, Image.Resampling.BICUBIC)
    box = tuple(scale * side for side in CROP)
    panels = [("bicubic", before.crop(box)), ("ramedge", after.crop(box))]
    size = (panels[0][1].width * ZOOM // 2, panels[0][1].height * ZOOM // 2)
    sheet = Image.new("RGB", (2 * size[0] + 8, size[1]), "white")
    for index, (name, panel) in enumerate(panels):
        shown = panel.resize(size, Image.Resampling.NEAREST)
        ImageDraw.Draw(shown).text((8, 8), name, "white", stroke_width=2, stroke_fill="black")
        sheet.paste(shown, (index * (size[0] + 8), 0))
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
