"""Training patches: which ones a step draws, and how they are cut.

They depend on the seed and the step alone, so that a resumed run draws the same patches as an
uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ramedge.training.photos import Photo, Pixels

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw:
    """The patches of a step, before they are cut.

    Attributes:
        photo: index of the photo, `[B]` int64.
        y, x: upper left corner in low-resolution pixels, `[B]` int64.
        turns: anticlockwise quarter turns, 0 to 3, `[B]` int64.
        flip: whether it is mirrored left to right after the rotation, `[B]` bool.
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

    `teacher_output`, as `high`: cut from the photos' cached outputs of a teacher, where they have
    them.
    """

    step: int
    scale: int
    low: Pixels
    high: Pixels
    teacher_output: Pixels | None = None


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """Draws the patches of a step from (seed, step) alone.

    Of `candidates` random patches the one with the most detail is kept: skies and walls, of
    which photos are full, teach little (after Wang et al., "SamplingAug: On the
    Importance of Patch Sampling Augmentation for Single Image Super-Resolution", BMVC 2021).

    Scales are drawn with probabilities proportional to `shares`; without, uniformly.

    Each of `world` processes draws the whole batch and keeps the share of its `rank`, so that
    several processes together train on the same patches as one.
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
        """A random scale, and a random photo, position, flip and rotation for each patch."""
        rng = np.random.default_rng((self.seed, step))
        scale = self.scales[self._draw_scale(rng)]
        count = self.batch * self.candidates
        photo = rng.integers(len(self.photos), size=count)
        sizes = np.array([self.photos[index].low[scale].shape[:2] for index in photo])
        y, x = (rng.random((count, 2)) * (sizes - self.patch + 1)).astype(np.int64).T
        if self.candidates > 1:
            detail = [self._detail(scale, *each) for each in zip(photo, y, x, strict=True)]
            best = np.argmax(np.reshape(detail, (self.batch, self.candidates)), axis=1)
            kept = np.arange(self.batch) * self.candidates + best
            photo, y, x = photo[kept], y[kept], x[kept]
        turns, flip = rng.integers(4, size=self.batch), rng.integers(2, size=self.batch) > 0
        own = slice(self.rank, None, self.world)
        return Draw(step, scale, photo[own], y[own], x[own], turns[own], flip[own])

    def _draw_scale(self, rng: np.random.Generator) -> int:
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
        outputs: list[Pixels] = []
        for index, y, x, turns, flip in zip(
            draw.photo, draw.y, draw.x, draw.turns, draw.flip, strict=True
        ):
            photo = self.photos[index]
            low = photo.low[scale][y : y + patch, x : x + patch]
            top, left = y * scale, x * scale
            window = (slice(top, top + side), slice(left, left + side))
            lows.append(_augment(low, int(turns), bool(flip)))
            highs.append(_augment(photo.pixels[window], int(turns), bool(flip)))
            if photo.teacher_outputs:
                output = photo.teacher_outputs[scale][window]
                outputs.append(_augment(output, int(turns), bool(flip)))
        return Batch(
            step=step,
            scale=scale,
            low=np.stack(lows),
            high=np.stack(highs),
            teacher_output=np.stack(outputs) if outputs else None,
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
    rotated = np.rot90(pixels, turns)
    return rotated[:, ::-1] if flip else rotated
