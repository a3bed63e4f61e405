"""The statistic that spans the frame: merged from tiles, and the attention that follows from it.

Pure numpy, FP64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ramedge.errors import WeightsError
from ramedge.files import atomic_path

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statistic:
    """Count, mean and M2 (the sum of squared differences from the mean) of disjoint pixels.

    Attributes:
        count: number of pixels, at least 1.
        mean, m2: `[R, C]` float64, by block and channel.
    """

    count: int
    mean: Values
    m2: Values

    @property
    def variance(self) -> Values:
        """Population variance, `[R, C]`."""
        return self.m2 / self.count

    def merged(self, other: Statistic) -> Statistic:
        """The statistic of both sets of pixels together.

        Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances" (1979), Eq. 2.1: the variance between the two means is part of the whole's.

        >>> a = Statistic(1, np.array([[1.0]]), np.array([[0.0]]))
        >>> b = Statistic(1, np.array([[3.0]]), np.array([[0.0]]))
        >>> a.merged(b).variance
        array([[1.]])
        """
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        m2 = self.m2 + other.m2 + difference**2 * (self.count * other.count / count)
        return Statistic(count, mean, m2)


def merge(statistics: Iterable[Statistic]) -> Statistic:
    """The statistic of all of them together; at least one is needed."""
    return reduce(Statistic.merged, statistics)


def stack(blocks: Sequence[Statistic]) -> Statistic:
    """One statistic of the same pixels from those of single blocks, R = 1 each."""
    return Statistic(
        blocks[0].count,
        np.concatenate([block.mean for block in blocks]),
        np.concatenate([block.m2 for block in blocks]),
    )


@dataclass(frozen=True, slots=True)
class ChannelExcitation:
    """The two layers of each block from variance to attention logits (paper, Eq. 6).

    Attributes:
        weight1, bias1: `[R, C/r, C]` and `[R, C/r]` float64.
        weight2, bias2: `[R, C, C/r]` and `[R, C]` float64.
    """

    weight1: Values
    bias1: Values
    weight2: Values
    bias2: Values

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks R and channels C."""
        blocks, channels = self.bias2.shape
        return blocks, channels

    def block(self, index: int) -> ChannelExcitation:
        """The layers of one block, from 0, with R = 1."""
        only = slice(index, index + 1)
        return ChannelExcitation(
            self.weight1[only], self.bias1[only], self.weight2[only], self.bias2[only]
        )

    def logits(self, variance: Values) -> Values:
        """fc2(relu(fc1(variance))), `[R, C]` → `[R, C]`."""
        hidden = np.einsum("rhc,rc->rh", self.weight1, variance) + self.bias1
        result: Values = np.einsum("rch,rh->rc", self.weight2, np.maximum(hidden, 0)) + self.bias2
        return result


_NAMES = ("weight1", "bias1", "weight2", "bias2")


def save_excitation(excitation: ChannelExcitation, path: Path) -> None:
    """Write the layers as safetensors, FP32, as they were trained.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: getattr(excitation, name).astype(np.float32) for name in _NAMES}
    with atomic_path(path) as partial:
        save_file(tensors, partial)


def load_excitation(path: Path) -> ChannelExcitation:
    """Read what `save_excitation` wrote.

    Raises:
        WeightsError: the file cannot be read or lacks a tensor.
    """
    try:
        tensors = load_file(path)
        weight1, bias1, weight2, bias2 = (tensors[name].astype(np.float64) for name in _NAMES)
    except (SafetensorError, OSError, KeyError) as error:
        raise WeightsError(f"Cannot read {path}: {error}. Export the model again.") from None
    return ChannelExcitation(weight1, bias1, weight2, bias2)


def attention(logits: Values) -> Values:
    """The channel attention σ(logits), 0 to 1."""
    result: Values = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def attention_change(first: Values, second: Values) -> float:
    """Largest difference of the channel attention σ(logits) between two sets of logits."""
    return float(np.abs(attention(first) - attention(second)).max())
