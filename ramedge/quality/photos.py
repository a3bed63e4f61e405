"""Folders of photos, and the field's way of making low-resolution images of them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ramedge.errors import InputError

PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def find_photos(folder: Path) -> list[Path]:
    """All photos under `folder`, sorted by path.

    Raises:
        InputError: the folder does not exist or holds no photo.
    """
    if not folder.is_dir():
        raise InputError(f"No such folder: {folder}. Give a folder of photos.")
    photos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise InputError(f"No photos in {folder}: PNG, JPEG, WebP, BMP or TIFF files are used.")
    return photos


def downscale(image: Image.Image, scale: int) -> tuple[Image.Image, Image.Image]:
    """The (LR, HR) pair of the field's protocol: HR cropped to a multiple, LR its bicubic.

    Pillow's BICUBIC is antialiased and reproduces the published bicubic figures.
    """
    width, height = image.width // scale * scale, image.height // scale * scale
    high = image.crop((0, 0, width, height))
    low = high.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return low, high
