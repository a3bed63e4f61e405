"""TensorRT and TensorRT-RTX: engines that this machine built, on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramedge.media.frames import Pixels
from ramedge.network.channel_statistics import load_excitation
from ramedge.runtimes.base import COMPUTE_DTYPES, Floats, Runtime
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.tensorrt.build import EnginePrecision, EngineRequest, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import Cuda, open_cuda
from ramedge.runtimes.tensorrt.flavour import Flavour
from ramedge.runtimes.tensorrt.graphs import GraphKind, Values
from ramedge.runtimes.tensorrt.monitor import OnProgress
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.session import EngineSession

_STEP_16 = np.float32(1.0 / 65535.0)


@dataclass(frozen=True, slots=True)
class EngineModels:
    """The ONNX files that engines are built from.

    Attributes:
        network, scale: of all of them.
        precision: of `frame` and `tile`.
        frame: graph kind `frame`.
        tile: graph kind `tile`, where there is one, with `excitation`.
        frame_fp32, tile_fp32: the same in FP32, for 16-bit pixels.
        gate: what is known of their agreement with PyTorch.
    """

    network: str
    scale: int
    precision: EnginePrecision
    frame: Path
    tile: Path | None = None
    excitation: Path | None = None
    frame_fp32: Path | None = None
    tile_fp32: Path | None = None
    gate: dict[str, Any] = field(default_factory=dict)


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


class TensorRtRuntime(Runtime):
    """Runs engines, each for one graph kind, kind of values and precision.

    Those that are not in the cache are built when they are first needed. Pixels of 8 bits are
    converted inside the engine, those of 16 on the host: TensorRT has no uint16.
    """

    def __init__(
        self,
        models: EngineModels,
        flavour: Flavour,
        source: EngineSource,
        cuda: Cuda | None = None,
    ) -> None:
        """Open the GPU.

        Raises:
            RuntimeUnavailableError: the library, or the GPU, is not there.
            WeightsError: `excitation` is damaged.
        """
        flavour.load()
        self.name = flavour.name
        self.scale = models.scale
        self.precision = models.precision
        self.compute_dtype = COMPUTE_DTYPES.get(models.precision, "float16")
        self._cuda = open_cuda() if cuda is None else cuda
        facts = self._cuda.facts
        self.device = f"{facts.name}, compute capability {facts.compute_capability}"
        self._models = models
        self._flavour = flavour
        self._source = source
        self._shapes: dict[tuple[GraphKind, Values, EnginePrecision], Shapes] = {}
        self._sessions: dict[tuple[GraphKind, Values, EnginePrecision], EngineSession] = {}
        if models.tile is not None and models.excitation is not None:
            self.excitation = load_excitation(models.excitation)
        if models.precision != "fp32" and models.frame_fp32 is None:
            self.notes = (
                f"The model has no FP32 graph: 16-bit pixels run in {models.precision.upper()}.",
            )

    @property
    def limits(self) -> Limits:
        """What the GPU has free."""
        return Limits(free_bytes=self._cuda.free_memory(), features_on_device=False)

    def _infer_pixels(self, pixels: Pixels) -> Pixels:
        frames = (pixels[index : index + 1] for index in range(len(pixels)))
        result: Pixels = np.concatenate(list(self._infer_many(frames)))
        return result

    def _infer_many(self, frames: Iterator[Pixels]) -> Iterator[Pixels]:
        """Frames `[1, H, W, 3]`, several in flight as long as they are alike."""
        for (shape, wide), alike in groupby(frames, lambda f: (f.shape, f.dtype == np.uint16)):
            if shape[0] != 1:
                yield from map(self._infer_pixels, alike)
            elif wide:
                session = self._session("frame", "float32", shape[1:3], fp32=True)
                images = ([_image(frame)] for frame in alike)
                yield from (_pack(output[0]) for output in session.run_many(images))
            else:
                session = self._session("frame", "uint8", shape[1:3], fp32=False)
                yield from (output[0] for output in session.run_many([f] for f in alike))

    def _infer_float(self, images: Floats, fp32: bool) -> Floats:
        session = self._session("frame", "float32", images.shape[2:], fp32)
        frames: Iterator[list[NDArray[Any]]] = (
            [images[index : index + 1]] for index in range(len(images))
        )
        result: Floats = np.concatenate([out[0] for out in session.run_many(frames)])
        return result

    def _infer_tile(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any, Any]:
        output, mean, m2 = self._run_tile("tile", pixels, logits, mask)
        return _pack(output) if pixels.dtype == np.uint16 else output, mean, m2

    def _infer_statistic(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any]:
        mean, m2 = self._run_tile("statistics", pixels, logits, mask)
        return mean, m2

    def _run_tile(
        self, kind: GraphKind, pixels: Pixels, logits: Floats, mask: Floats
    ) -> list[NDArray[Any]]:
        wide = pixels.dtype == np.uint16
        session = self._session(kind, "float32" if wide else "uint8", pixels.shape[1:3], wide)
        return session.run([_image(pixels) if wide else pixels, logits, mask])

    def _session(
        self, kind: GraphKind, values: Values, size: tuple[int, ...], fp32: bool
    ) -> EngineSession:
        """The engine for frames of this size, taken from the cache or built."""
        height, width = size
        precision, model = self._model(kind, fp32)
        key = kind, values, precision
        shapes = self._shapes.get(key, self._source.settings.shapes)
        if key in self._sessions and shapes.hold(height, width):
            return self._sessions[key]
        if not shapes.hold(height, width):
            shapes = _grown(shapes, height, width)
            self._source.on_notice(
                f"An engine for frames of {width}×{height}: the one there is takes others."
            )
        settings = BuildSettings(
            shapes, self._source.settings.opt_level, self._source.settings.workspace
        )
        request = EngineRequest(
            model, self._models.network, self.scale, precision, self._flavour, kind, values,
            settings, self._models.gate,
        )  # fmt: skip
        if key in self._sessions:
            self._sessions.pop(key).close()
        engine = get_engine(
            request,
            self._source.cache,
            on_notice=self._source.on_notice,
            on_progress=self._source.on_progress,
        )
        self._sessions[key] = EngineSession(engine.data, self._flavour, self._cuda)
        self._shapes[key] = shapes
        return self._sessions[key]

    def _model(self, kind: GraphKind, fp32: bool) -> tuple[EnginePrecision, Path]:
        models = self._models
        is_frame = kind == "frame"
        wide = models.frame_fp32 if is_frame else models.tile_fp32
        if fp32 and wide is not None:
            return "fp32", wide
        model = models.frame if is_frame else models.tile
        assert model is not None  # `Runtime` checks that there is a tile graph
        return models.precision, model

    def close(self) -> None:
        """Free the engines, and let the GPU go."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._cuda.close()


def _grown(shapes: Shapes, height: int, width: int) -> Shapes:
    low = min(shapes.smallest[0], height), min(shapes.smallest[1], width)
    high = max(shapes.largest[0], height), max(shapes.largest[1], width)
    return Shapes(low, shapes.best, high)


def _image(pixels: Pixels) -> Floats:
    """16-bit `[N, H, W, 3]` → float32 `[N, 3, H, W]` in [0, 1]."""
    planar: Floats = pixels.transpose(0, 3, 1, 2).astype(np.float32) * _STEP_16
    return planar


def _pack(output: Floats) -> Pixels:
    """`[N, 3, H, W]` in [0, 1] → 16-bit `[N, H, W, 3]`, clipped, then rounded half to even."""
    levels = np.rint(np.clip(output.transpose(0, 2, 3, 1) * np.float32(65535), 0, 65535))
    packed: Pixels = levels.astype(np.uint16)
    return packed
