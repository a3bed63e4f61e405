"""Photos to train on and to validate with, decoded once and kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ramedge.errors import InputError
from ramedge.quality.photos import downscale, find_photos

Pixels = NDArray[np.uint8]

VALIDATION_EVERY = 35
"""One of this many photos is held out for validation."""
VALIDATION_CROP = 384
"""Side of the high-resolution centre crop that validation measures."""
_LISTED = 5
"""Most photos that a notice lists by name."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One decoded photo, all uint8.

    Attributes:
        pixels: `[H, W, 3]`.
        low: its low-resolution version by scale, `[h, w, 3]`.
        teacher_outputs: cached outputs of a teacher by scale, `[s·h, s·w, 3]`; may be empty.
    """

    pixels: Pixels
    low: dict[int, Pixels]
    teacher_outputs: Mapping[int, Pixels] = field(default_factory=dict)

    def high(self, scale: int) -> Pixels:
        """The photo cropped to `scale` times its low-resolution size; a view."""
        height, width = self.low[scale].shape[:2]
        return self.pixels[: height * scale, : width * scale]


def load_photo(path: Path, scales: Sequence[int], reduced: Sequence[float] = ()) -> list[Photo]:
    """Decode one photo and make its low-resolution versions, at full and at each reduced size.

    Photos are reduced by Pillow's antialiased bicubic. The photo at full size comes first.

    Raises:
        InputError: the file is not a readable image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InputError(f"Cannot read the photo {path}: {error}. Remove or replace it.") from None
    images = [image, *(_reduce(image, size) for size in reduced)]
    return [
        Photo(pixels=np.asarray(each), low={scale: _low(each, scale) for scale in scales})
        for each in images
    ]


def _reduce(image: Image.Image, size: float) -> Image.Image:
    width, height = (max(1, round(side * size)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _low(image: Image.Image, scale: int) -> Pixels:
    if min(image.size) < scale:
        return np.empty((0, 0, 3), np.uint8)  # smaller than any patch
    return np.asarray(downscale(image, scale)[0])


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Training photos and held-out validation photos, decoded.

    Attributes:
        training: every photo that is not held out, at full and at each reduced size.
        digest: SHA-256 over the names and bytes of all files, in order.
        notices: photos that were left out, and validation that is not on held-out photos.
    """

    training: list[Photo]
    validation: list[Photo]
    digest: str
    notices: tuple[str, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether no validation photo is trained on."""
        trained = {id(photo.pixels) for photo in self.training}
        return not any(id(photo.pixels) in trained for photo in self.validation)


def load_photos(
    folder: Path,
    scales: Sequence[int],
    patch: int,
    on_photo: Callable[[int, int], None] | None = None,
    reduced: Sequence[float] = (),
) -> PhotoSet:
    """Decode every photo of a folder; every 35th is held out for validation.

    Training photos are added at the `reduced` sizes, in (0, 1), as well: they have more detail per
    pixel (the scale augmentation of Lai et al., "Deep Laplacian Pyramid Networks", CVPR 2017).
    Photos smaller than a patch at some scale are left out, with a notice.
    `on_photo(done, total)` is called after each.

    Raises:
        InputError: no photo, an unreadable one, or none that is large enough, at full or at a
            reduced size.
    """
    paths = find_photos(folder)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    training: list[Photo] = []
    validation: list[Photo] = []
    used_sizes: set[int] = set()
    small: list[Path] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        loaded = pool.map(
            lambda at: load_photo(at[1], scales, reduced if at[0] % VALIDATION_EVERY else ()),
            enumerate(paths),
        )
        for index, sizes in enumerate(loaded):
            if on_photo is not None:
                on_photo(index + 1, len(paths))
            held_out = index % VALIDATION_EVERY == 0
            for at, photo in enumerate(sizes):
                if any(min(low.shape[:2]) < patch for low in photo.low.values()):
                    if at == 0:
                        small.append(paths[index])
                    continue
                if held_out:
                    validation.append(photo)
                else:
                    training.append(photo)
                    used_sizes.add(at)
    side = patch * max(scales)
    notices = [_left_out(small, side)] if small else []
    if not training and validation:  # a folder of one photo: train and validate on it
        training = list(validation)
        notices.append("Only one photo can be used: PSNR-Y is measured on it, none is held out.")
    if not validation:
        notices.append("Every photo to hold out is smaller than a patch: PSNR-Y is not measured.")
    if not training:
        raise InputError(
            f"No photo in {folder} is at least {side}×{side} pixels, as a patch is: "
            "add larger ones or lower --patch."
        )
    _check_reduced(folder, reduced, used_sizes, side)
    return PhotoSet(training, validation, digest.hexdigest(), tuple(notices))


def _check_reduced(folder: Path, reduced: Sequence[float], used_sizes: set[int], side: int) -> None:
    for at, size in enumerate(reduced, start=1):
        if at not in used_sizes:
            raise InputError(
                f"No training photo in {folder} is, reduced to {size:g}, at least {side}×{side} "
                "pixels, as a patch is. Leave that size out of --reduced."
            )


def _left_out(small: Sequence[Path], side: int) -> str:
    names = ", ".join(path.name for path in small[:_LISTED])
    rest = f" and {len(small) - _LISTED} more" if len(small) > _LISTED else ""
    return f"Smaller than a patch, {side}×{side} pixels, and left out: {names}{rest}."


def validation_pairs(photos: Sequence[Photo], scale: int) -> list[tuple[Pixels, Pixels]]:
    """Centre crops (LR, HR) of at most `VALIDATION_CROP` high-resolution pixels a side."""
    pairs: list[tuple[Pixels, Pixels]] = []
    limit = VALIDATION_CROP // scale
    for photo in photos:
        low, high = photo.low[scale], photo.high(scale)
        h, w = min(limit, low.shape[0]), min(limit, low.shape[1])
        y, x = (low.shape[0] - h) // 2, (low.shape[1] - w) // 2
        pairs.append(
            (
                low[y : y + h, x : x + w],
                high[y * scale : (y + h) * scale, x * scale : (x + w) * scale],
            )
        )
    return pairs
