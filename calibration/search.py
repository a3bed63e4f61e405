"""Which convolutions may be int8: the loss of each alone, then as many as a budget allows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ramedge.calibration.pictures import CalibrationFrame
from ramedge.calibration.quantize import (
    QuantizationPlan,
    dense_convolutions,
    inputs_of,
    multiply_adds,
)
from ramedge.calibration.ranges import METHODS, Magnitudes, Method, measure
from ramedge.quality.int8_budget import Budget, CheckImage, Loss, milliseconds
from ramedge.runtimes.onnxruntime import session as onnxruntime
from ramedge.runtimes.openvino import session as openvino

OnStep = Callable[[int, int], None]

HEADROOM = 1.75
"""A range is N times what its method says: pictures that were not calibrated on reach further
(1.4 to 2.3 times was seen on hard edges), and a clipped edge is seen sooner than noise."""
LEAST_SHARE = 0.8
"""Smallest share of the largest magnitude that a method may say."""
WIDE = 2.5
"""The range of a convolution that loses nothing, in times of the largest magnitude."""
NOTHING = 0.01
"""Share of the budget below which a convolution's loss is nothing."""
WORTH = 10.0
"""A convolution stays in high precision where it spends more than N times its share of the budget:
the first and the last are below 1 % of the work, and most of the loss."""
_SENSITIVE = 6
"""Number of the most sensitive convolutions that try every method of choosing their range."""
_RUNS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """A set of int8 convolutions that was tried.

    Attributes:
        count: how many, in the order of the least loss for what they save.
        share: of the network's multiply-adds.
        loss: what they cost together.
        milliseconds: the fastest of some runs of one picture in OpenVINO.
    """

    count: int
    share: float
    loss: Loss
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One convolution in int8 by itself.

    Attributes:
        name: of the node.
        share: of the network's multiply-adds.
        method: of choosing its range, the one that loses least.
        headroom: its range, in times the largest magnitudes that were seen.
        loss: what it costs.
        quantized: whether it is int8 in the end.
    """

    name: str
    share: float
    method: Method
    headroom: float
    loss: Loss
    quantized: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the search found.

    Attributes:
        plan: what is to be int8.
        loss: what it costs on the search's pictures.
        methods: loss of each method with all convolutions in int8.
        alone: every convolution, in the graph's order.
        steps: sets that were tried.
    """

    plan: QuantizationPlan
    loss: Loss
    methods: Mapping[str, Loss]
    alone: tuple[Sensitivity, ...]
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the manifest. The ranges stand in the model."""
        found = asdict(self)
        del found["plan"]
        return found


def search(
    model: Path,
    frames: Sequence[CalibrationFrame],
    pictures: Sequence[CheckImage],
    scale: int,
    budget: Budget,
    on_step: OnStep = lambda _done, _total: None,
) -> SearchResult:
    """Find the largest set of int8 convolutions within a budget.

    First the methods of choosing ranges compete, with everything in int8. Then each convolution is
    int8 alone with the best of them, the most sensitive ones with every method; where nothing is
    lost, the range is made wider. Then they go together in the order of loss for each multiply-add,
    as many as the budget bears, found by bisection; those that are not worth it stay out, and so do
    the convolutions that read and make the picture itself. If none may be int8, the plan is empty.

    Args:
        model: FP32 ONNX, graph kind `frame`.
        frames: the ranges are measured on them, as inputs of the network.
        pictures: the loss is measured on them, against the truth.
        scale: of the model.
        budget: allowed loss.
        on_step: called after each of the models that are tried.

    Raises:
        ExportError: the model cannot be quantized.
    """
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(model, frames, pictures, scale, Path(folder))
        progress = _Progress(trials, on_step)
        names = trials.names
        everything = {
            method: progress.loss({name: trials.headroom(name, method) for name in names})
            for method in METHODS
        }

        def preference(loss: Loss) -> tuple[bool, float]:
            # Clipped edges show, however little they weigh in a mean.
            return loss.peak > budget.peak, loss.mean

        best = min(METHODS, key=lambda method: preference(everything[method]))
        alone = {name: (progress.loss({name: trials.headroom(name, best)}), best) for name in names}
        sensitive = sorted(names, key=lambda name: alone[name][0].mean)[-_SENSITIVE:]
        for name in sensitive:
            for method in METHODS:
                if method != best:
                    alone[name] = min(
                        alone[name],
                        (progress.loss({name: trials.headroom(name, method)}), method),
                        key=lambda found: preference(found[0]),
                    )
        headroom = {
            name: WIDE if loss.mean <= NOTHING * budget.mean else trials.headroom(name, method)
            for name, (loss, method) in alone.items()
        }
        cost = {name: alone[name][0].mean / trials.shares[name] for name in names}
        order = sorted(
            (name for name in trials.inner if cost[name] <= WORTH * budget.mean),
            key=cost.__getitem__,
        )
        steps: list[Step] = []

        def attempt(count: int) -> bool:
            chosen = order[:count]
            loss = progress.loss({name: headroom[name] for name in chosen})
            share = sum(trials.shares[name] for name in chosen)
            steps.append(Step(count, share, loss, trials.milliseconds()))
            return loss.within(budget)

        count = _largest(len(order), attempt) if order else 0
        quantized = frozenset(order[:count])
        found = tuple(
            Sensitivity(
                name=name,
                share=trials.shares[name],
                method=alone[name][1],
                headroom=headroom[name],
                loss=alone[name][0],
                quantized=name in quantized,
            )
            for name in names
        )
        return SearchResult(
            plan=trials.plan({one.name: one.headroom for one in found if one.quantized}),
            loss=next((step.loss for step in steps if step.count == count), Loss(0.0, 0.0)),
            methods={str(method): loss for method, loss in everything.items()},
            alone=found,
            steps=tuple(steps),
        )


def _largest(most: int, attempt: Callable[[int], bool]) -> int:
    """The largest count up to `most` that is accepted, by bisection; 0 is not tried."""
    if attempt(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attempt(middle) else (low, middle)
    return low


class _Progress:
    """Counts the trials for whoever watches."""

    def __init__(self, trials: Trials, on_step: OnStep) -> None:
        count = len(trials.names)
        others = min(_SENSITIVE, count) * (len(METHODS) - 1)
        self._trials = trials
        self._on_step = on_step
        self._total = len(METHODS) + count + others + 1 + count.bit_length()
        self._done = 0

    def loss(self, headroom: Mapping[str, float]) -> Loss:
        loss = self._trials.loss(headroom)
        self._done += 1
        self._on_step(self._done, max(self._done, self._total))
        return loss


class Trials:
    """Quantizes a model in some of its convolutions and measures what that costs."""

    def __init__(
        self,
        model: Path,
        frames: Sequence[CalibrationFrame],
        pictures: Sequence[CheckImage],
        scale: int,
        folder: Path,
    ) -> None:
        network = onnx.load(model)
        self.model = model
        self.names = dense_convolutions(network)
        self._path = folder / "trial.onnx"
        self._inputs = inputs_of(network, self.names)
        # The first is below 1 % of the work. OpenVINO 2026.4 computes it wrongly in int8 where the
        # picture's size is not known when the graph is built (18 dB). What the last one rounds
        # stands in the picture as it is: flat areas came out tinted by up to 0.8 levels.
        self.inner = self.names[1:-1]
        self._pictures = pictures
        self._measured: dict[str, Magnitudes] = measure(model, list(self._inputs.values()), frames)
        self._shares: dict[tuple[str, Method], float] = {}
        self._scale = scale
        self._outputs = self._run(model)
        self._reference = self._psnr(self._outputs)
        costs = multiply_adds(network, self.names)
        self.shares = {name: cost / sum(costs.values()) for name, cost in costs.items()}

    def headroom(self, name: str, method: Method) -> float:
        """The range of a convolution's input by a method, in times the largest that was seen."""
        key = self._inputs[name], method
        if key not in self._shares:  # entropy takes a second each
            self._shares[key] = self._measured[self._inputs[name]].threshold(method)
        return HEADROOM * max(LEAST_SHARE, self._shares[key])

    def plan(self, headroom: Mapping[str, float]) -> QuantizationPlan:
        """The named convolutions in int8, with ranges in times of the largest seen."""
        return QuantizationPlan(
            tuple(
                tuple((headroom[name] * self._measured[self._inputs[name]].largest).tolist())
                if name in headroom
                else None
                for name in self.names
            )
        )

    def loss(self, headroom: Mapping[str, float]) -> Loss:
        """With the named convolutions in int8."""
        plan = self.plan(headroom)
        plan.apply(self.model, self._path)
        outputs = self._run(self._path)
        peak = max(
            float(np.abs(output - expected).max())
            for output, expected in zip(outputs, self._outputs, strict=True)
        )
        return Loss.visible(self._reference, self._psnr(outputs), peak * 255.0)

    def milliseconds(self) -> float:
        """Time of the last trial, on one picture."""
        with openvino.open_onnx(self._path, self._scale, "int8") as runtime:
            return min(
                milliseconds(runtime.infer_float, self._pictures[0].low) for _ in range(_RUNS)
            )

    def _run(self, path: Path) -> list[NDArray[np.float32]]:
        with onnxruntime.open_onnx(path, self._scale) as runtime:
            return [runtime.infer_float(picture.low) for picture in self._pictures]

    def _psnr(self, outputs: Sequence[NDArray[np.float32]]) -> list[float]:
        return [
            picture.psnr_y(output, self._scale)
            for picture, output in zip(self._pictures, outputs, strict=True)
        ]
