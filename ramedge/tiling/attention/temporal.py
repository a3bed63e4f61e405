"""A video frame's attention from the previous frame, corrected as its tiles are done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import median

import numpy as np

from ramedge.network.channel_statistics import (
    ChannelExcitation,
    Statistic,
    Values,
    attention,
    merge,
)

CUT = 0.0022
"""Largest error of the attention (0 to 1) that the tiles of a frame got, root mean square over
tiles, blocks and channels. Above it the frame is recomputed: much movement, which would take it
below 70 dB. With the shipped weights in FP32, `bikes` reduced to 160 and 213 pixels: 0.0020 left
70.6 dB, 0.0024 left 69.8, 0.0037 left 68.5."""

_OTHER_SCENE = 0.015
"""Largest change of the attention that single tiles would have by themselves, root mean square, the
median over the first ones. Above it the frame is of another scene. On `bikes` ordinary tiles change
by 0.001 to 0.005, at a cut by 0.006 to 0.07."""


class TemporalAttention:
    """The attention of one frame through its tiles, in their order.

    A tile gets the attention of the whole frame, as far as it is known: the statistics of this
    frame's tiles that are done, of the previous frame for the others.
    """

    def __init__(self, previous: Sequence[Statistic], excitation: ChannelExcitation) -> None:
        """Take the statistics of the previous frame, of the same tiles."""
        self._previous = previous
        self._excitation = excitation
        # Of each tile and all after it together.
        self._rest = list(accumulate(reversed(previous), Statistic.merged))[::-1]
        self._given: list[Values] = []
        self._moved: list[float] = []
        self._seen: list[Statistic] = []
        self._done: Statistic | None = None
        self.logits = excitation.logits(self._rest[0].variance)
        """Attention logits for the next tile, `[R, C]`."""

    @property
    def statistics(self) -> list[Statistic]:
        """Of all tiles, of this frame where they are done."""
        return [*self._seen, *self._previous[len(self._seen) :]]

    def take(self, statistic: Statistic) -> None:
        """Take the statistic of the next tile, which is done."""
        index = len(self._seen)
        self._given.append(attention(self.logits))
        self._moved.append(self._change(self._previous[index], statistic))
        self._seen.append(statistic)
        self._done = statistic if self._done is None else self._done.merged(statistic)
        known = merge([self._done, *self._rest[index + 1 : index + 2]])
        self.logits = self._excitation.logits(known.variance)

    def _change(self, first: Statistic, second: Statistic) -> float:
        logits = self._excitation.logits
        difference = attention(logits(first.variance)) - attention(logits(second.variance))
        return float(np.sqrt(np.square(difference).mean()))

    @property
    def has_lost_track(self) -> bool:
        """Whether the previous frame does not lead to this one."""
        off = np.square(np.stack(self._given) - attention(self.logits)).mean(axis=(1, 2))
        if off.sum() > CUT**2 * len(self._previous):
            return True
        return len(self._moved) > 1 and median(self._moved) > _OTHER_SCENE
