"""`ramedge export --runtime tensorrt` and `tensorrt-rtx`: engines in the user's cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ramedge.cli import console
from ramedge.errors import MissingExtraError, RuntimeUnavailableError, UsageError
from ramedge.export.artifact import Artifact, load_artifact
from ramedge.export.engine import Engine, EnginePrecision, EngineRequest, get_engine
from ramedge.export.engine_gate import check_engine
from ramedge.export.engines import EngineCache
from ramedge.export.tensorrt import BuildSettings, Shapes
from ramedge.runtimes.cuda import open_cuda
from ramedge.runtimes.flavour import FLAVOURS, FlavourName
from ramedge.weights import shipped_artifact


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the command line says of an engine; `None` where it says nothing."""

    runtime: FlavourName
    precision: EnginePrecision
    scale: int
    weights: Path | None
    output: Path | None
    overwrite: bool
    min_shape: str | None
    opt_shape: str | None
    max_shape: str | None
    opt_level: int | None
    workspace: int | None
    rebuild: bool


@dataclass(frozen=True, slots=True)
class _Source:
    model: Path
    network: str
    scale: int
    precision: EnginePrecision
    gate: Mapping[str, Any] = field(default_factory=dict)


def export_engine(options: EngineOptions) -> None:
    """Build an engine, or find it in the cache, and say what it is.

    Raises:
        RamedgeError: see `ramedge.export.engine.get_engine` and `export_model`.
    """
    flavour = FLAVOURS[options.runtime]
    settings = BuildSettings(_shapes(options), options.opt_level, options.workspace)
    flavour.load()
    source = _source(options)
    cache = EngineCache()
    request = EngineRequest(
        source.model, source.network, source.scale, source.precision, flavour,
        settings=settings, gate=source.gate,
    )  # fmt: skip
    with console.progress_bar() as bar:
        task = bar.add_task("Building", total=100, info="")

        def show(share: float, phase: str) -> None:
            bar.update(task, completed=round(100 * share), info=phase[:40])

        try:
            engine = get_engine(request, cache, options.rebuild, console.notice, show)
        except MemoryError as error:
            raise RuntimeUnavailableError(str(error)) from None
    _report(engine)
    _gate(engine, source.model, cache)


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
        f"{key.network} ×{key.scale} {key.precision} for {key.flavour} {key.version}, "
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


def _source(options: EngineOptions) -> _Source:
    path = options.weights
    if options.output is not None and (path is None or path.suffix.lower() != ".safetensors"):
        raise UsageError("Engines are kept in the user's cache: leave -o out.")
    if path is None:
        folder = shipped_artifact(options.scale, options.precision)
        return _of_artifact(load_artifact(folder), options)
    if path.is_dir():
        return _of_artifact(load_artifact(path), options)
    if path.suffix.lower() == ".onnx":
        return _Source(path, path.stem, options.scale, options.precision)
    return _of_artifact(_export(path, options), options)


def _of_artifact(artifact: Artifact, options: EngineOptions) -> _Source:
    manifest = artifact.manifest
    if manifest.runtime != "onnx":
        raise UsageError(
            f"{artifact.folder} is for {manifest.runtime}: export it with --runtime onnx first."
        )
    if manifest.precision != options.precision or manifest.scale != options.scale:
        raise UsageError(
            f"{artifact.folder} is ×{manifest.scale} in {manifest.precision}: use --scale "
            f"{manifest.scale} --precision {manifest.precision}."
        )
    return _Source(
        artifact.gpu_model, manifest.network, manifest.scale, options.precision, manifest.gate
    )


def _export(weights: Path, options: EngineOptions) -> Artifact:
    """Weights become an ONNX artifact first, which the engine is built from."""
    if options.precision == "int8":
        raise UsageError(
            "Engines in int8 are built from an exported int8 model: name its folder or .onnx file "
            "with --weights."
        )
    try:
        from ramedge.export.model import ExportSettings, export_model
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "torch", "export", "Export of weights") from None
    settings = ExportSettings(
        output=options.output,
        scale=options.scale,
        precision=options.precision,
        runtime="onnx",
        weights=weights,
        strict=True,
        overwrite=options.overwrite,
    )
    with console.stderr.status("Exporting and checking against PyTorch"):
        artifact = export_model(settings, console.notice)
    console.stdout.print(f"Model: {artifact.folder}", markup=False)
    return artifact


def _shapes(options: EngineOptions) -> Shapes:
    """Bounds that are not given follow those that are."""
    default = Shapes()
    largest = _size("--max-shape", options.max_shape) or default.largest
    best = _size("--opt-shape", options.opt_shape)
    smallest = _size("--min-shape", options.min_shape)
    if options.max_shape is None and best is not None:
        largest = max(largest[0], best[0]), max(largest[1], best[1])
    if best is None:
        best = min(default.best[0], largest[0]), min(default.best[1], largest[1])
        if smallest is not None:
            best = max(best[0], smallest[0]), max(best[1], smallest[1])
    return Shapes(smallest or default.smallest, best, largest)


def _size(option: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r}: write height x width, for example 720x1280.")
    return int(match[1]), int(match[2])
