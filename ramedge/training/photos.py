"""Photos in memory and the patches drawn from them.

Photos are decoded once. The patches of a step depend only on the seed and the step, so a
resumed run sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ramedge.errors import InputError
from ramedge.quality.photos import downscale, find_photos

Pixels = NDArray[np.uint8]
T = TypeVar("T")

VALIDATION_EVERY = 35
"""One photo in so many is held out for validation."""
VALIDATION_CROP = 384
"""Side of the high-resolution centre crop that validation measures."""
_NAMED = 5
"""Photos left out that a notice names."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One decoded photo, all uint8.

    Attributes:
        pixels: `[H, W, 3]`.
        low: its low resolution by scale, `[h, w, 3]`.
        taught: a teacher's outputs by scale, `[s·h, s·w, 3]`; empty where there are none.
    """

    pixels: Pixels
    low: dict[int, Pixels]
    taught: Mapping[int, Pixels] = field(default_factory=dict)

    def high(self, scale: int) -> Pixels:
        """The photo cropped to `scale` times its low resolution; a view."""
        height, width = self.low[scale].shape[:2]
        return self.pixels[: height * scale, : width * scale]


def load_photo(path: Path, scales: Sequence[int], reduced: Sequence[float] = ()) -> list[Photo]:
    """Decode one photo and make its low-resolution versions; the same for each reduced size.

    Reduced by Pillow's bicubic, antialiased. The photo in its own size comes first.

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
        training: every photo that is not held out, in each of its sizes.
        digest: SHA-256 over the names and bytes of all files, in order.
        notices: what was left out, or is measured otherwise than one expects.
    """

    training: list[Photo]
    validation: list[Photo]
    digest: str
    notices: tuple[str, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether validation photos are none of those trained on."""
        trained = {id(photo.pixels) for photo in self.training}
        return not any(id(photo.pixels) in trained for photo in self.validation)


def load_photos(
    folder: Path,
    scales: Sequence[int],
    patch: int,
    on_photo: Callable[[int, int], None] | None = None,
    reduced: Sequence[float] = (),
) -> PhotoSet:
    """Decode every photo of a folder; each 35th is held out for validation.

    Training photos are there in the `reduced` sizes, of (0, 1), as well: with more detail to a
    pixel (the scale augmentation of Lai et al., "Deep Laplacian Pyramid Networks", CVPR 2017).
    Photos smaller than a patch at some scale are left out, with a notice.
    `on_photo(done, total)` is called after each.

    Raises:
        InputError: no photo, an unreadable one, or none that is large enough, in its own or in a
            reduced size.
    """
    paths = find_photos(folder)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    training: list[Photo] = []
    validation: list[Photo] = []
    used: set[int] = set()
    small: list[Path] = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        loaded = pool.map(
            lambda at: load_photo(at[1], scales, reduced if at[0] % VALIDATION_EVERY else ()),
            enumerate(paths),
        )
        for index, sizes in enumerate(loaded):
            if on_photo is not None:
                on_photo(index + 1, len(paths))
            kept_back = index % VALIDATION_EVERY == 0
            for at, photo in enumerate(sizes):
                if any(min(low.shape[:2]) < patch for low in photo.low.values()):
                    if at == 0:
                        small.append(paths[index])
                    continue
                if kept_back:
                    validation.append(photo)
                else:
                    training.append(photo)
                    used.add(at)
    side = patch * max(scales)
    notices = [_left_out(small, side)] if small else []
    if not training and validation:  # a folder of one photo: train on it, measure on it
        training = list(validation)
        notices.append(
            "There is one photo to train on: PSNR-Y is measured on it, none is held out."
        )
    if not validation:
        notices.append("The photo to hold out is smaller than a patch: PSNR-Y is not measured.")
    if not training:
        raise InputError(
            f"No photo in {folder} is at least {side}×{side} pixels, as a patch is: "
            "add larger ones or lower --patch."
        )
    _check_reduced(folder, reduced, used, side)
    return PhotoSet(training, validation, digest.hexdigest(), tuple(notices))


def _check_reduced(folder: Path, reduced: Sequence[float], used: set[int], side: int) -> None:
    for at, size in enumerate(reduced, start=1):
        if at not in used:
            raise InputError(
                f"No training photo in {folder} is, reduced to {size:g}, at least {side}×{side} "
                "pixels, as a patch is. Leave that size out of --reduced."
            )


def _left_out(small: Sequence[Path], side: int) -> str:
    names = ", ".join(path.name for path in small[:_NAMED])
    rest = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
    return f"Smaller than a patch, {side}×{side} pixels, and left out: {names}{rest}."


