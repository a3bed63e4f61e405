"""The frame's attention from its tiles: passes of statistics until it no longer changes.

The statistic of block r depends only on the attention of the blocks before it. So a pass over all
tiles, each with the attention of the pass before, makes one more block exact: after R passes all
are, whatever the start, and long before that nothing visible changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ramedge.media.frames import Pixels
from ramedge.runtimes.base import Runtime
from ramedge.statistics import ChannelExcitation, Values, attention_change, merge
from ramedge.tiling import Tile, TilePlan

TOLERANCE = {8: 1e-5, 16: 5e-8}
"""Attention (0 to 1) that may still be missing, by bits a sample. Measured on the shipped ×2
weights: 2e-4 moves an output by 5e-5 levels of 255 on average and 1e-3 at most, so 1e-5 changes
the rounding of fewer than one 8-bit value in 100,000; 16 bits are 257 times as fine."""

STATISTIC_HALO = 16
"""Pixels read round a tile for its statistic. Measured on the shipped ×2 weights: the attention
comes out within 4e-9 of that with the whole receptive field."""

SAMPLE_SHARE = 8
"""One tile in so many makes the first guess of an unknown frame."""
_SAMPLE_TOLERANCE = 1e-2
_UNKNOWN_RATE = 0.5
_SAFETY = 4.0
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Solved:
    """A frame's attention.

    Attributes:
        logits: `[R, C]`.
        passes: over all tiles; the sample counts as a fraction.
        remaining: estimate of the attention that is still missing, 0 to 1.
    """

    logits: Values
    passes: float
    remaining: float


class AttentionSolver:
    """Finds the attention of frames, and learns from each how fast the passes converge."""

    def __init__(self, runtime: Runtime, excitation: ChannelExcitation) -> None:
        self._runtime = runtime
        self._excitation = excitation
        self._rate = _UNKNOWN_RATE

    def solve(
        self,
        pixels: Pixels,
        plan: TilePlan,
        start: Values | None = None,
        on_tile: Callable[[], None] = lambda: None,
    ) -> Solved:
        """The attention logits of a frame.

        Args:
            pixels: `[H, W, 3]` uint8 or uint16.
            plan: tiles of the frame, with a halo that suits statistics.
            start: logits to begin with, of the frame before for example; `None` guesses from a
                sample of the tiles.
            on_tile: called after each tile of each pass.
        """
        tolerance = TOLERANCE[8 * pixels.dtype.itemsize]
        tiles = list(plan)
        logits, cost = (start, 0.0) if start is not None else self._guess(pixels, tiles, on_tile)
        limit = self._excitation.shape[0]
        passes, before, remaining = 0, None, 1.0
        while passes < limit:
            found = self._pass(pixels, tiles, logits, on_tile)
            passes += 1
            change = attention_change(logits, found)
            logits = found
            if before:
                self._rate = min(_UNKNOWN_RATE, _SAFETY * change / before)
            remaining = change * self._rate / (1.0 - self._rate)
            if remaining <= tolerance or passes == limit:
                break
            before = change
        return Solved(logits, cost + passes, remaining if passes < limit else 0.0)

    def _guess(
        self, pixels: Pixels, tiles: Sequence[Tile], on_tile: Callable[[], None]
    ) -> tuple[Values, float]:
        """Logits of a few tiles spread over the frame, and the passes' worth that they cost."""
        count = -(-len(tiles) // SAMPLE_SHARE)
        # Multiples of the golden ratio spread over rows and columns alike, however many.
        chosen = sorted({int(index * _GOLDEN % 1.0 * len(tiles)) for index in range(count)})
        sample = [tiles[index] for index in chosen]
        logits = self._excitation.logits(0.0 * self._excitation.bias2)
        passes = 0
        while passes < self._excitation.shape[0]:
            passes += 1
            found = self._pass(pixels, sample, logits, on_tile)
            change = attention_change(logits, found)
            logits = found
            if change < _SAMPLE_TOLERANCE:
                break
        return logits, passes * len(sample) / len(tiles)

    def _pass(
        self,
        pixels: Pixels,
        tiles: Sequence[Tile],
        logits: Values,
        on_tile: Callable[[], None],
    ) -> Values:
        statistics = []
        for tile in tiles:
            interior = tile.interior.within(tile.source)
            part = pixels[tile.source.slices]
            statistics.append(self._runtime.infer_statistic(part, logits, interior))
            on_tile()
        return self._excitation.logits(merge(statistics).variance)
