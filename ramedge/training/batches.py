"""Training batches: patches are cut on the host in advance, or on the GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ramedge.training.patterns import Patterns
from ramedge.training.photos import Photo, Pixels
from ramedge.training.sampler import Batch, Draw, PatchSampler, prepare_ahead

DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that the photos may take; above it they stay on the host."""

# Source row and column of pixel (i, j) of a rotated patch of side n, as coefficients of
# (i, j, n - 1), for 0 to 3 anticlockwise quarter turns.
_ROW = ((1, 0, 0), (0, 1, 0), (-1, 0, 1), (0, -1, 1))
_COLUMN = ((0, 1, 0), (-1, 0, 1), (0, -1, 1), (1, 0, 0))


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of one step on the training device, float32 in [0, 1].

    Attributes:
        low: `[B, 3, P, P]`.
        high: `[B, 3, s·P, s·P]`, the truth.
        teacher_output: as `high`, where the teacher's outputs are cached.
        patterned: indices of the patches in the batch that hold a synthetic pattern.
    """

    scale: int
    low: Tensor
    high: Tensor
    teacher_output: Tensor | None = None
    patterned: tuple[int, ...] = ()


class Batches(ABC):
    """Training batches as tensors on the training device."""

    def __init__(
        self,
        sampler: PatchSampler,
        device: torch.device,
        channels_last: bool,
        patterns: Patterns | None = None,
    ) -> None:
        self.sampler = sampler
        self.device = device
        self.channels_last = channels_last
        self.patterns = patterns

    def stream(self, first: int, last: int) -> Iterator[tuple[int, Patches]]:
        """(step, batch) of steps `first` to `last` - 1."""
        for step, batch in self._photos(first, last):
            if self.patterns is None:
                yield step, batch
            else:
                patterned = self.patterns.apply(step, batch.low, batch.high)
                yield step, replace(batch, patterned=tuple(patterned))

    @abstractmethod
    def _photos(self, first: int, last: int) -> Iterator[tuple[int, Patches]]:
        """The batches of photos, without patterns."""


class HostBatches(Batches):
    """Patches cut on the host by a thread, a few steps in advance."""

    def _photos(self, first: int, last: int) -> Iterator[tuple[int, Patches]]:
        for batch in prepare_ahead(self.sampler.cut, first, last):
            yield batch.step, self._tensors(batch)

    def _tensors(self, batch: Batch) -> Patches:
        cached = batch.teacher_output
        return Patches(
            batch.scale,
            self._tensor(batch.low),
            self._tensor(batch.high),
            None if cached is None else self._tensor(cached),
        )

    def _tensor(self, pixels: Pixels) -> Tensor:
        tensor = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return to_image(tensor, self.channels_last)


class DeviceBatches(Batches):
    """All photos on the device as bytes; a step's patches are gathered there.

    The same patches as `HostBatches`, for steps too short for the host to keep up.
    """

    def __init__(
        self,
        sampler: PatchSampler,
        device: torch.device,
        channels_last: bool,
        patterns: Patterns | None = None,
    ) -> None:
        super().__init__(sampler, device, channels_last, patterns)
        photos = sampler.photos
        self.high = _Store([photo.pixels for photo in photos], device)
        self.low = {
            scale: _Store([photo.low[scale] for photo in photos], device)
            for scale in sampler.scales
        }
        self.teacher_outputs = {
            scale: _Store([photo.teacher_outputs[scale] for photo in photos], device)
            for scale in sampler.scales
            if photos[0].teacher_outputs
        }
        self.row = torch.tensor(_ROW, device=device)
        self.column = torch.tensor(_COLUMN, device=device)

    def _photos(self, first: int, last: int) -> Iterator[tuple[int, Patches]]:
        for draw in prepare_ahead(self.sampler.draw, first, last, ahead=16):
            yield draw.step, self._tensors(draw)

    def _tensors(self, draw: Draw) -> Patches:
        host = torch.from_numpy(
            np.stack([draw.photo, draw.y, draw.x, draw.turns, draw.flip.astype(np.int64)])
        )
        if self.device.type == "cuda":
            host = host.pin_memory()
        photo, y, x, turns, flip = host.to(self.device, non_blocking=True)
        scale, patch = draw.scale, self.sampler.patch

        def gather(store: _Store, factor: int) -> Tensor:
            rows, columns = self._coordinates(turns, flip, patch * factor)
            pixels = store.gather(
                photo, rows + (y * factor)[:, None, None], columns + (x * factor)[:, None, None]
            )
            return to_image(pixels, self.channels_last)

        return Patches(
            scale,
            gather(self.low[scale], 1),
            gather(self.high, scale),
            gather(self.teacher_outputs[scale], scale) if self.teacher_outputs else None,
        )

    def _coordinates(self, turns: Tensor, flip: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Row and column in the original patch of each pixel of the rotated and flipped one."""
        i = torch.arange(side, device=self.device)[None, :, None]
        plain = torch.arange(side, device=self.device)[None, None, :]
        j = torch.where(flip[:, None, None] > 0, side - 1 - plain, plain)

        def combine(table: Tensor) -> Tensor:
            a, b, c = table[turns].T[:, :, None, None]
            coordinate: Tensor = a * i + b * j + c * (side - 1)
            return coordinate

        return combine(self.row), combine(self.column)


class _Store:
    """Images of different sizes, concatenated as `[pixels, 3]` uint8 on the device."""

    def __init__(self, images: Sequence[Pixels], device: torch.device) -> None:
        sizes = [image.shape[0] * image.shape[1] for image in images]
        self.flat = torch.empty((sum(sizes), 3), dtype=torch.uint8, device=device)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for image, start, size in zip(images, starts, sizes, strict=False):
            rows = torch.from_numpy(np.array(image).reshape(-1, 3))
            self.flat[int(start) : int(start) + size] = rows.to(device)
        self.start = torch.from_numpy(starts[:-1].astype(np.int64)).to(device)
        self.width = torch.tensor([image.shape[1] for image in images], device=device)

    def gather(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels `[B, n, n, 3]` at `rows`, `columns` (`[B, n, n]`) of the images `index`."""
        start, width = self.start[index][:, None, None], self.width[index][:, None, None]
        return self.flat[start + rows * width + columns]


def to_image(pixels: Tensor, channels_last: bool) -> Tensor:
    """uint8 `[B, H, W, 3]` → float32 `[B, 3, H, W]` in [0, 1]."""
    # NHWC pixels seen as NCHW are channels_last already.
    image = pixels.permute(0, 3, 1, 2).float().div_(255.0)
    return image if channels_last else image.contiguous()


def make_batches(
    sampler: PatchSampler,
    device: torch.device,
    channels_last: bool,
    patterns: Patterns | None = None,
) -> Batches:
    """Batches cut on the GPU where the photos fit there, on the host otherwise."""
    on_device = device.type == "cuda" and _fits(sampler.photos, device)
    kind = DeviceBatches if on_device else HostBatches
    return kind(sampler, device, channels_last, patterns)


def _fits(photos: Sequence[Photo], device: torch.device) -> bool:
    needed = sum(
        image.nbytes
        for photo in photos
        for image in (photo.pixels, *photo.low.values(), *photo.teacher_outputs.values())
    )
    free, _ = torch.cuda.mem_get_info(device)
    return needed < DEVICE_SHARE * free
