"""From what the user asked for to an open runtime, and why that one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from ramedge.artifacts.artifact import Artifact, is_artifact, load_artifact
from ramedge.errors import MissingExtraError, RuntimeUnavailableError, UsageError
from ramedge.network.config import SUPPORTED_SCALES
from ramedge.network.header import read_header
from ramedge.runtimes.base import Runtime
from ramedge.runtimes.openvino.runtime import OpenVinoRuntime, TileModel
from ramedge.runtimes.tensorrt.flavour import FLAVOURS, RTX, TENSORRT, Flavour
from ramedge.system import has_torch
from ramedge.tiling.halos import Halos, load_halos
from ramedge.weights import shipped_artifact, shipped_weights

if TYPE_CHECKING:
    from ramedge.runtimes.tensorrt.build import EnginePrecision

RuntimeName = Literal["auto", "torch", "openvino", "tensorrt", "tensorrt-rtx"]
PrecisionName = Literal["auto", "fp32", "fp16", "int8"]
DEFAULT_SCALE = 2
_CUDA = frozenset({"CUDA", "CUDA:0"})
_LOG = logging.getLogger("ramedge")


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Which network to run, and how.

    Attributes:
        runtime: `auto` takes TensorRT or TensorRT-RTX for models where it is installed and finds
            a GPU, otherwise OpenVINO; PyTorch for weights files.
        precision: `fp16` is half precision where the device computes in it (bfloat16 counts),
            `auto` the fastest of both; `int8` takes the shipped INT8 model.
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
        weights: SHA-256 of the weights it was made from.
        halos: what tiles of it need around them.
        reason: one line: what runs, where, and why.
    """

    runtime: Runtime
    network: str
    weights: str
    halos: Halos
    reason: str


def open_model(settings: RuntimeSettings) -> OpenedModel:
    """Open what the settings describe.

    Raises:
        UsageError: the settings contradict one another or the model.
        WeightsError: the model cannot be loaded.
        MissingExtraError: PyTorch was asked for and is not installed.
        RuntimeUnavailableError: the runtime or the device is not there.
    """
    source = model_source(settings)
    if is_artifact(source):
        return _open_artifact(load_artifact(source), settings)
    if not source.exists():
        raise UsageError(f"No such model: {source}.")
    if settings.runtime not in {"auto", "torch"}:
        raise UsageError(
            f"{settings.runtime} runs exported models, not weights: ramedge export --weights "
            f"{source} -o DIR, then --model DIR."
        )
    return _open_weights(source, settings)


def model_source(settings: RuntimeSettings) -> Path:
    """The artifact or the weights file that the settings mean, be it named or shipped.

    Raises:
        UsageError: none is shipped for this scale.
    """
    if settings.model is not None:
        return settings.model
    scale = DEFAULT_SCALE if settings.scale is None else settings.scale
    if settings.runtime == "torch":
        return shipped_weights(scale)
    if settings.precision == "int8":
        return shipped_artifact(scale, "int8")
    return shipped_artifact(scale, "fp32")


def _open_artifact(artifact: Artifact, settings: RuntimeSettings) -> OpenedModel:
    if settings.runtime == "torch":
        raise UsageError("PyTorch runs weights (.safetensors), not exported models.")
    _check_scale(settings, (artifact.manifest.scale,), artifact.source)
    precision = _precision_of(artifact, settings)
    flavour, reason = _engine_flavour(settings)
    if flavour is None:
        because = f"the best here ({reason})" if settings.runtime == "auto" else reason
        return _open_openvino(artifact, precision, settings.device, because)
    if not artifact.is_onnx:
        if settings.runtime == "auto":
            reason = f"it is for {artifact.manifest.runtime}"
            return _open_openvino(artifact, precision, settings.device, reason)
        raise UsageError(
            f"{artifact.source} is for {artifact.manifest.runtime}: engines are built from ONNX, "
            "ramedge export --runtime onnx."
        )
    return _open_engines(artifact, settings, flavour, reason)


def _precision_of(artifact: Artifact, settings: RuntimeSettings) -> str:
    """What to run an artifact in: INT8 is in the model itself, the others are the runtime's."""
    is_int8, wants_int8 = artifact.manifest.precision == "int8", settings.precision == "int8"
    if wants_int8 and not is_int8:
        raise UsageError(
            f"{artifact.source} is an {artifact.manifest.precision} model. Make an INT8 one with: "
            f"{_int8_command(artifact)}"
        )
    if is_int8 and settings.precision not in {"auto", "int8"}:
        raise UsageError(f"{artifact.source} is an INT8 model: leave --precision out.")
    return artifact.manifest.precision if is_int8 else settings.precision


def _int8_command(artifact: Artifact) -> str:
    scale = artifact.manifest.scale
    shipped = shipped_artifact(scale, "fp32")
    if load_artifact(shipped).manifest.weights == artifact.manifest.weights:
        return f"ramedge export --precision int8 --scale {scale}"
    return f"ramedge export --precision int8 --scale {scale} --weights FILE --calibration PHOTOS"


def _engine_flavour(settings: RuntimeSettings) -> tuple[Flavour | None, str]:
    """Which of TensorRT and TensorRT-RTX runs the model, if any, and why.

    Raises:
        UsageError: the runtime that was asked for does not run on the device.
        RuntimeUnavailableError: nothing here runs on the GPU that was asked for.
    """
    on_gpu = settings.device.upper() in _CUDA
    if settings.runtime in FLAVOURS:
        chosen = FLAVOURS[settings.runtime]
        if not on_gpu and settings.device != "auto":
            raise UsageError(
                f"{chosen.title} runs on an NVIDIA GPU, not on {settings.device}: leave --device "
                "out, or use --runtime openvino."
            )
        return chosen, "asked for"
    if settings.runtime == "openvino":
        if on_gpu:
            raise UsageError(
                f"OpenVINO does not run on {settings.device}: leave --device out, or use --runtime "
                "tensorrt or torch."
            )
        return None, "asked for"
    if not on_gpu and settings.device != "auto":
        return None, f"the device {settings.device} was asked for"
    best, reason = best_flavour()
    if on_gpu and best is None:
        raise RuntimeUnavailableError(
            f"No TensorRT for --device {settings.device}: {reason}. Leave --device out for the "
            "CPU, or use --runtime torch."
        )
    return best, reason


