"""The gate for an engine on the GPU that built it: the plan itself, on real photos, in 8 bits."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ramedge.errors import GateError
from ramedge.quality.gate import THRESHOLDS, Images, Thresholds, gate_photos
from ramedge.quality.metrics import agreement
from ramedge.runtimes.openvino.session import open_onnx
from ramedge.runtimes.tensorrt.build import Engine
from ramedge.runtimes.tensorrt.cache import EngineCache, Record
from ramedge.runtimes.tensorrt.cuda import Cuda
from ramedge.runtimes.tensorrt.engine import LoadedEngine
from ramedge.runtimes.tensorrt.variant import VARIANTS

_STEP = np.float32(1 / 255)


def check_engine(engine: Engine, model: Path, cache: EngineCache, cuda: Cuda) -> Record:
    """Compare an engine of the graph kind `frame` with its ONNX file, run by OpenVINO in FP32.

    The file agreed with PyTorch when it was exported; this is what the plan adds. Needs no torch.

    Args:
        engine: takes 8-bit pixels.
        model: the ONNX file that it was built from.
        cache: where its record stands; the figures are added there.
        cuda: the GPU.

    Raises:
        GateError: it differs by more than the gate allows; it is removed from the cache.
    """
    key = engine.record.key
    loaded = LoadedEngine(engine.data, VARIANTS[key.variant], cuda)  # type: ignore[index]
    limits = rounded(THRESHOLDS["fp32" if key.precision == "fp32" else "fp16"])
    worst: dict[str, Any] = {"psnr": math.inf, "max_error": 0.0, "max_channel_bias": 0.0}
    try:
        with open_onnx(model, key.scale, "fp32") as reference:
            for name, image in gate_photos().items():
                pixels = _pixels(image)
                (found,) = loaded.run([pixels])
                expected = reference.infer(pixels)
                result = agreement(found * _STEP, expected * _STEP)
                worst["psnr"] = min(worst["psnr"], result.psnr)
                worst["max_error"] = max(worst["max_error"], result.max_error)
                bias = max(map(abs, result.channel_bias))
                worst["max_channel_bias"] = max(worst["max_channel_bias"], bias)
                _compare(name, worst, limits)
    except GateError:
        cache.remove(key.name)
        raise
    finally:
        loaded.close()
    gate = {**engine.record.gate, "engine": worst | {"thresholds": asdict(limits)}}
    record = replace(engine.record, gate=gate)
    cache.write_record(record)
    return record


def rounded(limits: Thresholds) -> Thresholds:
    """Thresholds of floats for outputs that both were rounded to 8 bits.

    An error e (in levels, small and evenly spread) flips a rounding with the probability |e|, so
    the mean square becomes E|e| (about 0.8 of the root mean square) where that is larger.
    """
    levels = 255.0 * 10 ** (-limits.min_psnr / 20)
    square = max(levels**2 + 1 / 6, 0.0) if levels > 0.5 else 0.8 * levels
    return Thresholds(
        min_psnr=10 * math.log10(255.0**2 / square),
        max_error=limits.max_error + 1.0 / 255,
        max_channel_bias=limits.max_channel_bias + 0.01 / 255,
    )


def _pixels(image: Images) -> np.ndarray[Any, np.dtype[np.uint8]]:
    levels = np.rint(image.transpose(0, 2, 3, 1) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(levels)


def _compare(photo: str, worst: dict[str, Any], limits: Thresholds) -> None:
    if worst["psnr"] < limits.min_psnr:
        raise GateError(
            f"The engine agrees with its ONNX file on {photo} to {worst['psnr']:.1f} dB, needed "
            f"are {limits.min_psnr:.1f} dB in 8 bits."
        )
    for name, words in (("max_error", "one value"), ("max_channel_bias", "a colour channel")):
        if worst[name] > getattr(limits, name):
            raise GateError(
                f"The engine differs from its ONNX file on {photo}: {words} is off by "
                f"{worst[name] * 255:.2f} levels of 255, allowed are "
                f"{getattr(limits, name) * 255:.2f}."
            )
