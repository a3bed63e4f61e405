"""Which convolutions may be int8: the loss of each alone, then as many as a budget allows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from ramedge.calibration.frames import CalibrationFrame
from ramedge.calibration.quantize import dense_convolutions, inputs_of, quantize
from ramedge.calibration.ranges import METHODS, Magnitudes, Method, measure, thresholds
from ramedge.errors import InputError
from ramedge.metrics import psnr_y
from ramedge.photos import downscale
from ramedge.runtimes.onnxruntime import OnnxRuntimeSession

Images = NDArray[np.float32]
Pixels8 = NDArray[np.uint8]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Budget:
    """What int8 may cost against FP32, in dB of PSNR-Y on the search's pictures.

    Attributes:
        mean: over the pictures.
        worst: of one picture.
    """

    mean: float = 0.05
    worst: float = 0.15


@dataclass(frozen=True, slots=True)
class Loss:
    """Loss of PSNR-Y against FP32 in dB; negative where int8 is better by chance."""

    mean: float
    worst: float

    def within(self, budget: Budget) -> bool:
        """Whether both figures are within the budget."""
        return self.mean <= budget.mean and self.worst <= budget.worst


@dataclass(frozen=True, slots=True)
class Step:
    """A set of int8 convolutions that was tried: the `count` least sensitive, and its loss."""

    count: int
    loss: Loss


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the search found.

    Attributes:
        quantized: names of the convolutions to be int8, in the graph's order.
        high: those that stay as they are.
        method: how ranges were chosen.
        ranges: threshold of each int8 convolution's input, by tensor.
        loss: of the chosen set.
        methods: loss of each method with all convolutions in int8.
        alone: loss of each convolution in int8 by itself.
        steps: sets that were tried.
    """

    quantized: tuple[str, ...]
    high: tuple[str, ...]
    method: Method
    ranges: dict[str, float]
    loss: Loss
    methods: dict[str, Loss]
    alone: dict[str, Loss]
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)


def search(
    model: Path,
    frames: Sequence[CalibrationFrame],
    scale: int,
    budget: Budget,
    pictures: int = 6,
    on_step: OnStep = lambda _done, _total: None,
) -> SearchResult:
    """Find the largest set of int8 convolutions within a budget.

    First the methods of choosing ranges compete, with everything in int8; then each convolution is
    int8 alone with the best of them; then the least sensitive go together, as many as the budget
    bears, found by bisection. If none may be int8, `quantized` is empty.

    Args:
        model: FP32 ONNX, graph kind `frame`.
        frames: all measure the ranges; `pictures` of them, spread evenly, are downscaled and
            upscaled again to measure the loss against what they were.
        scale: of the model.
        budget: allowed loss.
        pictures: how many to measure the loss on.
        on_step: called after each of the models that are tried.

    Raises:
        InputError: the frames are too small to measure.
        ExportError: the model cannot be quantized.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trials(model, frames, scale, pictures, Path(folder))
        total = len(METHODS) + len(trial.names) + len(trial.names).bit_length() + 1
        done = 0

        def count(loss: Loss) -> Loss:
            nonlocal done
            done += 1
            on_step(done, max(done, total))
            return loss

        methods = {method: count(trial.loss(trial.names, method)) for method in METHODS}
        best = min(METHODS, key=lambda method: methods[method].mean)
        alone = {name: count(trial.loss([name], best)) for name in trial.names}
        order = sorted(trial.names, key=lambda name: alone[name].mean)
        steps = [Step(len(order), methods[best])]
        low, high = 0, len(order)
        if methods[best].within(budget):
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            steps.append(Step(middle, count(trial.loss(order[:middle], best))))
            low, high = (middle, high) if steps[-1].loss.within(budget) else (low, middle)
        chosen = [name for name in trial.names if name in set(order[:low])]
        loss = next((step.loss for step in steps if step.count == low), Loss(0.0, 0.0))
        return SearchResult(
            quantized=tuple(chosen),
            high=tuple(name for name in trial.names if name not in set(chosen)),
            method=best,
            ranges=trial.ranges(chosen, best),
            loss=loss,
            methods={str(method): found for method, found in methods.items()},
            alone=alone,
            steps=tuple(steps),
        )


class _Trials:
    """Quantizes a model in some of its convolutions and measures what that costs."""

    def __init__(
        self,
        model: Path,
        frames: Sequence[CalibrationFrame],
        scale: int,
        pictures: int,
        folder: Path,
    ) -> None:
        network = onnx.load(model)
        self.model = model
        self.names = dense_convolutions(network)
        self.folder = folder
        self._inputs = inputs_of(network, self.names)
        self._measured: dict[str, Magnitudes] = measure(model, list(self._inputs.values()), frames)
        self._pairs = [_pair(frame, scale) for frame in _spread(frames, pictures)]
        self._scale = scale
        self._reference = self._psnr(model)

    def ranges(self, names: Iterable[str], method: Method) -> dict[str, float]:
        tensors = {self._inputs[name] for name in names}
        chosen = {tensor: self._measured[tensor] for tensor in sorted(tensors)}
        return thresholds(chosen, method)

    def loss(self, names: Sequence[str], method: Method) -> Loss:
        path = self.folder / "trial.onnx"
        quantize(self.model, path, names, self.ranges(names, method))
        lost = [
            before - after for before, after in zip(self._reference, self._psnr(path), strict=True)
        ]
        return Loss(mean=float(np.mean(lost)), worst=float(np.max(lost)))

    def _psnr(self, path: Path) -> list[float]:
        session = OnnxRuntimeSession(path)
        values = []
        for image, truth in self._pairs:
            levels = np.rint(np.clip(session.infer_float(image)[0], 0, 1) * 255)
            values.append(psnr_y(levels.transpose(1, 2, 0).astype(np.uint8), truth, self._scale))
        return values


def _spread(frames: Sequence[CalibrationFrame], count: int) -> list[CalibrationFrame]:
    if len(frames) <= count:
        return list(frames)
    return [frames[index * len(frames) // count] for index in range(count)]


def _pair(frame: CalibrationFrame, scale: int) -> tuple[Images, Pixels8]:
    """The network's input made of a picture, and the picture."""
    low, high = downscale(Image.fromarray(frame.pixels), scale)
    if min(low.size) < 16:
        raise InputError(f"{frame.name} is too small to measure: {frame.pixels.shape[1::-1]}.")
    image = np.asarray(low, dtype=np.float32).transpose(2, 0, 1)[None] * np.float32(1 / 255)
    return np.ascontiguousarray(image), np.asarray(high)
