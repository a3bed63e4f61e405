"""From a network and pictures to what of it is int8: ranges, a search, a plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from ramedge.calibration.pictures import CalibrationFrame, CalibrationSettings, collect_frames
from ramedge.calibration.quantize import QuantizationPlan
from ramedge.calibration.search import search
from ramedge.errors import GateError
from ramedge.quality.gate import THRESHOLDS
from ramedge.quality.int8_budget import Budget, CheckImage
from ramedge.quality.photos import downscale

CHECK_EVERY = 6
"""One calibration picture in N is not calibrated on, but kept for the gate."""
SIDE = 192
"""Pictures whose loss is measured are cropped to this many pixels a side."""
PICTURES = 10
"""Number of pictures that measure the loss in the search."""
SEARCH_SHARE = 0.8
"""Share of the loss allowed that the search may spend: it runs in FP32 around INT8 on few pictures,
the gate on others, in the precision that really runs."""
PEAK_SHARE = 0.2
"""Share of the largest error allowed that the search may make. Clipping shows on few pixels of few
pictures: those of the search meet only a part of it."""


@dataclass(frozen=True, slots=True)
class Int8Settings:
    """How a network becomes INT8.

    Attributes:
        calibration: where the pictures come from; `None` takes the shipped INT8 model.
        budget: what it may lose against FP32.
    """

    calibration: CalibrationSettings | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Int8Recipe:
    """What the calibration found.

    Attributes:
        plan: what of it is int8.
        checks: pictures for the gate, none of them calibrated on.
        record: for the manifest: the pictures, the search, what was chosen.
    """

    plan: QuantizationPlan
    checks: tuple[CheckImage, ...]
    record: dict[str, Any]


def prepare_int8(
    frame: onnx.ModelProto,
    scale: int,
    calibration: CalibrationSettings,
    budget: Budget,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Int8Recipe:
    """Calibrate a network of one scale, of which `frame` is the FP32 graph of that kind.

    Raises:
        InputError: the pictures cannot be used.
        ExportError: the network cannot be quantized.
        GateError: no convolution may be int8 within the budget.
    """
    found = collect_frames(calibration)
    checks, frames = _split(found.frames)
    inputs = [_as_input(frame, index, scale) for index, frame in enumerate(frames)]
    allowed = Budget(
        mean=budget.mean * SEARCH_SHARE,
        worst=budget.worst * SEARCH_SHARE,
        peak=THRESHOLDS["int8"].max_error * 255.0 * PEAK_SHARE,
    )
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        onnx.save(frame, plain)
        pictures = _pictures(_spread(frames, PICTURES), scale)
        result = search(plain, inputs, pictures, scale, allowed, on_step)
    if not any(found is not None for found in result.plan.ranges):
        raise GateError(f"No convolution may be INT8 within {budget.mean} dB: raise --max-loss.")
    return Int8Recipe(
        plan=result.plan,
        checks=tuple(_pictures(checks, scale)),
        record={"calibration": found.as_dict(), "search": result.as_dict()},
    )


def _as_input(frame: CalibrationFrame, index: int, scale: int) -> CalibrationFrame:
    """A picture as a network gets it: by turns a photo's own pixels, and a photo made small.

    Small ones have harder edges, from which the largest activations come.
    """
    if index % 2:
        return frame.cropped(SIDE)
    low, _ = downscale(Image.fromarray(frame.pixels), scale)
    return replace(frame, pixels=np.asarray(low))


def _pictures(frames: Sequence[CalibrationFrame], scale: int) -> list[CheckImage]:
    return [CheckImage.of(frame.name, frame.cropped(SIDE).pixels, scale) for frame in frames]


def _spread(frames: Sequence[CalibrationFrame], count: int) -> list[CalibrationFrame]:
    if len(frames) <= count:
        return list(frames)
    return [frames[index * len(frames) // count] for index in range(count)]


def _split(
    frames: Sequence[CalibrationFrame],
) -> tuple[list[CalibrationFrame], list[CalibrationFrame]]:
    """(pictures for the gate, pictures to calibrate on)."""
    checks = [frame for index, frame in enumerate(frames) if index % CHECK_EVERY == 0]
    return checks, [frame for index, frame in enumerate(frames) if index % CHECK_EVERY]
