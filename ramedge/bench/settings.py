"""What to measure: candidates, that is ways to run a network, and the frames they get."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from ramedge.artifacts.artifact import Manifest, is_artifact, load_artifact
from ramedge.errors import InputError, MissingExtraError, UsageError
from ramedge.files import file_digest
from ramedge.runtimes.backend import PrecisionName, RuntimeName
from ramedge.runtimes.registry import BACKENDS, best, title_of
from ramedge.system import has_torch, nvidia_gpus
from ramedge.upscaling.open_model import (
    DEFAULT_SCALE,
    RuntimeSettings,
    model_source,
)
from ramedge.weights import shipped_precisions, shipped_scales, shipped_weights

FEWEST_ROUNDS = 3
"""Fewer have no spread."""


@dataclass(frozen=True, slots=True)
class Size:
    """Height and width of a frame, in low-resolution pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to measure, and for how long.

    Attributes:
        runtimes, precisions, scales, models: each empty for all that is there (scales: ×2).
            Models are exported folders or safetensors weights; empty is the shipped one.
        sizes: of the frames; empty is 180×320, or the size of `input`.
        input: image or video whose first frame is upscaled, and which is run end to end; the
            shipped photo and clip where `None`.
        warmup: runs of each combination before it is timed, at most.
        iterations: rounds, at most. In each every combination has its turn of one run, or of
            several where it is fast.
        seconds: that the timed runs of all combinations may take together; three rounds are
            done in any case.
        end_to_end: whether a file is run from decoding to encoding, too.
    """

    runtimes: tuple[RuntimeName, ...] = ()
    precisions: tuple[PrecisionName, ...] = ()
    scales: tuple[int, ...] = ()
    models: tuple[Path, ...] = ()
    sizes: tuple[Size, ...] = ()
    input: Path | None = None
    warmup: int = 10
    iterations: int = 100
    seconds: float = 60.0
    end_to_end: bool = True

    def __post_init__(self) -> None:
        if self.iterations < FEWEST_ROUNDS:
            raise UsageError(
                f"--iterations must be at least {FEWEST_ROUNDS}: fewer have no spread."
            )
        if self.warmup < 1:
            raise UsageError("--warmup must be at least 1.")
        if not 0 < self.seconds < math.inf:
            raise UsageError("--seconds must be a positive number.")
        names = [model_name(model) for model in self.models]
        if len(set(names)) < len(names):
            raise UsageError("Two models have the same name, by which they are told apart.")
        if self.input is not None and self.sizes:
            raise UsageError("--input has its own size: leave --size out.")
        if self.input is not None and not self.input.is_file():
            raise InputError(f"{self.input} does not exist.")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run one network.

    Attributes:
        device: in the runtime's words; `auto` chooses.
        weights: SHA-256 of the weights that the model was made from.
        exported: precision that the model was exported in; `fp32` for weights.
    """

    runtime: RuntimeName
    precision: PrecisionName
    scale: int
    model: Path | None = None
    device: str = "auto"
    weights: str = field(default="", compare=False)
    exported: str = field(default="fp32", compare=False)

    @property
    def settings(self) -> RuntimeSettings:
        """What opens it."""
        return RuntimeSettings(self.runtime, self.precision, self.scale, self.model, self.device)

    @property
    def title(self) -> str:
        """For example `OpenVINO fp32`, with the model's name where it is not the shipped one."""
        name = f"{title_of(self.runtime)} {self.precision}"
        return f"{name} {model_name(self.model)}".rstrip()


def model_name(model: Path | None) -> str:
    """By which a model is shown and compared; empty for the shipped one."""
    return "" if model is None else model.resolve().name


def chosen_candidates(settings: BenchSettings) -> list[Candidate]:
    """Every candidate that the settings ask for and that is there.

    Raises:
        UsageError: none is left, or a scale has no weights.
        WeightsError: a model is damaged.
    """
    candidates = [
        candidate
        for model in settings.models or (None,)
        for candidate in _candidates_of(model, settings)
        if not settings.runtimes or candidate.runtime in settings.runtimes
        if not settings.precisions or candidate.precision in settings.precisions
    ]
    if not candidates:
        asked = " ".join((*settings.runtimes, *settings.precisions))
        raise UsageError(f"There is nothing here that runs {asked}: ramedge doctor says what is.")
    return list(dict.fromkeys(candidates))


