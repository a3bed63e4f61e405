"""From what the user asked for to an open runtime, and why that one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ramedge.artifacts.artifact import MANIFEST_NAME, Artifact, is_artifact, load_artifact
from ramedge.artifacts.model_files import ModelFiles, Precision
from ramedge.errors import MissingExtraError, UsageError
from ramedge.network.config import SUPPORTED_SCALES
from ramedge.network.header import read_header
from ramedge.runtimes.backend import OpenOptions, PrecisionName, RuntimeName, WeightsFile
from ramedge.runtimes.registry import BACKENDS, choose
from ramedge.runtimes.runtime import Runtime
from ramedge.system import has_torch
from ramedge.tiling.halos import Halos, load_halos
from ramedge.weights import shipped_artifact, shipped_weights

DEFAULT_SCALE = 2


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
        device: by the backend's name for it; `auto` chooses.
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
    if (source.parent / MANIFEST_NAME).is_file():
        raise UsageError(
            f"{source} is a part of a model: name its folder, --model {source.parent}."
        )
    if settings.runtime != "auto" and BACKENDS[settings.runtime].takes == "graphs":
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
    if settings.runtime != "auto" and BACKENDS[settings.runtime].takes == "weights":
        return shipped_weights(scale)
    if settings.precision == "int8":
        return shipped_artifact(scale, "int8")
    return shipped_artifact(scale, "fp32")


def _open_artifact(artifact: Artifact, settings: RuntimeSettings) -> OpenedModel:
    if settings.runtime != "auto" and BACKENDS[settings.runtime].takes == "weights":
        raise UsageError(
            f"PyTorch runs weights (.safetensors), not exported models such as {artifact.source}: "
            "leave --runtime out, or name another."
        )
    manifest = artifact.manifest
    _check_scale(settings, (manifest.scale,), artifact.source)
    _check_precision(artifact, settings)
    backend, reason = choose(settings.runtime, settings.device)
    if not artifact.is_onnx and not backend.reads_ir:
        if settings.runtime != "auto":
            raise UsageError(
                f"{artifact.source} is for {manifest.runtime}, which {backend.title} does not "
                "read: ramedge export --runtime onnx."
            )
        backend, reason = BACKENDS["openvino"], f"it is for {manifest.runtime}"
    options = OpenOptions(settings.precision, settings.device, shipped=settings.model is None)
    runtime = backend.open(model_files(artifact), options)
    if settings.runtime == "auto" and backend.name == "openvino" and artifact.is_onnx:
        reason = f"the best here ({reason})"
    return OpenedModel(
        runtime=runtime,
        network=manifest.network,
        weights=manifest.weights,
        halos=load_halos(
            manifest.weights, manifest.scale, manifest.receptive_field, runtime.precision
        ),
        reason=_describe(runtime, reason),
    )


def model_files(artifact: Artifact) -> ModelFiles:
    """An artifact's files; with those of an FP32 model of the same weights, for 16-bit pixels."""
    manifest = artifact.manifest
    return ModelFiles(
        scale=manifest.scale,
        frame=artifact.model,
        precision=cast("Precision", manifest.precision),
        tile=artifact.tile,
        excitation=artifact.excitation,
        fp32=_fp32_beside(artifact),
        cut={name: artifact.folder / file for name, file in manifest.cut.items()},
        network=manifest.network,
        gate=dict(manifest.gate),
        named=artifact.source,
    )


def _fp32_beside(artifact: Artifact) -> ModelFiles | None:
    """The shipped FP32 model, where an artifact in another precision has its weights."""
    if artifact.manifest.precision == "fp32":
        return None
    try:
        fp32 = load_artifact(shipped_artifact(artifact.manifest.scale, "fp32"))
    except UsageError:
        return None
    return model_files(fp32) if fp32.manifest.weights == artifact.manifest.weights else None


def _check_precision(artifact: Artifact, settings: RuntimeSettings) -> None:
    """INT8 is in the model itself, the others are the backend's."""
    is_int8, wants_int8 = artifact.manifest.precision == "int8", settings.precision == "int8"
    if wants_int8 and not is_int8:
        raise UsageError(
            f"{artifact.source} is an {artifact.manifest.precision} model. Make an INT8 one with: "
            f"{_int8_command(artifact)}"
        )
    if is_int8 and settings.precision not in {"auto", "int8"}:
        raise UsageError(f"{artifact.source} is an INT8 model: leave --precision out.")


def _int8_command(artifact: Artifact) -> str:
    scale = artifact.manifest.scale
    shipped = shipped_artifact(scale, "fp32")
    if load_artifact(shipped).manifest.weights == artifact.manifest.weights:
        return f"ramedge export --precision int8 --scale {scale}"
    return f"ramedge export --precision int8 --scale {scale} --weights FILE --calibration PHOTOS"


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

    loaded = load_weights(path)
    scale = settings.scale
    if scale is None:
        scales = loaded.config.scales
        scale = DEFAULT_SCALE if DEFAULT_SCALE in scales else scales[0]
    _check_scale(settings, loaded.config.scales, path)
    options = OpenOptions(settings.precision, settings.device)
    runtime = BACKENDS["torch"].open(WeightsFile(path, scale), options)
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
