"""From an ONNX file to a plan, built or taken from the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx

from ramedge.artifacts.audit import audit_file, is_quantized
from ramedge.artifacts.graphs import FRAME, PixelType, cut, part_index, with_pixels
from ramedge.artifacts.half import is_half, to_half
from ramedge.artifacts.model_files import Precision
from ramedge.artifacts.storage import external_files, load_graph
from ramedge.errors import ExportError, RuntimeUnavailableError, UsageError, WeightsError
from ramedge.files import file_digest
from ramedge.runtimes.tensorrt.cache import EngineCache, EngineKey, Record
from ramedge.runtimes.tensorrt.cuda import NO_GPU, GpuFacts, gpu_facts
from ramedge.runtimes.tensorrt.monitor import OnProgress
from ramedge.runtimes.tensorrt.plan import BuildSettings, Plan, build_plan
from ramedge.runtimes.tensorrt.variant import Variant

GRAPH_VERSION = 2
"""Raised when `ramedge.artifacts.graphs` or `half` makes another graph of the same file."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Which engine is wanted.

    Attributes:
        model: ONNX file of the frame graph, or of the tile graph for all others.
        network, scale: of the model, for the user.
        precision: what it computes in. FP16, and FP16 around int8, are made from a file without.
        variant: which of the two libraries.
        graph: name of the engine's graph, see `ramedge.artifacts.graphs`.
        pixels: of its image and output.
        settings: shapes and effort.
        gate: what is known of the ONNX file's agreement with PyTorch.
    """

    model: Path
    network: str
    scale: int
    precision: Precision
    variant: Variant
    graph: str = FRAME
    pixels: PixelType = "uint8"
    settings: BuildSettings = field(default_factory=BuildSettings)
    gate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """A plan that may be loaded: its hash was compared.

    Attributes:
        data: the plan.
        record: what it is.
        path: where it stands.
        cached: whether it was there already.
        seconds: that getting it took.
    """

    data: bytes
    record: Record
    path: Path
    cached: bool
    seconds: float


def get_engine(
    request: EngineRequest,
    cache: EngineCache,
    rebuild: bool = False,
    on_notice: Callable[[str], None] = lambda _text: None,
    on_progress: OnProgress = lambda _share, _phase: None,
) -> Engine:
    """The engine of a request: from the cache, or built and put there.

    Of several processes that want the same, one builds.

    Raises:
        RuntimeUnavailableError: the library or the GPU is missing.
        UsageError: a workspace without a GPU.
        WeightsError: the model is damaged.
        ExportError: the audit or the builder refuses it.
        OutputError: the cache cannot be written.
        MemoryError: the device's memory does not suffice for the build.
    """
    started = time.perf_counter()
    gpu = check_buildable(request.variant, request.settings)
    key = engine_key(request, gpu)
    with cache.lock(key):
        found = None if rebuild else _from_cache(cache, key, on_notice)
        if found is not None:
            record, data = found
            seconds = time.perf_counter() - started
            return Engine(data, record, cache.plan_path(key), True, seconds)
        plan = _build(request, key, cache, on_progress)
        record = Record(
            key=key,
            sha256=sha256(plan.data).hexdigest(),
            size=len(plan.data),
            seconds=round(plan.seconds, 3),
            built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            layers=plan.layers,
            gate={"onnx": dict(request.gate), "engine": "not run yet"},
        )
        path = cache.store(record, plan.data)
    return Engine(plan.data, record, path, False, time.perf_counter() - started)


def check_buildable(variant: Variant, settings: BuildSettings) -> GpuFacts:
    """Refuse, before any work, what cannot be built here; returns the GPU, or `NO_GPU`.

    Raises:
        RuntimeUnavailableError: the library or the GPU is missing.
        UsageError: a workspace without a GPU.
    """
    gpu = gpu_facts()
    variant.load()
    if gpu == NO_GPU and not variant.builds_without_gpu:
        raise RuntimeUnavailableError(
            f"{variant.title} builds on the GPU that will run the engine, and no NVIDIA GPU is "
            "found here: see ramedge doctor."
        )
    if gpu == NO_GPU and settings.workspace is not None:
        raise UsageError(
            f"--workspace needs a GPU: without one {variant.title} builds without a limit."
        )
    return gpu


def engine_key(request: EngineRequest, gpu: GpuFacts) -> EngineKey:
    """The key of a request on a GPU, or `NO_GPU`.

    Raises:
        WeightsError: there is no such model.
    """
    digest = _model_digest(request.model)
    settings = request.settings
    sizes = (settings.shapes.smallest, settings.shapes.best, settings.shapes.largest)
    low, middle, high = (f"{height}x{width}" for height, width in sizes)
    return EngineKey(
        network=request.network,
        scale=request.scale,
        onnx=digest,
        graph=request.graph,
        values=request.pixels,
        precision=request.precision,
        shapes=(low, middle, high),
        variant=request.variant.name,
        version=request.variant.version(),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        options={
            "graph version": GRAPH_VERSION,
            "opt level": settings.opt_level if settings.opt_level is not None else "default",
            "workspace MiB": settings.workspace if settings.workspace is not None else "all",
        },
    )


def _model_digest(model: Path) -> str:
    """SHA-256 of an ONNX file; with weights beside it, of the hashes of all its files."""
    try:
        digests = [file_digest(file) for file in (model, *external_files(model))]
    except OSError as error:
        raise WeightsError(f"Cannot read {error.filename}: {error.strerror}.") from None
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def _from_cache(
    cache: EngineCache, key: EngineKey, on_notice: Callable[[str], None]
) -> tuple[Record, bytes] | None:
    record = cache.record(key)
    if record is not None:
        try:
            return record, cache.load(record)
        except WeightsError as refused:
            on_notice(f"{refused} Building it again.")
            return None
    near = cache.nearest(key)
    if near is not None and near.key != key:
        changed = "; ".join(key.differences(near.key))
        on_notice(f"The engine in the cache is for something else ({changed}): building another.")
    return None


def _build(
    request: EngineRequest, key: EngineKey, cache: EngineCache, on_progress: OnProgress
) -> Plan:
    on_progress(0.0, "reading the model")
    model = load_graph(request.model)
    quantized = is_quantized(model)
    if request.precision == "int8" and not quantized:
        raise ExportError(f"{request.model} is not an int8 model: it has no QuantizeLinear.")
    if quantized:
        audit_file(request.model)
        if request.precision != "int8":
            raise ExportError(f"{request.model} is an int8 model: use --precision int8.")
    if request.precision != "fp32" and not is_half(model):
        model = to_half(model)
    graph: onnx.ModelProto = with_pixels(cut(model, request.graph), request.pixels)
    learns = not request.variant.builds_without_gpu  # RTX has no timings to remember
    owner = key.variant, key.version, f"{key.gpu} {key.compute_capability}"
    before = cache.timing_cache(*owner) if learns else None
    plan = build_plan(
        graph.SerializeToString(), request.settings, request.variant, before, on_progress
    )
    _check_layers(plan, request)
    if plan.timing_cache:
        cache.store_timing_cache(*owner, plan.timing_cache)
    return plan


def _check_layers(plan: Plan, request: EngineRequest) -> None:
    """Compare what the network holds with what was asked for."""
    if request.precision == "int8" and part_index(request.graph) is not None:
        return  # a part may be one of those that stay in high precision
    has = {
        "fp32": not any(name.endswith((" HALF", " BF16", " INT8")) for name in plan.layers),
        "fp16": "CONVOLUTION HALF" in plan.layers,
        "int8": "QUANTIZE INT8" in plan.layers,
    }[request.precision]
    if not has:
        kinds = ("CONVOLUTION", "QUANTIZE")
        found = ", ".join(
            f"{n} {name}" for name, n in plan.layers.items() if name.startswith(kinds)
        )
        raise ExportError(
            f"{request.model} does not hold a network in {request.precision}: {found}."
        )
