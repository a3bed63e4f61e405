"""The frame's attention from its tiles: fixed-point iteration of the channel statistics.

The statistic of block r depends only on the attention of the blocks before it. So an iteration over
all tiles, each with the attention of the previous iteration, makes one more block exact: after R
iterations all are, whatever the start, and long before that nothing visible changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ramedge.media.pixels import Pixels
from ramedge.network.channel_statistics import ChannelExcitation, Values, attention_change, merge
from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.grid import Tile, TilePlan

TOLERANCE = {8: 1e-5, 16: 5e-8}
"""Attention (0 to 1) that may still be missing, by bits a sample. Measured on the shipped ×2
weights: 2e-4 moves an output by 5e-5 levels of 255 on average and 1e-3 at most, so 1e-5 changes
the rounding of fewer than one 8-bit value in 100,000; 16 bits are 257 times as fine."""

HALF_TOLERANCE = 1e-3
"""The same where the network runs in half precision: it moves an output by less than a hundredth of
a level of 255, bfloat16's own rounding by tenths."""

INT8_TOLERANCE = 5e-5
"""The same in INT8, where what is missing turns roundings, and each of them others: with this,
tiles agree with the frame to 60 dB or more."""

_SAMPLE_SIDE = 32
_SAMPLE_SHARE = 8
_MOST_SAMPLES = 256
"""The first guess of an unknown frame is from 32×32 windows spread over an eighth of it, 256 at
most: small ones, since pixels far apart tell more of the frame than neighbours do."""

_SAMPLE_TOLERANCE = 1e-2
_UNKNOWN_RATE = 0.5
_SAFETY = 2.0
"""An iteration may gain less than the previous one: half as much at worst on measured photos."""
_PLASTIC = 1.324717957244746


def is_half(bits: int, precision: str) -> bool:
    """Whether samples of `bits` bits are computed in less than FP32: 16 bits never are."""
    return bits == 8 and precision != "fp32"


def tolerance(bits: int, precision: str) -> float:
    """Attention (0 to 1) that may still be missing when the iterations end."""
    if not is_half(bits, precision):
        return TOLERANCE[bits]
    return INT8_TOLERANCE if precision == "int8" else HALF_TOLERANCE


def guess_pixels(plan: TilePlan) -> int:
    """Low-resolution pixels that an estimate expects for the first guess of a frame.

    Photos took four iterations over its windows.
    """
    windows = _samples_of(plan)
    return 4 * _sample_count(windows) * windows.source_height * windows.source_width


def expected_iterations(bits: int, precision: str) -> int:
    """What an estimate expects, from a start that is guessed.

    Photos took two to four in half precision, five to eight in INT8, four or five in FP32 and five
    to seven for 16 bits.
    """
    if is_half(bits, precision):
        return 6 if precision == "int8" else 3
    return 5 if bits == 8 else 6


@dataclass(frozen=True, slots=True)
class Solved:
    """A frame's attention.

    Attributes:
        logits: `[R, C]`.
        iterations: over all tiles, without the sample of the first guess.
        remaining: estimate of the attention that is still missing, 0 to 1.
        first_change: of the attention in the first iteration, 0 to 1.
    """

    logits: Values
    iterations: int
    remaining: float
    first_change: float


class AttentionSolver:
    """Finds the attention of frames, and learns from each how fast the iterations converge."""

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
            start: logits to begin with, of the previous frame for example; `None` guesses from a
                sample of the tiles.
            on_tile: called after each tile of each iteration.
        """
        bits = 8 * pixels.dtype.itemsize
        allowed = tolerance(bits, self._runtime.precision)
        tiles = list(plan)
        logits = self._guess(pixels, plan) if start is None else start
        limit = self._excitation.shape[0]
        iterations, previous, first, remaining = 0, 0.0, 0.0, 1.0
        rate = self._rate
        while iterations < limit:
            found = self._iterate(pixels, tiles, logits, on_tile)
            iterations += 1
            change = attention_change(logits, found)
            logits = found
            if iterations == 1:
                first = change
            elif iterations == 2:
                self.learn(previous, change)
            if previous:
                rate = _cautious(change / previous)
            remaining = change * rate / (1.0 - rate)
            if remaining <= allowed or iterations == limit:
                break
            previous = change
        return Solved(logits, iterations, remaining if iterations < limit else 0.0, first)

    def learn(self, first: float, second: float) -> None:
        """Learn how fast iterations converge, from the changes of the first two on some frame.

        Later ones tell nothing of a new frame: each makes one more block exact, so they gain ever
        more.
        """
        if first:
            self._rate = _cautious(second / first)

    def _guess(self, pixels: Pixels, plan: TilePlan) -> Values:
        """Logits of a few windows spread over the frame; how fast they converge is learned too."""
        sample = _sample(plan)
        logits = 0.0 * self._excitation.bias2
        changes: list[float] = []
        for _ in range(self._excitation.shape[0]):
            found = self._iterate(pixels, sample, logits, lambda: None)
            changes.append(attention_change(logits, found))
            logits = found
            if changes[-1] < _SAMPLE_TOLERANCE:
                break
        if len(changes) > 1:
            self.learn(changes[0], changes[1])
        return logits

    def _iterate(
        self,
        pixels: Pixels,
        tiles: Iterable[Tile],
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


def _cautious(rate: float) -> float:
    return min(_UNKNOWN_RATE, _SAFETY * rate)


def _samples_of(plan: TilePlan) -> TilePlan:
    return TilePlan(plan.height, plan.width, _SAMPLE_SIDE, plan.halo)


def _sample_count(windows: TilePlan) -> int:
    return min(_MOST_SAMPLES, -(-windows.count // _SAMPLE_SHARE))


def _sample(plan: TilePlan) -> list[Tile]:
    windows = _samples_of(plan)
    count = _sample_count(windows)
    down, across = windows.height - _SAMPLE_SIDE, windows.width - _SAMPLE_SIDE
    # Roberts' R2 sequence spreads evenly over rows and columns, however many points it has.
    places = ((n / _PLASTIC % 1.0, n / _PLASTIC**2 % 1.0) for n in range(1, count + 1))
    return [windows.at(max(0, int(y * down)), max(0, int(x * across))) for y, x in places]
