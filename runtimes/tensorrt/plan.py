"""ONNX → TensorRT or TensorRT-RTX plan.

One path from TensorRT 10.3 to 11.4 and TensorRT-RTX: the network is strongly typed, so the
precision is that of the ONNX file and no builder flag changes it.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramedge.errors import ExportError, UsageError
from ramedge.runtimes.tensorrt.log import make_logger
from ramedge.runtimes.tensorrt.monitor import OnProgress, make_monitor
from ramedge.runtimes.tensorrt.variant import Variant

if TYPE_CHECKING:
    import tensorrt as rt

MIB = 2**20
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Shapes:
    """Height and width in source pixels that an engine takes: smallest, best and largest.

    Raises:
        UsageError: they are not in this order.
    """

    smallest: tuple[int, int] = (1, 1)
    best: tuple[int, int] = (360, 640)
    largest: tuple[int, int] = (1080, 1920)

    def __post_init__(self) -> None:
        for low, middle, high in zip(self.smallest, self.best, self.largest, strict=True):
            if not 1 <= low <= middle <= high:
                raise UsageError(
                    f"Shapes must grow: --min-shape {_text(self.smallest)}, --opt-shape "
                    f"{_text(self.best)}, --max-shape {_text(self.largest)}."
                )

    def hold(self, height: int, width: int) -> bool:
        """Whether an engine of these shapes takes a frame of this size."""
        low, high = self.smallest, self.largest
        return low[0] <= height <= high[0] and low[1] <= width <= high[1]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How a plan is built.

    Attributes:
        shapes: of the frames.
        opt_level: 0 to 5, how long the builder searches; `None` is its default.
        workspace: memory in MiB that a layer may use; `None` is all there is.

    Raises:
        UsageError: a number out of range.
    """

    shapes: Shapes = Shapes()
    opt_level: int | None = None
    workspace: int | None = None

    def __post_init__(self) -> None:
        if self.opt_level is not None and not 0 <= self.opt_level <= 5:
            raise UsageError("--opt-level takes 0 to 5.")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError("--workspace takes a number of MiB, at least 1.")


@dataclass(frozen=True, slots=True)
class Plan:
    """A built plan.

    Attributes:
        data: the serialized engine.
        layers: how many layers of which kind give which type, read back from the network:
            `{"CONVOLUTION HALF": 34, …}`.
        timing_cache: what to give to the next build; empty where there is none.
        seconds: the build took.
    """

    data: bytes
    layers: Mapping[str, int]
    timing_cache: bytes
    seconds: float


def build_plan(
    model: bytes,
    settings: BuildSettings,
    variant: Variant,
    timing_cache: bytes | None = None,
    on_progress: OnProgress = lambda _share, _phase: None,
) -> Plan:
    """Build a plan from a serialized ONNX model.

    Ctrl-C asks the builder to stop, waits until it has, and goes on as `KeyboardInterrupt`.

    Args:
        model: as `ramedge.runtimes.tensorrt.graphs.make_graph` makes it.
        settings: shapes and effort.
        variant: which of the two libraries.
        timing_cache: of a build before, checked by its hash; `None` where none shall be used.
        on_progress: called from another thread.

    Raises:
        RuntimeUnavailableError: the library is not installed.
        ExportError: it refuses the model, or the build fails.
        MemoryError: the device's memory does not suffice.
    """
    trt = variant.load()
    build = _Build(trt, variant, settings, timing_cache, on_progress)
    return build.run(model)


