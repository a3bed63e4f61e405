"""From what the user asked for to an open runtime, and why that one."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ramedge.errors import MissingExtraError, UsageError
from ramedge.export.artifact import Artifact, load_artifact
from ramedge.network.config import SUPPORTED_SCALES
from ramedge.runtimes.base import Runtime
from ramedge.runtimes.openvino import OpenVinoRuntime, TileModel
from ramedge.weights import shipped_artifact, shipped_weights

RuntimeName = Literal["auto", "torch", "openvino"]
PrecisionName = Literal["auto", "fp32", "fp16"]
DEFAULT_SCALE = 2


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Which network to run, and how.

    Attributes:
        runtime: `auto` takes OpenVINO for models, PyTorch for weights files.
        precision: `fp16` is half precision where the device computes in it (bfloat16 counts),
            `auto` the fastest that the runtime offers within the gate.
        scale: `None` takes the model's own, ×2 for the shipped one.
        model: an exported folder, or a safetensors file of weights; `None` is the shipped model.
        device: in the runtime's words; `auto` chooses.
    """

    runtime: RuntimeName = "auto"
    precision: PrecisionName = "auto"
    scale: int | None = None
    model: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale not in SUPPORTED_SCALES:
            raise UsageError(f"Scale {self.scale} is not supported: choose among 2, 3 and 4.")


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A runtime, and what is known of the network in it.

    Attributes:
        network: its short name, for example `srram_r10c64`.
        receptive_field: radius in low-resolution pixels.
        reason: one line: what runs, where, and why.
    """

    runtime: Runtime
    network: str
    receptive_field: int
    reason: str


def open_model(settings: RuntimeSettings) -> OpenedModel:
    """Open what the settings describe.

    Raises:
        UsageError: the settings contradict one another or the model.
        WeightsError: the model cannot be loaded.
        MissingExtraError: PyTorch was asked for and is not installed.
        RuntimeUnavailableError: the runtime or the device is not there.
    """
    if settings.model is None:
        return _open_shipped(settings)
    if settings.model.is_dir():
        return _open_artifact(load_artifact(settings.model), settings)
    if not settings.model.exists():
        raise UsageError(f"No such model: {settings.model}.")
    if settings.runtime == "openvino":
        raise UsageError(
            f"OpenVINO runs exported models, not weights: ramedge export --weights "
            f"{settings.model} -o DIR, then --model DIR."
        )
    return _open_weights(settings.model, settings)


def _open_shipped(settings: RuntimeSettings) -> OpenedModel:
    scale = DEFAULT_SCALE if settings.scale is None else settings.scale
    if settings.runtime == "torch":
        return _open_weights(shipped_weights(scale), settings)
    artifact = load_artifact(shipped_artifact(scale, "fp32"))
    return _open_artifact(artifact, settings)


def _open_artifact(artifact: Artifact, settings: RuntimeSettings) -> OpenedModel:
    manifest = artifact.manifest
    if settings.runtime == "torch":
        raise UsageError("PyTorch runs weights (.safetensors), not exported models.")
    _check_scale(settings, (manifest.scale,), artifact.folder)
    tiles = None
    if artifact.has_tiles:
        tiles = TileModel(artifact.folder / manifest.tile, artifact.folder / manifest.excitation)
    runtime = OpenVinoRuntime(
        artifact.model, manifest.scale, settings.precision, settings.device, tiles
    )
    chosen = "asked for" if settings.runtime == "openvino" else "the default for exported models"
    return OpenedModel(
        runtime=runtime,
        network=manifest.network,
        receptive_field=manifest.receptive_field,
        reason=_describe(runtime, chosen),
    )


def _open_weights(path: Path, settings: RuntimeSettings) -> OpenedModel:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "export", "Running weights in PyTorch")
    from ramedge.network.weights import load_weights
    from ramedge.runtimes.torch import TorchRuntime

    loaded = load_weights(path)
    scale = settings.scale
    if scale is None:
        scales = loaded.config.scales
        scale = DEFAULT_SCALE if DEFAULT_SCALE in scales else scales[0]
    _check_scale(settings, loaded.config.scales, path)
    runtime = TorchRuntime(loaded.network.take(scale), settings.precision, settings.device)
    chosen = "asked for" if settings.runtime == "torch" else "the model is a weights file"
    return OpenedModel(
        runtime=runtime,
        network=loaded.config.name,
        receptive_field=loaded.config.receptive_field(scale),
        reason=_describe(runtime, chosen),
    )


def _check_scale(settings: RuntimeSettings, scales: tuple[int, ...], source: Path) -> None:
    if settings.scale is not None and settings.scale not in scales:
        have = ", ".join(f"×{scale}" for scale in scales)
        raise UsageError(f"{source} is for {have}, not for ×{settings.scale}.")


def _describe(runtime: Runtime, why: str) -> str:
    return f"×{runtime.scale} on {runtime.name} ({runtime.device}, {runtime.precision}): {why}"
