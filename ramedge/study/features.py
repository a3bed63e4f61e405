"""What the attention of a trained network does to the features of photos.

Terms of the paper: X is what a block's convolutions give, X̂ what its attention makes of it and
what is added to the block's input (Eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ramedge.errors import InputError
from ramedge.network.attention import variance_pool
from ramedge.network.srram import SRRAM, ResidualAttentionBlock
from ramedge.quality.photos import downscale
from ramedge.study.settings import SCALE

Pixels = NDArray[np.uint8]
See = Callable[[int, Tensor, Tensor], None]
"""Told of each block (number from 0, X, X̂), both `[1, C, H, W]`."""

MAX_SIDE = 320
"""Larger photos are cut to their centre, in low-resolution pixels."""

_LEAST_LEFT = 0.1
"""Share of the energy below which a pattern is too faint to see what became of it."""


def low_resolution(path: Path) -> Pixels:
    """The low resolution ×2 of a photo, its centre of at most `MAX_SIDE` a side: `[H, W, 3]`.

    Raises:
        InputError: the file is not a readable image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InputError(f"Cannot read the photo {path}: {error}.") from None
    limit = MAX_SIDE * SCALE
    width, height = min(image.width, limit), min(image.height, limit)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if min(width, height) < SCALE:
        raise InputError(f"{path} is too small: {image.width}×{image.height} pixels.")
    return np.array(downscale(image.crop((left, top, left + width, top + height)), SCALE)[0])


def watch(network: SRRAM, pixels: Pixels, see: See) -> None:
    """Run the trunk on a photo `[H, W, 3]` and show the features around each attention."""
    with torch.inference_mode(), _hooks(network, see):
        network.features(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255.0)


@contextmanager
def _hooks(network: SRRAM, see: See) -> Iterator[None]:
    handles = []
    for number, block in enumerate(network.blocks):
        assert isinstance(block, ResidualAttentionBlock)
        handles.append(
            block.attention.register_forward_hook(
                lambda _module, inputs, output, number=number: see(number, inputs[0], output)
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class Variances:
    """Variance of each channel over H×W (Eq. 6), mean over photos: `[R, C]`, in levels² of 0–255.

    Attributes:
        before: of X, the statistic that the variance pooling of the paper's attention sees.
        after: of X̂.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]


def channel_variances(network: SRRAM, photos: Sequence[Pixels]) -> Variances:
    """The variances of every block and channel of a network, over photos `[H, W, 3]`.

    Raises:
        InputError: no photo.
    """
    if not photos:
        raise InputError("The variances need at least one photo.")
    shape = (network.config.blocks, network.config.channels)
    before, after = np.zeros(shape), np.zeros(shape)

    def see(block: int, x: Tensor, recalibrated: Tensor) -> None:
        before[block] += variance_pool(x).flatten().numpy() / len(photos)
        after[block] += variance_pool(recalibrated).flatten().numpy() / len(photos)

    for pixels in photos:
        watch(network, pixels, see)
    return Variances(before, after)


@dataclass(frozen=True, slots=True)
class Example:
    """One channel of one block on one photo.

    Attributes:
        block, channel: from 0.
        before, after: X and X̂ of the channel, `[H, W]` float32.
    """

    block: int
    channel: int
    before: NDArray[np.float32]
    after: NDArray[np.float32]

    @property
    def energy_kept(self) -> float:
        """Energy of X̂ by that of X."""
        energy = float(np.square(self.before).sum())
        return float(np.square(self.after).sum()) / energy if energy > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Examples:
    """Channels of the three kinds that the paper's Figure 5 tells apart.

    Attributes:
        recalibrated: strong channels whose pattern the attention changes most.
        kept: strong channels that pass nearly unchanged.
        suppressed: those of which least is left.
    """

    recalibrated: tuple[Example, ...]
    kept: tuple[Example, ...]
    suppressed: tuple[Example, ...]


def find_examples(network: SRRAM, pixels: Pixels, count: int) -> Examples:
    """`count` channels of each kind for a photo `[H, W, 3]`, none twice.

    A channel is strong where its energy is above the median of its block. Of the strong ones,
    "recalibrated" have the lowest cosine between X and X̂ where a tenth of the energy or more is
    left (others only where these are too few), "kept" the least |X̂ - X|² / |X|².

    Raises:
        InputError: the network has fewer channels than are asked for.
    """
    chosen = _choose(_statistics(network, pixels), count)
    maps: dict[int, Example] = {}
    channels = network.config.channels

    def see(block: int, x: Tensor, recalibrated: Tensor) -> None:
        for index in (i for group in chosen for i in group if i // channels == block):
            c = index % channels
            maps[index] = Example(block, c, x[0, c].numpy(), recalibrated[0, c].numpy())

    # A second run, which keeps the chosen maps only: all of them would take a gigabyte.
    watch(network, pixels, see)
    return Examples(*(tuple(maps[index] for index in group) for group in chosen))


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Of each block and channel, `[R, C]`: |X|², |X̂|², ⟨X, X̂⟩, sums over H×W."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    product: NDArray[np.float64]


def _statistics(network: SRRAM, pixels: Pixels) -> _Statistics:
    shape = (network.config.blocks, network.config.channels)
    found = _Statistics(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def see(block: int, x: Tensor, recalibrated: Tensor) -> None:
        found.before[block] = (x * x).sum(dim=(0, 2, 3)).numpy()
        found.after[block] = (recalibrated * recalibrated).sum(dim=(0, 2, 3)).numpy()
        found.product[block] = (x * recalibrated).sum(dim=(0, 2, 3)).numpy()

    watch(network, pixels, see)
    return found


def _choose(s: _Statistics, count: int) -> tuple[list[int], list[int], list[int]]:
    """Flat indices `block · C + channel` of the three kinds."""
    tiny = np.finfo(np.float64).tiny
    strong = s.before >= np.median(s.before, axis=1, keepdims=True)
    cosine = s.product / np.sqrt(s.before * s.after + tiny)
    share = s.after / (s.before + tiny)
    change = 1.0 + share - 2.0 * s.product / (s.before + tiny)
    taken: list[int] = []

    def lowest(values: NDArray[np.float64]) -> list[int]:
        order = [int(i) for i in np.argsort(values, axis=None) if int(i) not in taken]
        if len(order) < count:
            raise InputError(f"{values.size} channels are too few for {3 * count} examples.")
        taken.extend(order[:count])
        return order[:count]

    recalibrated = lowest(np.where(strong, cosine + 2.0 * (share < _LEAST_LEFT), np.inf))
    kept = lowest(np.where(strong, change, np.inf))
    return recalibrated, kept, lowest(np.where(s.before > 0, share, np.inf))
