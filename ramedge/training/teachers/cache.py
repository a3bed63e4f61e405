"""Cache of the teachers' outputs on whole photos, computed once and kept on disk.

One file for each low-resolution image and teacher: `.npy`, `[s·h, s·w, 3]` uint8, read by memory
mapping. Its name is a hash of everything that the output depends on, so other photos, sizes,
scales or teachers never read an old file, and an interrupted computation continues where it
stopped. 8 bits are enough: the rounding is far below the teacher's own error.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramedge.errors import OutputError
from ramedge.files import atomic_path
from ramedge.training.batches import to_image
from ramedge.training.distributed import Processes
from ramedge.training.photos import Photo, Pixels
from ramedge.training.teachers.group import Teachers
from ramedge.training.teachers.model import Teacher

TILE = 128
"""Side of a tile in low-resolution pixels, without the overlap."""
OVERLAP = 16
"""Low-resolution pixels that a tile reads of each neighbour; their output is discarded."""
_GIB = 2**30
_FORMAT = f"1 {TILE} {OVERLAP}"


def add_outputs(
    photos: Sequence[Photo],
    teachers: Teachers,
    folder: Path,
    group: Processes,
    on_output: Callable[[int, int], None],
) -> list[Photo]:
    """The photos with the teachers' outputs, computed where the cache lacks them.

    Each process computes a share of them and waits for the others.

    Args:
        photos: training photos.
        teachers: one for each scale of the photos.
        folder: of the cache; made where it is missing.
        group: the processes of the run.
        on_output: called with (done, total) of this process's share.

    Raises:
        OutputError: the folder cannot be written to, or its disk has too little space.
    """
    scales = list(teachers.by_scale)
    work = [(photo.low[scale], scale) for photo in photos for scale in scales]
    paths = [output_path(folder, low, teachers.by_scale[scale], scale) for low, scale in work]
    _check_space(
        folder,
        sum(
            low.nbytes * scale**2
            for (low, scale), path in zip(work, paths, strict=True)
            if not path.exists()
        ),
    )
    group.barrier()  # every process has checked before one writes
    own = range(group.rank, len(work), group.world)
    for done, index in enumerate(own, start=1):
        low, scale = work[index]
        if not paths[index].exists():
            _write(enlarge(teachers.by_scale[scale], low, scale, group.device), paths[index])
        on_output(done, len(own))
    group.barrier()
    outputs = iter(paths)
    return [
        replace(photo, teacher_outputs={scale: read_output(next(outputs)) for scale in scales})
        for photo in photos
    ]


def _check_space(folder: Path, needed: int) -> None:
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OutputError(
            f"The teachers' outputs take {needed / _GIB:.1f} GiB, and {free / _GIB:.1f} are free "
            f"in {folder}: choose another --teacher-cache, or --teacher-outputs patch."
        )


def enlarge(teacher: Teacher, low: Pixels, scale: int, device: torch.device) -> Pixels:
    """The teacher's output on an image of any size, tile by tile: `[h, w, 3]` → `[s·h, s·w, 3]`."""
    height, width = low.shape[:2]
    output = np.empty((height * scale, width * scale, 3), np.uint8)
    image = to_image(torch.from_numpy(np.array(low[None])), channels_last=False).to(device)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            rows, kept_rows = tile_span(top, height)
            columns, kept_columns = tile_span(left, width)
            tile = to_pixels(teacher(image[:, :, rows, columns].contiguous(), scale)[0])
            inner = tile[_scaled(kept_rows, scale), _scaled(kept_columns, scale)]
            bottom, right = top * scale + inner.shape[0], left * scale + inner.shape[1]
            output[top * scale : bottom, left * scale : right] = inner
    return output


def tile_span(start: int, size: int) -> tuple[slice, slice]:
    """Pixels that a tile reads along one side, and those it keeps, relative to the first read.

    Tiles at the border read as many pixels as the others, if the image is large enough.
    """
    full, end = TILE + 2 * OVERLAP, min(size, start + TILE)
    last = min(size, max(end + OVERLAP, full))
    first = max(0, min(start - OVERLAP, last - full))
    return slice(first, last), slice(start - first, end - first)


def _scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def to_pixels(image: Tensor) -> Pixels:
    """float32 `[3, H, W]` in [0, 1] → uint8 `[H, W, 3]`, rounded."""
    pixels: Pixels = image.mul(255.0).round().permute(1, 2, 0).byte().cpu().numpy()
    return pixels


def output_path(folder: Path, low: Pixels, teacher: Teacher, scale: int) -> Path:
    """File of an output: its name is a hash of teacher, scale, and size and pixels of the input."""
    digest = hashlib.sha256(f"{_FORMAT} {teacher.card.sha256} {scale} {low.shape}".encode())
    digest.update(low.tobytes())
    return folder / f"{digest.hexdigest()}.npy"


def _write(output: Pixels, path: Path) -> None:
    with atomic_path(path) as partial, partial.open("wb") as opened:
        np.save(opened, output)


def read_output(path: Path) -> Pixels:
    """Map a cached output into memory.

    Raises:
        OutputError: the file is damaged.
    """
    try:
        mapped: Pixels = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError):
        raise OutputError(
            f"Cannot read the teacher's output {path}: delete it, and it is computed again."
        ) from None
    return mapped