@dataclass(frozen=True, slots=True)
class Draw:
    """Which patches a step sees.

    Attributes:
        photo: index of the photo, `[B]` int64.
        y, x: upper left corner in low-resolution pixels, `[B]` int64.
        turns: anticlockwise quarter turns, 0 to 3, `[B]` int64.
        flip: whether it is mirrored left to right after turning, `[B]` bool.
    """

    step: int
    scale: int
    photo: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    turns: NDArray[np.int64]
    flip: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches of one step: `low` `[B, P, P, 3]` and `high` `[B, s·P, s·P, 3]`, uint8.

    `taught` is a teacher's outputs in the place of `high`, where the photos have them.
    """

    step: int
    scale: int
    low: Pixels
    high: Pixels
    taught: Pixels | None = None


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """Draws the patches of a step from (seed, step) alone.

    Of `candidates` random places for a patch the one with the most detail is taken: skies and
    walls, of which photos are full, teach little (after Wang et al., "SamplingAug: On the
    Importance of Patch Sampling Augmentation for Single Image Super-Resolution", BMVC 2021).

    With `shares` some scales are drawn more often than others.

    Each of `world` processes draws the whole batch and keeps the share of its `rank`, so that
    several processes together see what one would.
    """

    photos: Sequence[Photo]
    scales: tuple[int, ...]
    patch: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    candidates: int = 1
    shares: tuple[float, ...] = ()

    def draw(self, step: int) -> Draw:
        """A random scale, and a random photo, place, flip and rotation for each patch."""
        rng = np.random.default_rng((self.seed, step))
        scale = self.scales[self._any_scale(rng)]
        count = self.batch * self.candidates
        photo = rng.integers(len(self.photos), size=count)
        sizes = np.array([self.photos[index].low[scale].shape[:2] for index in photo])
        y, x = (rng.random((count, 2)) * (sizes - self.patch + 1)).astype(np.int64).T
        if self.candidates > 1:
            detail = [self._detail(scale, *place) for place in zip(photo, y, x, strict=True)]
            best = np.argmax(np.reshape(detail, (self.batch, self.candidates)), axis=1)
            kept = np.arange(self.batch) * self.candidates + best
            photo, y, x = photo[kept], y[kept], x[kept]
        turns, flip = rng.integers(4, size=self.batch), rng.integers(2, size=self.batch) > 0
        own = slice(self.rank, None, self.world)
        return Draw(step, scale, photo[own], y[own], x[own], turns[own], flip[own])

    def _any_scale(self, rng: np.random.Generator) -> int:
        if not self.shares:
            return int(rng.integers(len(self.scales)))
        return int(rng.choice(len(self.scales), p=np.array(self.shares) / sum(self.shares)))

    def _detail(self, scale: int, photo: int, y: int, x: int) -> float:
        """Mean absolute difference of neighbouring pixels of a low-resolution patch, in green."""
        low = self.photos[photo].low[scale]
        patch = low[y : y + self.patch, x : x + self.patch, 1].astype(np.int16)
        return float(sum(np.abs(np.diff(patch, axis=axis)).mean() for axis in (0, 1)))

    def cut(self, step: int) -> Batch:
        """The patches of step `step`, cut on the host."""
        draw, patch = self.draw(step), self.patch
        scale = draw.scale
        side = patch * scale
        lows: list[Pixels] = []
        highs: list[Pixels] = []
        taught: list[Pixels] = []
        for index, y, x, turns, flip in zip(
            draw.photo, draw.y, draw.x, draw.turns, draw.flip, strict=True
        ):
            photo = self.photos[index]
            low = photo.low[scale][y : y + patch, x : x + patch]
            top, left = y * scale, x * scale
            place = (slice(top, top + side), slice(left, left + side))
            lows.append(_augment(low, int(turns), bool(flip)))
            highs.append(_augment(photo.pixels[place], int(turns), bool(flip)))
            if photo.taught:
                taught.append(_augment(photo.taught[scale][place], int(turns), bool(flip)))
        return Batch(
            step=step,
            scale=scale,
            low=np.stack(lows),
            high=np.stack(highs),
            taught=np.stack(taught) if taught else None,
        )


def prepare_ahead(
    prepare: Callable[[int], T], first: int, last: int, ahead: int = 4
) -> Iterator[T]:
    """`prepare(step)` for steps `first` to `last` - 1, up to `ahead` steps in advance."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = [pool.submit(prepare, step) for step in range(first, min(first + ahead, last))]
        for step in range(first, last):
            ready = pending.pop(0).result()
            if step + ahead < last:
                pending.append(pool.submit(prepare, step + ahead))
            yield ready


def _augment(pixels: Pixels, turns: int, flip: bool) -> Pixels:
    turned = np.rot90(pixels, turns)
    return turned[:, ::-1] if flip else turned


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
