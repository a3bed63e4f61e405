"""The upscaler: pixels in, pixels out, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from ramedge.media.pixels import Pixels, plane_of, three_of
from ramedge.tiling.notes import Notes
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.frame_runner import FrameRunner
from ramedge.upscaling.open_model import OpenedModel, RuntimeSettings, open_model
from ramedge.upscaling.timing import Timing

T = TypeVar("T")


class Upscaler:
    """Upscales RGB pixels with one network.

    Whole frames by default. In tiles the result is the same: the network's channel attention
    depends on the whole frame, so tiles run block by block (`ramedge.tiling.attention.blockwise`),
    or fixed-point iterations find the frame's channel statistics first
    (`ramedge.tiling.attention.fixed_point`); how far a tile reads beyond its border is in
    `ramedge.tiling.halos`. For one thread at a time: give each thread an upscaler of its own.

    >>> import numpy as np
    >>> from ramedge import TilingOptions, Upscaler
    >>> with Upscaler(tiling=TilingOptions(tile=16)) as upscaler:
    ...     upscaler.upscale(np.zeros((4, 6, 3), np.uint8)).shape
    (8, 12, 3)

    Attributes:
        model: the open model.
        tiling: what was asked for.
        ensemble: whether results are the mean over 8 flips and quarter turns.
        notes: what the user should know of the current file, one line each.
    """

    def __init__(
        self,
        settings: RuntimeSettings | None = None,
        tiling: TilingOptions | None = None,
        ensemble: bool = False,
    ) -> None:
        """Open the model.

        Args:
            settings: which network and how to run it; the shipped ×2 network by default.
            tiling: tiles, where their attention comes from, and memory; by default exact tiles, and
                only where the whole frame does not fit in the free memory.
            ensemble: the mean over the 8 flips and quarter turns of each frame, or of each tile:
                somewhat better, 8 times as slow. See `ramedge.upscaling.self_ensemble`.

        Raises:
            RamedgeError: the model cannot be opened, see `open_model`.
        """
        self.tiling = tiling or TilingOptions()
        self.ensemble = ensemble
        self.model: OpenedModel = open_model(settings or RuntimeSettings())
        self.notes = Notes(self.model.runtime.notes)
        self._frames = FrameRunner(self.model, self.tiling, ensemble, self.notes)

    @property
    def scale(self) -> int:
        """Enlargement, 2, 3 or 4."""
        return self.model.runtime.scale

    @property
    def reason(self) -> str:
        """One line: what runs, where, and why."""
        turns = ", mean over 8 flips and turns" if self.ensemble else ""
        return f"{self.model.reason}{turns}"

    @property
    def timing(self) -> Timing:
        """Time spent in the network alone."""
        return self._frames.timing

    @property
    def attention_from_previous(self) -> bool:
        """Whether the last frame took its attention from the one before (mode `temporal`)."""
        return self._frames.tiler.from_previous

    def observe(
        self,
        on_tile: Callable[[int, int], None] | None = None,
        on_estimate: Callable[[str], None] | None = None,
    ) -> None:
        """Be told of frames in tiles.

        Args:
            on_tile: called after each tile with how many have run, and how many are expected.
            on_estimate: called once for each size of frame with one line: the tiles, and the time
                and memory they will take. The network is run on a few tiles for that.
        """
        self._frames.on_tile = on_tile or (lambda _done, _total: None)
        self._frames.on_estimate = on_estimate

    def start_file(self) -> None:
        """The next frame is of another file: its notes begin again."""
        self.notes.restart()
        self._frames.planner.start_file()
        self.cut()

    def cut(self) -> None:
        """The next frame has nothing to do with the previous one."""
        self._frames.tiler.reset()

    def upscale(self, pixels: Pixels) -> Pixels:
        """`[H, W, 3]` RGB uint8 or uint16 → `[s·H, s·W, 3]` of the same dtype.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the smallest tiles need too much.
        """
        return self._frames.upscale(pixels)

    def upscale_plane(self, plane: Pixels) -> Pixels:
        """`[H, W]` grey or alpha → `[s·H, s·W]`, through the network as three equal channels."""
        return plane_of(self.upscale(three_of(plane)))

    def upscale_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`upscale` for the frames of a video, in order; several in flight where that is faster.

        Where memory runs out, the frames in flight and all after them are done in tiles.
        """
        return self._frames.upscale_many(frames)

    def should_stream(self, pixels: Pixels, images: int = 1) -> bool:
        """Whether the result is so large that `stream` should make it, of `images` of this size."""
        return self._frames.planner.should_stream(pixels, images)

    def stream(
        self, images: Sequence[Pixels], consume: Callable[[Sequence[Iterator[Pixels]]], T]
    ) -> T:
        """As `upscale`, but the results never stand in memory whole.

        Args:
            images: of one size, `[H, W, 3]` uint8 or uint16 each.
            consume: given for each image an iterator over the finished rows, `[rows, s·W, 3]`, from
                top to bottom. Where memory runs out it is called again, and begins again.

        Returns:
            What `consume` returns.

        Raises:
            UsageError: images of another shape or dtype.
            MemoryError: the smallest tiles need too much.
        """
        return self._frames.stream(images, consume)

    def close(self) -> None:
        """Free the network."""
        self.model.runtime.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