class _Build:
    def __init__(
        self,
        trt: Any,
        variant: Variant,
        settings: BuildSettings,
        timing_cache: bytes | None,
        on_progress: OnProgress,
    ) -> None:
        self._trt = trt
        self._variant = variant
        self._settings = settings
        self._timing_cache = timing_cache
        self._on_progress = on_progress
        self._log = make_logger(trt)
        self._cancel = threading.Event()
        self._monitor = make_monitor(trt, self._cancel, on_progress)

    def run(self, model: bytes) -> Plan:
        trt = self._trt
        builder: rt.Builder = trt.Builder(self._log)
        if builder is None:
            raise ExportError(f"{self._variant.title} cannot build here: {self._log.reason()}")
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network: rt.INetworkDefinition = builder.create_network(flags)
        parser: rt.OnnxParser = trt.OnnxParser(network, self._log)
        if not parser.parse(model):
            raise ExportError(f"{self._variant.title} refuses the model: {_first(parser)}")
        config: rt.IBuilderConfig = builder.create_builder_config()
        config.add_optimization_profile(self._profile(builder, network))
        # FP32 means FP32: the default would round the factors of products to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
        if self._settings.opt_level is not None:
            config.builder_optimization_level = self._settings.opt_level
        if self._settings.workspace is not None:
            pool = trt.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, self._settings.workspace * MIB)
        config.progress_monitor = self._monitor
        cache: rt.ITimingCache | None = None
        if self._timing_cache is not None:
            cache = config.create_timing_cache(self._timing_cache)
            config.set_timing_cache(cache, False)
        layers = _layers(network)
        started = time.perf_counter()
        data = self._build(builder, network, config)
        seconds = time.perf_counter() - started
        self._on_progress(1.0, "done")
        learnt = b"" if cache is None else bytes(cache.serialize())
        return Plan(data, layers, learnt, seconds)

    def _build(self, builder: Any, network: Any, config: Any) -> bytes:
        """In another thread: this one stays free for Ctrl-C, and asks the builder to stop."""
        found: list[Any] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                found.append(_serialize(builder, network, config))
            except BaseException as failure:
                failures.append(failure)

        worker = threading.Thread(target=work, name="ramedge-build")
        worker.start()
        interrupted = False
        while worker.is_alive():
            try:
                worker.join(_POLL_SECONDS)
            except KeyboardInterrupt:
                interrupted = True
                self._cancel.set()
        if interrupted:
            raise KeyboardInterrupt
        if failures:
            raise failures[0]
        if not found or found[0] is None:
            reason = self._log.reason()
            if "outofmemory" in re.sub(r"[^a-z]", "", reason.lower()):
                raise MemoryError(
                    f"Out of memory while building: use a smaller --max-shape or --workspace. "
                    f"{reason}"
                )
            raise ExportError(f"{self._variant.title} cannot build the engine: {reason}")
        return bytes(found[0])

    def _profile(self, builder: rt.Builder, network: rt.INetworkDefinition) -> Any:
        shapes = self._settings.shapes
        profile: rt.IOptimizationProfile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            tensor: rt.ITensor = network.get_input(index)
            dims = tuple(tensor.shape)
            profile.set_shape(
                tensor.name,
                input_shape(dims, shapes.smallest),
                input_shape(dims, shapes.best),
                input_shape(dims, shapes.largest),
            )
        return profile


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def input_shape(dims: tuple[int, ...], size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of an input for frames of one size; what is dynamic in `dims` is negative.

    >>> input_shape((-1, -1, -1, 3), (4, 6)), input_shape((-1, 3, -1, -1), (4, 6))
    ((1, 4, 6, 3), (1, 3, 4, 6))
    >>> input_shape((-1, 10, 64), (4, 6))
    (1, 10, 64)
    """
    left = iter((1, *size))
    return tuple(next(left) if dim < 0 else dim for dim in dims)


def _serialize(
    builder: rt.Builder, network: rt.INetworkDefinition, config: rt.IBuilderConfig
) -> Any:
    return builder.build_serialized_network(network, config)


def _first(parser: rt.OnnxParser) -> str:
    if parser.num_errors == 0:
        return "no reason is given"
    error: rt.ParserError = parser.get_error(0)
    text = " ".join(str(error.desc()).split())
    where = f"{error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
    more = f" (and {parser.num_errors - 1} more errors)" if parser.num_errors > 1 else ""
    return f"{where}{text}{more}"


def _layers(network: rt.INetworkDefinition) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer: rt.ILayer = network.get_layer(index)
        output: rt.ITensor = layer.get_output(0)
        counts[f"{_member(layer.type)} {_member(output.dtype)}"] += 1
    return dict(sorted(counts.items()))


def _member(value: Any) -> str:
    return str(value).rsplit(".", 1)[-1]
