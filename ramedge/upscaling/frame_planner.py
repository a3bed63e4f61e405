"""Which tiles the frames of an upscaler run in, and again in smaller ones once memory ran out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ramedge.media.pixels import Pixels
from ramedge.tiling.choice import Blockwise, Independent, Temporal, TileChoice, Tiles, Whole
from ramedge.tiling.frame_memory import FrameMemory, frame_memory
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import TilingOptions
from ramedge.tiling.planner import TilePlanner
from ramedge.upscaling.open_model import OpenedModel

T = TypeVar("T")

STREAMED_PIXELS = 16_000_000
"""Results of this size and more, in tiles, are streamed where their format allows."""


class FramePlanner:
    """Plans frames of 8 and 16-bit pixels on one open model."""

    def __init__(self, model: OpenedModel, options: TilingOptions, notes: Notes) -> None:
        """Take options of a mode that the model can do."""
        self._model = model
        self._notes = notes
        self._tiles = TilePlanner(options, notes, lambda: model.runtime.limits.free_bytes)
        self._memory: dict[tuple[np.dtype[Any], int], FrameMemory] = {}

    def start_file(self) -> None:
        """Plan again: what memory is free may have changed."""
        self._tiles.start_file()

    def choose(self, pixels: Pixels, streamed: int = 0) -> TileChoice:
        """How to run a frame `[H, W, 3]`.

        `streamed` is the number of images whose results are streamed at the same time, 0 where the
        result stands in memory whole.
        """
        memory = self.memory(pixels.dtype, streamed)
        return self._tiles.choose(memory, *self._extent(pixels, streamed))

    def should_stream(self, pixels: Pixels, images: int = 1) -> bool:
        """Whether the result is so large that it should be streamed.

        Not where the network takes the frame whole: then the result is small beside the network.
        """
        height, width = pixels.shape[:2]
        large = height * width * self._model.runtime.scale**2 >= STREAMED_PIXELS
        return large and not isinstance(self.choose(pixels, images), Whole)

    def run(self, pixels: Pixels, attempt: Callable[[TileChoice], T], streamed: int = 0) -> T:
        """What `attempt` returns; it is called again with smaller tiles where memory runs out.

        Raises:
            MemoryError: the smallest tiles need too much.
        """
        while True:
            try:
                return attempt(self.choose(pixels, streamed))
            except MemoryError:
                self._shrink(pixels, streamed)

    def _shrink(self, pixels: Pixels, streamed: int) -> None:
        memory = self.memory(pixels.dtype, streamed)
        tiles = self._tiles.shrink(memory, *self._extent(pixels, streamed))
        self._notes.add(f"Out of memory: the same frame again in tiles of {tiles.side} pixels.")

    def memory(self, pixel_type: np.dtype[Any], streamed: int = 0) -> FrameMemory:
        """What frames of a kind of pixels need."""
        key = pixel_type, max(1, streamed)
        if key not in self._memory:
            self._memory[key] = frame_memory(self._model.runtime, self._model.halos, *key)
        return self._memory[key]

    def _extent(self, pixels: Pixels, streamed: int) -> tuple[int, int, int]:
        """Height, width, and the bytes that stand beside the network."""
        height, width = pixels.shape[:2]
        # Source, and unless it is streamed the result and the encoder's copy.
        results = 0 if streamed else 2 * self._model.runtime.scale**2
        return height, width, 3 * pixels.itemsize * height * width * (1 + results)

    def note_tiles(self, pixels: Pixels, tiles: Tiles, why_independent: str) -> None:
        """Tell the user of the tiles of a frame."""
        height, width = pixels.shape[:2]
        plan = self.memory(pixels.dtype).plans.rendering(height, width, tiles)
        if isinstance(tiles, Independent):
            how = f". {why_independent} The result differs slightly from the whole frame's."
        elif isinstance(tiles, Temporal):
            how = ", all with the attention of the previous frame, the first with its own."
        elif isinstance(tiles, Blockwise):
            how = ", block by block, all with the attention of the whole frame."
        else:
            how = ", all with the attention of the whole frame."
        self._notes.add(f"Tiles of {tiles.side} pixels with a halo of {plan.halo}{how}")
