"""Ranges of activations, measured once on real pictures, and the ways to choose one from them.

Each channel is measured by itself: in this network the widest channel of a tensor reaches many
times as far as the median one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ramedge.calibration.pictures import CalibrationFrame
from ramedge.errors import ExportError, MissingExtraError

Method = Literal["minmax", "percentile", "entropy", "mse", "l4"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse", "l4")

LEVELS = 127
"""Largest magnitude of symmetric int8: -128 is not used, so that both sides are alike."""
PERCENTILE = 99.995
_BINS = 2048
_CANDIDATES = 128
_SMALLEST_SHARE = 0.2
"""Smallest share of the largest magnitude that a threshold may be."""
_QUIETEST = 1 / 64
"""A channel is taken to reach at least so far, as a share of its tensor's widest: one that was
nearly silent may speak up in another picture."""
_ALIKE = 2.0
"""Channels none of which reaches this many times as far as another share the widest range: there
is little to gain (red, green and blue)."""


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """How often which magnitudes of a tensor occur.

    Attributes:
        counts: of |x| as a share of its channel's largest, in equal bins from 0 to 1,
            `[2048]` int64.
        largest: largest |x| of each channel, `[C]` float64.
    """

    counts: NDArray[np.int64]
    largest: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        middles: NDArray[np.float64] = np.arange(0.5, len(self.counts)) / len(self.counts)
        return middles

    def threshold(self, method: Method) -> float:
        """The share of a channel's largest magnitude that becomes 127; what is larger is clipped.

        `minmax`: the largest. `percentile`: 99.995 % are at most as large. `mse`: the least mean
        squared error of rounding and clipping together. `l4`: the least mean fourth power of it,
        which clips less. `entropy`: the least Kullback-Leibler
        divergence, onnxruntime's (after Migacz, "8-bit inference with TensorRT", GTC 2017).
        """
        return _THRESHOLDS[method](self)

    def ranges(self, method: Method, headroom: float = 1.0) -> tuple[float, ...]:
        """The magnitude of each channel that becomes 127, `headroom` times what a method says."""
        limits: list[float] = (headroom * self.threshold(method) * self.largest).tolist()
        return tuple(limits)


def measure(
    model: Path, tensors: Sequence[str], frames: Sequence[CalibrationFrame]
) -> dict[str, Magnitudes]:
    """Run an FP32 model on pictures and count the magnitudes of some of its tensors.

    Two runs over the pictures: the first finds the largest magnitudes of each channel. One picture
    is in memory at a time.

    Raises:
        MissingExtraError: the export extra is not installed.
        ExportError: a tensor holds NaN, infinity or nothing but zero.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingExtraError("onnxruntime", "export", "Calibration") from None
    network = onnx.load(model)
    names = list(dict.fromkeys(tensors))
    inputs = {value.name for value in network.graph.input}
    for name in names:
        if name not in inputs:
            network.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    image = session.get_inputs()[0].name
    wanted = [name for name in names if name not in inputs]

    def run(frame: CalibrationFrame) -> dict[str, NDArray[np.float32]]:
        found = dict(zip(wanted, session.run(wanted, {image: frame.image}), strict=True))
        return {name: np.abs(found.get(name, frame.image)) for name in names}

    largest: dict[str, NDArray[np.float64]] = {}
    for frame in frames:
        for name, values in run(frame).items():
            found = values.max(axis=(0, 2, 3)).astype(np.float64)
            largest[name] = np.maximum(largest.get(name, 0.0), found)
    for name, channels in largest.items():
        widest = float(channels.max())
        if not np.isfinite(widest) or widest == 0.0:
            raise ExportError(f"{name} holds nothing but zero, or NaN or infinity: not quantized.")
        least = widest if widest < _ALIKE * channels.min() else widest * _QUIETEST
        largest[name] = np.maximum(channels, least)
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for frame in frames:
        for name, values in run(frame).items():
            # As np.histogram of equal bins, in a third of its time.
            width = (_BINS / largest[name]).astype(np.float32)
            bins = (values * width[:, None, None]).ravel().astype(np.int32)
            np.minimum(bins, _BINS - 1, out=bins)
            counts[name] += np.bincount(bins, minlength=_BINS)
    return {name: Magnitudes(counts[name], largest[name]) for name in names}


def _minmax(_magnitudes: Magnitudes) -> float:
    return 1.0


def _percentile(magnitudes: Magnitudes) -> float:
    share = np.cumsum(magnitudes.counts) / magnitudes.counts.sum()
    last = int(np.searchsorted(share, PERCENTILE / 100))
    return (min(last, len(share) - 1) + 1) / len(share)


def _mse(magnitudes: Magnitudes) -> float:
    return _least_error(magnitudes, power=2, inside=1 / 12)


def _l4(magnitudes: Magnitudes) -> float:
    return _least_error(magnitudes, power=4, inside=1 / 80)


def _least_error(magnitudes: Magnitudes, power: int, inside: float) -> float:
    """The threshold with the least mean |error|ᵖ.

    `inside` is what rounding to whole steps costs, in stepᵖ: a value is anywhere between two
    levels, so it is the p-th moment of a uniform error of ±1/2. Beyond the threshold values are
    clipped.
    """
    centres, weights = magnitudes.centres, magnitudes.counts
    candidates = np.linspace(_SMALLEST_SHARE, 1.0, _CANDIDATES)
    errors = []
    for threshold in candidates:
        clipped = np.maximum(centres - threshold, 0.0) ** power
        rounded = inside * (threshold / LEVELS) ** power
        errors.append(float((weights * np.where(centres <= threshold, rounded, clipped)).sum()))
    return float(candidates[int(np.argmin(errors))])


def _entropy(magnitudes: Magnitudes) -> float:
    from onnxruntime.quantization.calibrate import HistogramCollector

    # Its histograms reach from -1 to 1; |x| falls on both sides alike.
    both = np.concatenate([magnitudes.counts[::-1], magnitudes.counts])
    paired = both.reshape(-1, 2).sum(axis=1)
    edges = np.linspace(-1.0, 1.0, len(paired) + 1)
    collector = HistogramCollector("entropy", True, len(paired), 2 * LEVELS + 2, PERCENTILE, {})
    histogram = (paired, edges, -1.0, 1.0, 1.0)
    found = collector.get_entropy_threshold(histogram, 2 * LEVELS + 2)
    return float(max(abs(float(found[0])), abs(float(found[1]))))


_THRESHOLDS = MappingProxyType(
    {"minmax": _minmax, "percentile": _percentile, "mse": _mse, "l4": _l4, "entropy": _entropy}
)
