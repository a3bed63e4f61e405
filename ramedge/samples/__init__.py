"""Small photos and a clip that ship with the package: for the gate, demonstrations and tests.

All are CC0, see `SOURCES.md` beside this file.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PHOTOS = ("chelsea.png", "coffee.png")
CLIP = "flower.mp4"


def sample_photo(name: str) -> Path:
    """Path of one of `PHOTOS`."""
    return FOLDER / name


def sample_clip() -> Path:
    """Path of the shipped clip: H.264 with AAC sound."""
    return FOLDER / CLIP
