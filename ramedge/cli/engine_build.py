"""Building an engine from an exported model into the user's cache."""

from __future__ import annotations

from pathlib import Path

from ramedge.artifacts.artifact import is_artifact, load_artifact
from ramedge.cli import console
from ramedge.cli.engine_options import ShapeOptions
from ramedge.errors import RuntimeUnavailableError, UsageError
from ramedge.export.engine_gate import check_engine
from ramedge.runtimes.backend import PrecisionName, in_precision
from ramedge.runtimes.tensorrt.build import Engine, EngineRequest, check_buildable, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import open_cuda
from ramedge.runtimes.tensorrt.plan import BuildSettings
from ramedge.runtimes.tensorrt.variant import VARIANTS, Variant, VariantName
from ramedge.upscaling.open_model import model_files


def check_engine_options(runtime: VariantName, options: ShapeOptions) -> None:
    """Refuse, before any work, an engine that cannot be built here.

    Raises:
        UsageError: an option has an impossible value.
        RuntimeUnavailableError: the library or the GPU is missing.
    """
    check_buildable(VARIANTS[runtime], options.settings())


def check_model(model: Path) -> None:
    """Refuse a model that no engine can be built from.

    Raises:
        UsageError: it is no exported model and no ONNX file, or for OpenVINO.
        WeightsError: it is damaged.
    """
    if model.suffix.lower() == ".onnx" and model.is_file():
        return
    if not is_artifact(model):
        raise UsageError(
            f"{model} is no exported model: give a folder made by ramedge export, or an .onnx file."
        )
    artifact = load_artifact(model)
    if not artifact.is_onnx:
        raise UsageError(
            f"{model} is for {artifact.manifest.runtime}: engines are built from ONNX, so export "
            "it with --runtime onnx."
        )


def build_engine(
    model: Path,
    runtime: VariantName,
    precision: PrecisionName,
    options: ShapeOptions,
    scale: int = 2,
    rebuild: bool = False,
) -> None:
    """Build an engine or take it from the cache, check it on the GPU, and describe it.

    Args:
        model: an artifact with ONNX graphs, or an ONNX file.
        runtime: which of the two libraries.
        precision: `auto` is the artifact's own, FP16 for an ONNX file.
        options: shapes and effort.
        scale: of an ONNX file.
        rebuild: whatever the cache holds.

    Raises:
        RamedgeError: see `ramedge.runtimes.tensorrt.build.get_engine`.
    """
    settings = options.settings()
    variant = VARIANTS[runtime]
    cache = EngineCache()
    request = _request(model, precision, scale, settings, variant)
    with console.progress_bar() as bar:
        task = bar.add_task("Building", total=100, info="")

        def show(share: float, phase: str) -> None:
            bar.update(task, completed=round(100 * share), info=phase[:40])

        try:
            engine = get_engine(request, cache, rebuild, console.notice, show)
        except MemoryError as error:
            raise RuntimeUnavailableError(str(error)) from None
    _report(engine)
    _gate(engine, request.model, cache)


def _request(
    model: Path, precision: PrecisionName, scale: int, settings: BuildSettings, variant: Variant
) -> EngineRequest:
    if model.suffix.lower() == ".onnx":
        chosen = "fp16" if precision == "auto" else precision
        return EngineRequest(model, model.stem, scale, chosen, variant, settings=settings)
    check_model(model)
    artifact = load_artifact(model)
    manifest = artifact.manifest
    return EngineRequest(
        model=artifact.model,
        network=manifest.network,
        scale=manifest.scale,
        precision=in_precision(model_files(artifact), precision).precision,
        variant=variant,
        settings=settings,
        gate=manifest.gate,
    )


def _gate(engine: Engine, model: Path, cache: EngineCache) -> None:
    if engine.record.key.gpu == "none":
        console.notice(
            "Built without a GPU: the ONNX file passed the gate, the engine itself has not run."
        )
        return
    if isinstance(engine.record.gate.get("engine"), str):
        cuda = open_cuda()
        record = check_engine(engine, model, cache, cuda)
        cuda.close()
        found = record.gate["engine"]
        console.stdout.print(f"Agrees with its ONNX file to {found['psnr']:.1f} dB in 8 bits")


def _report(engine: Engine) -> None:
    key, record = engine.record.key, engine.record
    how = (
        f"from the cache in {engine.seconds:.2f} s"
        if engine.cached
        else f"built in {record.seconds:.1f} s"
    )
    where = "without a GPU" if key.gpu == "none" else f"for {key.gpu} ({key.compute_capability})"
    console.stdout.print(
        f"{key.network} ×{key.scale} {key.precision} for {key.variant} {key.version}, "
        f"{'/'.join(key.shapes)}, {where}: {how}, {record.size / 1e6:.1f} MB"
    )
    convolutions = {
        name.split()[1]: count
        for name, count in record.layers.items()
        if name.startswith("CONVOLUTION ")
    }
    counted = ", ".join(f"{count} give {kind}" for kind, count in convolutions.items())
    quantized = record.layers.get("QUANTIZE INT8", 0)
    more = f", {quantized} of their inputs are quantized to INT8" if quantized else ""
    console.stdout.print(f"Convolutions: {counted}{more}")
    console.stdout.print(f"Engine: {engine.path} (SHA-256 {record.sha256[:16]}…)", markup=False)