def best_flavour() -> tuple[Flavour | None, str]:
    """The flavour that is installed and finds a GPU, or why there is none."""
    installed = [flavour for flavour in (TENSORRT, RTX) if flavour.installed()]
    if not installed:
        return None, "TensorRT is not installed"
    from ramedge.runtimes.tensorrt.cuda import NO_GPU, gpu_facts

    if gpu_facts() == NO_GPU:
        return None, f"{installed[0].title} is installed, but no NVIDIA GPU can be used"
    try:
        installed[0].load()
    except RuntimeUnavailableError as broken:
        return None, str(broken).rstrip(".")
    return installed[0], "there is an NVIDIA GPU"


def _open_openvino(artifact: Artifact, precision: str, device: str, reason: str) -> OpenedModel:
    manifest = artifact.manifest
    tiles = None
    if artifact.tile is not None and artifact.excitation is not None:
        tiles = TileModel(artifact.tile, artifact.excitation)
    runtime = OpenVinoRuntime(artifact.model, manifest.scale, precision, device, tiles)
    return OpenedModel(
        runtime=runtime,
        network=manifest.network,
        weights=manifest.weights,
        halos=load_halos(
            manifest.weights, manifest.scale, manifest.receptive_field, runtime.precision
        ),
        reason=_describe(runtime, reason),
    )


def _open_engines(
    artifact: Artifact, settings: RuntimeSettings, flavour: Flavour, reason: str
) -> OpenedModel:
    from ramedge.runtimes.tensorrt.cache import EngineCache
    from ramedge.runtimes.tensorrt.runtime import EngineModels, EngineSource, TensorRtRuntime

    manifest = artifact.manifest
    precision = engine_precision(artifact, settings.precision, shipped=settings.model is None)
    wide = _fp32_beside(artifact, precision)
    models = EngineModels(
        network=manifest.network,
        scale=manifest.scale,
        precision=precision,
        frame=artifact.model,
        tile=artifact.tile,
        excitation=artifact.excitation,
        frame_fp32=None if wide is None else wide.model,
        tile_fp32=None if wide is None else wide.tile,
        gate=dict(manifest.gate),
    )
    flavour.load()
    source = EngineSource(EngineCache(), on_notice=_LOG.warning, on_progress=_tell_of_build)
    runtime = TensorRtRuntime(models, flavour, source)
    return OpenedModel(
        runtime=runtime,
        network=manifest.network,
        weights=manifest.weights,
        halos=load_halos(
            manifest.weights, manifest.scale, manifest.receptive_field, runtime.precision
        ),
        reason=_describe(runtime, reason),
    )


def engine_precision(artifact: Artifact, wanted: str, shipped: bool = False) -> EnginePrecision:
    """What an engine of an artifact computes in.

    FP16 is made from an FP32 model too. `auto` is the model's own precision; of the shipped model,
    FP16.

    Raises:
        UsageError: the model is in another precision.
    """
    own = artifact.manifest.precision
    if wanted == "auto":
        wanted = "fp16" if shipped and own == "fp32" else own
    if wanted != own and (own, wanted) != ("fp32", "fp16"):
        can = "fp32 and fp16" if own == "fp32" else own
        raise UsageError(f"{artifact.source} is in {own}: engines of it compute in {can}.")
    return cast("EnginePrecision", wanted)


def _fp32_beside(artifact: Artifact, precision: str) -> Artifact | None:
    """An FP32 model of the same weights, for 16-bit pixels: itself, or the shipped one."""
    if precision == "fp32":
        return None
    if artifact.manifest.precision == "fp32":
        return artifact
    try:
        wide = load_artifact(shipped_artifact(artifact.manifest.scale, "fp32"))
    except UsageError:
        return None
    return wide if wide.manifest.weights == artifact.manifest.weights else None


def _tell_of_build(share: float, _phase: str) -> None:
    if share == 0.0:
        _LOG.warning("Building an engine for this GPU, once; it is kept for the next time.")


def _open_weights(path: Path, settings: RuntimeSettings) -> OpenedModel:
    if settings.precision == "int8":
        raise UsageError(
            f"PyTorch runs {path} and has no INT8: export it first with ramedge export --precision "
            f"int8 --weights {path} --calibration DIR, then name the folder with --model."
        )
    read_header(path)  # what is no weights file needs no torch to be told so
    if not has_torch():
        raise MissingExtraError("torch", "export", "Running weights in PyTorch")
    from ramedge.network.weights import load_weights
    from ramedge.runtimes.torch.runtime import TorchRuntime

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
        weights=loaded.digest,
        halos=load_halos(
            loaded.digest, scale, loaded.config.receptive_field(scale), runtime.precision
        ),
        reason=_describe(runtime, chosen),
    )


def _check_scale(settings: RuntimeSettings, scales: tuple[int, ...], source: Path) -> None:
    if settings.scale is not None and settings.scale not in scales:
        have = ", ".join(f"×{scale}" for scale in scales)
        raise UsageError(f"{source} is for {have}, not for ×{settings.scale}.")


def _describe(runtime: Runtime, why: str) -> str:
    return f"×{runtime.scale} on {runtime.name} ({runtime.device}, {runtime.precision}): {why}"