def reference_of(candidate: Candidate, candidates: list[Candidate]) -> Candidate | None:
    """What a candidate is compared with: the same weights in PyTorch in FP32.

    Without PyTorch it is the shipped model, which the gate let pass, in OpenVINO in FP32; `None`
    where the weights are neither shipped nor among `candidates`.
    """
    shipped = _shipped(candidate)
    if not has_torch():
        return Candidate("openvino", "fp32", candidate.scale) if shipped else None
    for other in candidates:
        same = (other.weights, other.scale) == (candidate.weights, candidate.scale)
        if same and (other.runtime, other.precision) == ("torch", "fp32"):
            return other
    if not shipped:
        return None
    return Candidate("torch", "fp32", candidate.scale, weights=candidate.weights)


def _shipped(candidate: Candidate) -> bool:
    scale = candidate.scale
    return scale in shipped_scales() and file_digest(shipped_weights(scale)) == candidate.weights


def _candidates_of(model: Path | None, settings: BenchSettings) -> list[Candidate]:
    if model is None:
        scales = settings.scales or (DEFAULT_SCALE,)
        found = [candidate for scale in scales for candidate in _shipped_candidates(scale)]
        return [*found, *_asked_for(found, settings)]
    if is_artifact(model):
        found = _exported_candidates(model, load_artifact(model).manifest, settings.scales)
        return [*found, *_asked_for(found, settings)]
    if not model.is_file():
        raise UsageError(f"No such model: {model}.")
    if not has_torch():
        raise MissingExtraError("torch", "export", "Running weights in PyTorch")
    from ramedge.network.weights import load_weights

    loaded = load_weights(model)
    own = loaded.config.scales
    scales = settings.scales or ((DEFAULT_SCALE,) if DEFAULT_SCALE in own else own[:1])
    return [
        Candidate("torch", precision, scale, model, weights=loaded.digest)
        for scale in scales
        for precision in _torch_precisions()
    ]


def _asked_for(found: Sequence[Candidate], settings: BenchSettings) -> list[Candidate]:
    """The same models in ONNX Runtime, which is measured only where it is asked for.

    In FP32 and INT8: what FP16 is on a CPU, ONNX Runtime does not compute.
    """
    if "onnxruntime" not in settings.runtimes:
        return []
    return [
        replace(
            candidate, runtime="onnxruntime", precision=cast("PrecisionName", candidate.exported)
        )
        for candidate in found
        if candidate.runtime == "openvino"
    ]


def _exported_candidates(model: Path, manifest: Manifest, scales: Sequence[int]) -> list[Candidate]:
    if scales and manifest.scale not in scales:
        raise UsageError(f"{model} is for ×{manifest.scale}: change --scale.")
    return [
        Candidate("openvino", precision, manifest.scale, model,
               weights=manifest.weights, exported=manifest.precision)
        for precision in _openvino_precisions(manifest.precision)
    ]  # fmt: skip


def _shipped_candidates(scale: int) -> list[Candidate]:
    digest = file_digest(shipped_weights(scale))
    torch = _torch_precisions() if has_torch() else ()
    found = [Candidate("torch", name, scale, weights=digest) for name in torch]
    names = {name for one in shipped_precisions(scale) for name in _openvino_precisions(one)}
    for name in sorted(names, key=get_args(PrecisionName).index):
        manifest = load_artifact(model_source(RuntimeSettings("openvino", name, scale))).manifest
        found.append(
            Candidate(
                "openvino", name, scale, weights=manifest.weights, exported=manifest.precision
            )
        )
    backend, _ = best()
    if backend is not BACKENDS["openvino"]:
        for name in sorted(names, key=get_args(PrecisionName).index):
            found.append(Candidate(backend.name, name, scale, weights=digest, exported=name))
    return found


def _torch_precisions() -> tuple[PrecisionName, ...]:
    try:
        gpus = nvidia_gpus()
    except OSError:
        gpus = []
    return ("fp32", "fp16") if gpus else ("fp32",)


def _openvino_precisions(exported: str) -> tuple[PrecisionName, ...]:
    """What OpenVINO is asked to run a model in: INT8 is in the model, half precision is not."""
    if exported in {"fp32", "fp16"}:
        return ("fp32", "fp16")
    return tuple(name for name in get_args(PrecisionName) if name == exported)
