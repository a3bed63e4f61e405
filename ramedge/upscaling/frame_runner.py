"""Runs frames on an open model: whole or in tiles, in memory or streamed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np

from ramedge.errors import UsageError
from ramedge.media.pixels import Pixels
from ramedge.tiling.choice import TileChoice, Tiles, Whole
from ramedge.tiling.estimate import describe_tiles
from ramedge.tiling.execution import IndependentTiler, SharedAttentionTiler, Tiler
from ramedge.tiling.frame_memory import FrameMemory
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import TilingOptions
from ramedge.tiling.stitching import OnTile
from ramedge.upscaling.frame_planner import FramePlanner
from ramedge.upscaling.open_model import OpenedModel
from ramedge.upscaling.self_ensemble import upscale_turned
from ramedge.upscaling.timing import Timing

T = TypeVar("T")


class FrameRunner:
    """Upscales frames, each in the tiles that are planned for it.

    Attributes:
        timing: of the network.
        on_tile: told of each tile.
        on_estimate: told what a frame in tiles will take; the network is run for that. `None` asks
            for no estimate.
    """

    def __init__(
        self, model: OpenedModel, options: TilingOptions, ensemble: bool, notes: Notes
    ) -> None:
        """Take what the user asked for; what the model cannot do becomes `fast`."""
        self._runtime = model.runtime
        self._ensemble = ensemble
        possible = _possible(options, model, ensemble)
        self._why_independent = "Each uses its own statistic, as asked for."
        if possible != options:
            cause = "The mean over flips and turns" if ensemble else "This model"
            self._why_independent = f"{cause} has no tiles that share the frame's statistic."
        self.planner = FramePlanner(model, possible, notes)
        self.tiler: Tiler = (
            IndependentTiler(self._infer, model.runtime.scale, model.halos)
            if possible.mode == "fast"
            else SharedAttentionTiler(model.runtime, model.halos)
        )
        self.timing = Timing()
        self.on_tile: OnTile = lambda _done, _total: None
        self.on_estimate: Callable[[str], None] | None = None
        self._estimated: set[tuple[FrameMemory, tuple[int, ...], Tiles]] = set()

    def upscale(self, pixels: Pixels) -> Pixels:
        """`[H, W, 3]` RGB uint8 or uint16 → `[s·H, s·W, 3]` of the same dtype.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the smallest tiles need too much.
        """
        _check(pixels)
        with self.timing.running():
            result = self.planner.run(pixels, lambda choice: self._run(pixels, choice))
        self.timing.frames += 1
        return result

    def _run(self, pixels: Pixels, choice: TileChoice) -> Pixels:
        if isinstance(choice, Whole):
            return self._infer(pixels)
        self._announce(pixels, choice)
        return self.tiler.upscale(pixels, choice, self.on_tile)

    def stream(
        self, images: Sequence[Pixels], consume: Callable[[Sequence[Iterator[Pixels]]], T]
    ) -> T:
        """What `consume` makes of the results of images of one size, band by band.

        Args:
            images: `[H, W, 3]` uint8 or uint16 each.
            consume: given for each image an iterator over the finished rows, `[rows, s·W, 3]`, from
                top to bottom. Called again where memory runs out: then it begins again.

        Raises:
            UsageError: images of another shape or dtype.
            MemoryError: the smallest tiles need too much.
        """
        for image in images:
            _check(image)

        def attempt(choice: TileChoice) -> T:
            return consume([self._bands(image, choice) for image in images])

        return self.planner.run(images[0], attempt, streamed=len(images))

    def _bands(self, pixels: Pixels, choice: TileChoice) -> Iterator[Pixels]:
        if isinstance(choice, Whole):
            with self.timing.running():
                whole = self._infer(pixels)
            yield whole
        else:
            self._announce(pixels, choice)
            yield from self.timing.producing(self.tiler.bands(pixels, choice, self.on_tile))
        self.timing.frames += 1

    def upscale_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`upscale` for the frames of a video, in order; several in flight where that is faster.

        Where memory runs out, the frames in flight and all after them are done in tiles.
        """
        in_flight: deque[Pixels] = deque()
        coming = iter(frames)
        for first in coming:
            if self._ensemble or not _is_whole(first, self.planner):
                yield self.upscale(first)
                continue
            taken = self._taken(chain([first], coming), in_flight)
            try:
                for result in self.timing.producing(self._runtime.infer_many(taken)):
                    self.timing.frames += 1
                    in_flight.popleft()
                    yield result[0]
            except MemoryError:
                yield from map(self.upscale, tuple(in_flight))
                in_flight.clear()

    def _taken(self, frames: Iterable[Pixels], in_flight: deque[Pixels]) -> Iterator[Pixels]:
        """The frames as the runtime takes them."""
        for frame in self.timing.waiting(frames):
            in_flight.append(frame)
            yield frame[None]

    def _infer(self, pixels: Pixels) -> Pixels:
        runtime = self._runtime
        if self._ensemble:
            fp32 = pixels.dtype == np.uint16  # as `Runtime.infer` has it
            return upscale_turned(lambda images: runtime.infer_float(images, fp32), pixels)
        frame: Pixels = runtime.infer(pixels[None])[0]
        return frame

    def _announce(self, pixels: Pixels, tiles: Tiles) -> None:
        """Tell of the tiles, and what they will take where that was asked for."""
        self.planner.note_tiles(pixels, tiles, self._why_independent)
        memory = self.planner.memory(pixels.dtype)
        key = memory, pixels.shape, tiles
        if self.on_estimate is not None and key not in self._estimated and not self._ensemble:
            self._estimated.add(key)
            self.on_estimate(describe_tiles(memory, self._runtime, tiles, pixels))


def _possible(options: TilingOptions, model: OpenedModel, ensemble: bool) -> TilingOptions:
    if model.runtime.excitation is not None and not ensemble:
        return options
    return TilingOptions(options.tile, "fast", options.memory)


def _is_whole(frame: Pixels, planner: FramePlanner) -> bool:
    return frame.ndim == 3 and isinstance(planner.choose(frame), Whole)


def _check(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise UsageError(f"Expected pixels [H, W, 3], got {list(pixels.shape)}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"Expected uint8 or uint16 pixels, got {pixels.dtype}.")
