"""TensorRT and TensorRT-RTX: engines that this machine built, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.graphs import FRAME, PixelType
from ramedge.artifacts.model_files import ModelFiles, Precision
from ramedge.network.channel_statistics import load_excitation
from ramedge.runtimes.base import COMPUTE_DTYPES, Arrays, GraphRequest, Session
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.build import EngineRequest, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import Cuda, open_cuda
from ramedge.runtimes.tensorrt.engine import LoadedEngine
from ramedge.runtimes.tensorrt.monitor import OnProgress
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.variant import Variant


@dataclass(frozen=True, slots=True)
class EngineSource:
    """Where engines come from.

    Attributes:
        cache: of this user.
        settings: of engines that have to be built.
        on_notice: told what is built, and why.
        on_progress: of a build.
    """

    cache: EngineCache
    settings: BuildSettings = field(default_factory=BuildSettings)
    on_notice: Callable[[str], None] = lambda _text: None
    on_progress: OnProgress = lambda _share, _phase: None


class _Key(NamedTuple):
    """Of a loaded engine."""

    graph: str
    pixels: PixelType
    precision: Precision


class TensorRtSession(Session):
    """Runs engines, each for one graph, type of pixels and precision.

    Those that are not in the cache are built when they are first needed.
    """

    def __init__(
        self,
        files: ModelFiles,
        variant: Variant,
        source: EngineSource,
        cuda: Cuda | None = None,
    ) -> None:
        """Open the GPU.

        Args:
            files: ONNX; their `precision` is what engines compute in: FP16 is made from FP32.
            variant: which of the two libraries.
            source: where engines come from.
            cuda: the GPU; `None` opens the first one.

        Raises:
            RuntimeUnavailableError: the library, or the GPU, is not there.
        """
        variant.load()
        self.name = variant.name
        self.precision = files.precision
        self.compute_dtype = COMPUTE_DTYPES.get(files.precision, "float16")
        self._cuda = open_cuda() if cuda is None else cuda
        facts = self._cuda.facts
        self.device = f"{facts.name}, compute capability {facts.compute_capability}"
        self._files = files
        self._variant = variant
        self._source = source
        self._shapes: dict[_Key, Shapes] = {}
        self._engines: dict[_Key, LoadedEngine] = {}
        if files.precision != "fp32" and files.fp32 is None:
            self.notes = (
                f"The model has no FP32 graph: 16-bit pixels run in {files.precision.upper()}.",
            )

    @property
    def limits(self) -> Limits:
        """What the GPU has free. TensorRT has no uint16, and engines take one image."""
        return Limits(
            free_bytes=self._cuda.free_memory(),
            features_on_device=False,
            uint16_pixels=False,
            batches=False,
        )

    def feature_dtype(self, fp32: bool) -> np.dtype[Any]:
        """FP16 in FP16 engines, and in those with FP16 around int8."""
        _, precision = self._model(fp32)
        return np.dtype(np.float32 if precision == "fp32" else np.float16)

    def run(self, graph: GraphRequest, values: Arrays) -> list[NDArray[Any]]:
        """See `Session.run`."""
        return self._engine(graph, values).run(values)

    def run_many(  # noqa: D102
        self, graph: GraphRequest, values: Iterable[Arrays]
    ) -> Iterator[list[NDArray[Any]]]:
        coming = iter(values)
        for first in coming:
            engine = self._engine(graph, first)

            def chained(given: Arrays = first) -> Iterator[Arrays]:
                yield given
                yield from coming

            yield from engine.run_many(chained())

    def _engine(self, graph: GraphRequest, values: Arrays) -> LoadedEngine:
        """The engine for inputs of this size, taken from the cache or built."""
        height, width = _size(graph, values)
        files, precision = self._model(graph.fp32)
        key = _Key(graph.name, graph.pixels, precision)
        shapes = self._shapes.get(key, self._source.settings.shapes)
        if key in self._engines and shapes.hold(height, width):
            return self._engines[key]
        if not shapes.hold(height, width):
            shapes = _grown(shapes, height, width)
            self._source.on_notice(
                f"An engine for frames of {width}×{height}: the one there is takes others."
            )
        settings = BuildSettings(
            shapes, self._source.settings.opt_level, self._source.settings.workspace
        )
        request = EngineRequest(
            files.path(graph.name), files.network, files.scale, precision, self._variant,
            graph.name, graph.pixels, settings, files.gate,
        )  # fmt: skip
        if key in self._engines:
            self._engines.pop(key).close()
        engine = get_engine(
            request,
            self._source.cache,
            on_notice=self._source.on_notice,
            on_progress=self._source.on_progress,
        )
        self._engines[key] = LoadedEngine(engine.data, self._variant, self._cuda)
        self._shapes[key] = shapes
        return self._engines[key]

    def _model(self, fp32: bool) -> tuple[ModelFiles, Precision]:
        if fp32 and self._files.fp32 is not None:
            return self._files.fp32, "fp32"
        return self._files, self._files.precision

    def close(self) -> None:
        """Free the engines, and let the GPU go."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._cuda.close()


def open_tensorrt(
    files: ModelFiles, variant: Variant, source: EngineSource, cuda: Cuda | None = None
) -> Runtime:
    """A model's files in TensorRT; arguments and errors are those of `TensorRtSession`.

    Raises:
        WeightsError: the file that turns variance into attention is damaged.
    """
    session = TensorRtSession(files, variant, source, cuda)
    excitation = None if files.excitation is None else load_excitation(files.excitation)
    return Runtime(session, files.scale, excitation, by_block=files.blocks > 0)


def _size(graph: GraphRequest, values: Arrays) -> tuple[int, int]:
    """Height and width of the image, or of the features."""
    shape = values[-1].shape
    first = 1 if graph.name == FRAME and graph.pixels != "float32" else 2
    height, width = shape[first : first + 2]
    return height, width


def _grown(shapes: Shapes, height: int, width: int) -> Shapes:
    low = min(shapes.smallest[0], height), min(shapes.smallest[1], width)
    high = max(shapes.largest[0], height), max(shapes.largest[1], width)
    return Shapes(low, shapes.best, high)
