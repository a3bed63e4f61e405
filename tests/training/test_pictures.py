from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ramedge.training.pictures import CROP, write_crops, write_curves


def test_crops_stand_beside_bicubic_and_the_truth(tmp_path: Path, photo: np.ndarray) -> None:
    truth = np.tile(photo, (3, 3, 1))
    low = np.asarray(Image.fromarray(truth).resize((108, 96), Image.Resampling.BICUBIC))
    output = np.full_like(truth, 7)
    write_crops([(low, output, truth)] * 2, tmp_path / "crops.png")
    with Image.open(tmp_path / "crops.png") as opened:
        sheet = np.asarray(opened)
    y, x = (truth.shape[0] - CROP) // 2, (truth.shape[1] - CROP) // 2
    np.testing.assert_array_equal(sheet[:CROP, -CROP:], truth[y : y + CROP, x : x + CROP])
    middle = (sheet.shape[1] - CROP) // 2
    assert (sheet[:CROP, middle : middle + CROP] == 7).all()
    # The blank line between the rows.
    assert (sheet[CROP] == 255).all()


def test_crops_smaller_than_the_frame_are_shown_whole(tmp_path: Path) -> None:
    tiny = np.zeros((20, 24, 3), np.uint8)
    write_crops([(tiny[::2, ::2], tiny, tiny)], tmp_path / "crops.png")
    assert (tmp_path / "crops.png").stat().st_size > 0


def test_curves_are_a_picture(tmp_path: Path) -> None:
    history = [{"step": s, "loss": 1 / s, "psnr_x2": 30 + s, "psnr_x4": 25 + s} for s in (1, 2, 3)]
    write_curves(history, (2, 4), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as opened:
        assert opened.width > 800
        colours = np.asarray(opened.convert("RGB").resize((200, 80))).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 10
