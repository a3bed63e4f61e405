"""Pictures of a run: curves, and validation crops beside bicubic and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ramedge.files import atomic_path
from ramedge.training.photos import Pixels

CROP = 128
"""Side of a shown crop, in high-resolution pixels."""
ROWS = 4
_GAP = 4


def write_curves(history: Sequence[Mapping[str, float]], scales: Sequence[int], path: Path) -> None:
    """Plot loss and validation PSNR-Y over the steps, as PNG.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in history]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [entry["loss"] for entry in history], marker=".")
    left.set(xlabel="step", ylabel="training loss")
    for scale in scales:
        values = [entry[f"psnr_x{scale}"] for entry in history]
        right.plot(steps, values, marker=".", label=f"×{scale}: {values[-1]:.2f} dB")
    right.set(xlabel="step", ylabel="validation PSNR-Y (dB)")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def write_crops(rows: Sequence[tuple[Pixels, Pixels, Pixels]], path: Path) -> None:
    """Write one row for each (LR, output, truth): bicubic, output and truth side by side, as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    strips = []
    for low, output, truth in rows[:ROWS]:
        height, width = truth.shape[:2]
        bicubic = Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)
        strips.append([_centre(np.asarray(bicubic)), _centre(output), _centre(truth)])
    sheet = Image.new(
        "RGB",
        (3 * CROP + 2 * _GAP, len(strips) * (CROP + _GAP) - _GAP),
        "white",
    )
    for row, strip in enumerate(strips):
        for column, pixels in enumerate(strip):
            sheet.paste(Image.fromarray(pixels), (column * (CROP + _GAP), row * (CROP + _GAP)))
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG")


def _centre(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    y, x = max(0, (height - CROP) // 2), max(0, (width - CROP) // 2)
    return pixels[y : y + CROP, x : x + CROP]
