"""OpenVINO: the default on CPUs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError, WeightsError
from ramedge.failures import cannot_load
from ramedge.media.frames import Pixels
from ramedge.network.channel_statistics import load_excitation
from ramedge.runtimes.base import (
    COMPUTE_DTYPES,
    Features,
    Floats,
    GraphKind,
    Runtime,
    is_out_of_memory,
)
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.openvino.blocks import count_blocks, part
from ramedge.runtimes.openvino.memory import MEASURED
from ramedge.runtimes.openvino.rewrites import prepare, without_fp16

if TYPE_CHECKING:
    import openvino

_OPENVINO_PRECISION = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

REPEATS = 8
"""So many runs pay for a graph compiled for their shape: half a second, gained back in speed.
The 8 turns of a self-ensemble have two shapes and do not count as one."""
CHANCES = 2
"""So many graphs for one shape may turn out not to have paid; then one for any shape is compiled,
until a shape is seen to repeat. A picture, a video, the tiles of a frame are of one shape."""
LARGE = 1 << 19
"""Pixels of an input whose one run pays for a graph of its own."""

Shapes = tuple[tuple[int, ...], ...]
WEIGHTS_NAME = "model.bin"
"""The weights of all IRs (`.xml`) in a folder."""
_HELD: Mapping[GraphKind, int] = MappingProxyType({"frame": 1, "tile": 2, "statistics": 2})
"""So many compiled graphs of a kind are kept. Tiles take turns with the small windows that the
first guess of a frame's attention is from (`ramedge.tiling.attention.fixed_point`)."""
_Key = tuple[GraphKind, str, str]
"""Kind, type of the pixels, arithmetic of a compiled graph."""


@dataclass(frozen=True, slots=True)
class TileModel:
    """What tiles with the frame's attention need.

    Attributes:
        model: `.onnx` or `.xml` of the graph kind `tile`.
        excitation: safetensors of `ramedge.network.channel_statistics.save_excitation`.
    """

    model: Path
    excitation: Path


@lru_cache(maxsize=1)
def shared_core() -> openvino.Core:
    """The process's one `openvino.Core`.

    OpenVINO's CPU plugin gives the thread a signal stack for each core and puts the former one
    back when the core goes. Two cores that go in another order than they came leave a stack
    behind that was unmapped, and the next signal (Ctrl-C) ends the process with a segmentation
    fault. So there is one, and it stays.

    Raises:
        DependencyError: OpenVINO is not there, or cannot be imported.
    """
    try:
        import openvino
    except Exception as error:  # its libraries fail to load in many ways
        raise cannot_load("openvino", error) from None
    return openvino.Core()


class OpenVinoRuntime(Runtime):
    """Runs an ONNX file or OpenVINO IR.

    The graph is compiled for each kind of input it meets (uint8, uint16 or float32) and
    arithmetic, and for the shape: OpenVINO then plans memory and kernels for it, and the rounding
    of half precision is the same in frames and tiles (`ramedge.runtimes.openvino.rewrites`). Where
    small inputs of many shapes come, it is compiled for any.
    """

    name = "openvino"

    def __init__(
        self,
        model: Path,
        scale: int,
        precision: str = "auto",
        device: str = "auto",
        tiles: TileModel | None = None,
    ) -> None:
        """Read `model` and choose the arithmetic.

        Args:
            model: `.onnx` or `.xml`, float32 image `[N, 3, H, W]` in and out.
            scale: of the model.
            precision: `fp32`; `fp16`, half precision where the device computes in it; `auto`,
                the fastest of them; `int8` for a quantized model, whose other layers then run in
                the fastest.
            device: an OpenVINO device such as `CPU` or `GPU`; `auto` is the CPU.
            tiles: the graph for tiles with the frame's attention, where there is one.

        Raises:
            RuntimeUnavailableError: OpenVINO or the device is not there.
            WeightsError: the file is not a model.
        """
        self._core = shared_core()
        self.scale = scale
        self.device = "CPU" if device == "auto" else device.upper()
        # What the layers run in that are not int8.
        self._arithmetic, self.notes = self._choose_precision(
            "auto" if precision == "int8" else precision
        )
        self.precision = "int8" if precision == "int8" else self._arithmetic
        self.compute_dtype = COMPUTE_DTYPES[self._arithmetic]
        self._models: dict[GraphKind, openvino.Model] = {"frame": self._read(model)}
        if tiles is not None:
            self._models["tile"] = self._read(tiles.model)
            self.excitation = load_excitation(tiles.excitation)
        self._graphs: defaultdict[_Key, list[_Graph]] = defaultdict(list)
        self._wasted: Counter[_Key] = Counter()
        self._blocks = count_blocks(self._models["tile"]) if tiles is not None else 0
        self._parts: dict[tuple[int, str], Any] = {}
        self._parts_of: tuple[str, tuple[int, ...]] | None = None

    def _read(self, model: Path) -> openvino.Model:
        try:
            return without_fp16(self._read_file(model))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(f"{model} is not a model that OpenVINO reads: {reason}") from None

    def _read_file(self, model: Path) -> openvino.Model:
        if model.suffix == ".xml":
            return self._core.read_model(model, model.with_name(WEIGHTS_NAME))
        try:
            return self._core.read_model(model)
        except RuntimeError:
            # It refuses weights that are a link to another folder, as an installer may make them.
            from ramedge.artifacts.storage import read_graph

            return self._core.read_model(read_graph(model).SerializeToString())

    def _choose_precision(self, wanted: str) -> tuple[str, tuple[str, ...]]:
        try:
            capabilities = self._core.get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        except RuntimeError:
            known = ", ".join(self._core.available_devices)
            raise RuntimeUnavailableError(
                f"OpenVINO has no device {self.device!r} here: choose among {known}."
            ) from None
        if wanted == "fp32":
            return "fp32", ()
        for precision in ("bf16", "fp16"):
            if precision.upper() in capabilities:
                return precision, ()
        if wanted == "auto":
            return "fp32", ()
        note = f"This {self.device} has no half-precision arithmetic: OpenVINO runs in FP32."
        return "fp32", (note,)

    @property
    def limits(self) -> Limits:
        """The host's memory, and what was measured."""
        return Limits(measured=MEASURED)

    def _infer_pixels(self, pixels: Pixels) -> Pixels:
        result: Pixels = self._run("frame", pixels, fp32=_needs_fp32(pixels))[0]
        return result

    def _infer_float(self, images: Floats, fp32: bool) -> Floats:
        result: Floats = self._run("frame", images, fp32=fp32)[0]
        return result

    def infer_tile_float(
        self, images: Floats, logits: Floats, mask: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """The bare graph kind `tile`: see `ramedge.network.tiled.TiledNetwork.forward`."""
        output, mean, m2 = self._run("tile", images, logits, mask, fp32=False)
        return output, mean, m2

    def _infer_tile(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any, Any]:
        output, mean, m2 = self._run("tile", pixels, logits, mask, fp32=_needs_fp32(pixels))
        return output, mean, m2

    def _infer_statistic(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any]:
        mean, m2 = self._run("statistics", pixels, logits, mask, fp32=_needs_fp32(pixels))
        return mean, m2

    def feature_type(self, pixel_type: np.dtype[Any]) -> np.dtype[Any] | None:  # noqa: D102
        if self._blocks == 0:
            return None
        in_fp32 = pixel_type == np.uint16 or self._arithmetic == "fp32"
        return np.dtype(np.float32 if in_fp32 else np.float16)

    def _begin(self, pixels: Pixels, mask: Floats) -> tuple[Features, Any, Any]:
        arithmetic = "fp32" if _needs_fp32(pixels) else self._arithmetic
        return _features(self._run_part(0, pixels.dtype.name, arithmetic, [pixels, mask]))

    def _advance(
        self, block: int, features: Features, logits: Floats, mask: Floats
    ) -> tuple[Features, Any, Any]:
        given = [logits, mask, *(values[None] for values in features)]
        return _features(self._run_part(block, "uint8", self._arithmetic_of(features), given))

    def _finish(self, features: Features, logits: Floats, pixels: Pixels) -> Pixels:
        given = [pixels, logits, *(values[None] for values in features)]
        dtype, arithmetic = pixels.dtype.name, self._arithmetic_of(features)
        upscaled: Pixels = self._run_part(self._blocks, dtype, arithmetic, given)[0].copy()
        return upscaled

    def _arithmetic_of(self, features: Features) -> str:
        return "fp32" if features.residual.dtype == np.float32 else self._arithmetic

    def _run_part(
        self, index: int, dtype: str, arithmetic: str, values: Sequence[NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Run a part of the tile graph; the results are overwritten by the next run of it."""
        from openvino import Tensor

        rows_and_columns = values[-1].shape[2:] if index else values[0].shape[1:3]
        common = arithmetic, rows_and_columns
        if self._parts_of != common:
            self._parts.clear()  # each takes memory: of one shape only
            self._parts_of = common
            self._free_graphs("frame", "statistics")
        request = self._parts.get((index, dtype))
        if request is None:
            model = _with_pixels(self._models["tile"], dtype, upscales=True)
            model = part(model, index, _OPENVINO_PRECISION[arithmetic])
            shapes = tuple(value.shape for value in values)
            request = self._parts[index, dtype] = self._build(model, arithmetic, shapes)
        given = [np.ascontiguousarray(value) for value in values]
        for place, value in enumerate(given):
            kind = request.get_input_tensor(place).element_type
            request.set_input_tensor(place, Tensor(value, value.shape, kind))
        request.infer()
        return [tensor.data for tensor in request.output_tensors]

    def _run(self, kind: GraphKind, *values: NDArray[Any], fp32: bool) -> list[NDArray[Any]]:
        key = kind, values[0].dtype.name, "fp32" if fp32 else self._arithmetic
        shapes = tuple(value.shape for value in values)
        graph = self._graph(key, shapes)
        results = graph.request.infer(list(values), share_inputs=True)
        return [results[index].copy() for index in range(len(results))]

    def _graph(self, key: _Key, shapes: Shapes) -> _Graph:
        """The graph to run these shapes with, compiled where there is none."""
        held = self._graphs[key]
        for graph in held:
            if graph.takes(shapes) and not graph.is_repeated(shapes):
                return graph
        repeated = any(graph.is_repeated(shapes) for graph in held)
        # Memory first: what was used longest ago, and what serves any shape, goes.
        while held and (len(held) >= _HELD[key[0]] or held[0].serves_any):
            if held.pop(0).wasted:
                self._wasted[key] += 1
        pays = repeated or self._wasted[key] < CHANCES or math.prod(shapes[0]) // 3 >= LARGE
        chosen = shapes if pays else None
        self._make_room(key[0])
        held.append(_Graph(self._compile(*key, chosen), chosen))
        return held[-1]

    def _compile(
        self, kind: GraphKind, dtype: str, precision: str, shapes: Shapes | None = None
    ) -> Any:
        model = self._models["frame" if kind == "frame" else "tile"]
        if kind == "statistics":
            model = _without_upscaling(model)
        if dtype != "float32":
            model = _with_pixels(model, dtype, upscales=kind != "statistics")
        return self._build(model, precision, shapes)

    def _build(self, model: openvino.Model, precision: str, shapes: Shapes | None) -> Any:
        """A request that runs the model."""
        quantized = self.precision == "int8"
        model = prepare(self._core, model, precision != "fp32", shapes, quantized)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[precision],
        }
        try:
            compiled = self._core.compile_model(model, self.device, settings)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise  # for who called, as where a graph runs
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeUnavailableError(
                f"OpenVINO cannot build the network for {self.device}: {reason} Try --device CPU."
            ) from None
        return compiled.create_infer_request()

    def close(self) -> None:
        """Free the compiled graphs."""
        self._graphs.clear()
        self._parts.clear()

    def _make_room(self, kind: GraphKind) -> None:
        """Free what does not run together with a kind: memory is planned for one way at a time.

        Frames are run whole, or in tiles by passes, or block by block; `follow` does so with frames
        that it cannot follow.
        """
        if kind != "tile":
            self._parts.clear()
            self._parts_of = None
        if kind == "frame":
            self._free_graphs("tile", "statistics")
        else:
            self._free_graphs("frame")

    def _free_graphs(self, *kinds: GraphKind) -> None:
        for key, graphs in self._graphs.items():
            if key[0] in kinds:
                graphs.clear()


class _Graph:
    """A compiled graph, and how often the same shapes came in a row."""

    def __init__(self, request: Any, shapes: Shapes | None) -> None:
        self.request = request
        self._shapes = shapes
        self._last = shapes
        self._repeats = 0
        self._runs = 1

    @property
    def serves_any(self) -> bool:
        """Whether it was compiled for any shapes."""
        return self._shapes is None

    def takes(self, shapes: Shapes) -> bool:
        """Whether it runs these shapes; counts them if so."""
        if self._shapes not in (None, shapes):
            return False
        self._runs += 1
        self._repeats = self._repeats + 1 if shapes == self._last else 1
        self._last = shapes
        return True

    def is_repeated(self, shapes: Shapes) -> bool:
        """Whether it is for any shapes, and these came so often that it pays to compile."""
        return self.serves_any and self._last == shapes and self._repeats > REPEATS

    @property
    def wasted(self) -> bool:
        """Whether it was compiled for shapes that came too seldom."""
        return not self.serves_any and self._runs < REPEATS


def _features(results: Sequence[NDArray[Any]]) -> tuple[Features, Any, Any]:
    residual, transformed, mean, m2 = results
    return Features(residual[0], transformed[0]), mean, m2


def _needs_fp32(pixels: Pixels) -> bool:
    # Half precision holds 8-bit pixels well but not 16-bit ones.
    return pixels.dtype == np.uint16


def _without_upscaling(tile: openvino.Model) -> openvino.Model:
    """The graph kind `statistics`: what the outputs `mean` and `m2` of a tile need."""
    from openvino import Model

    tile = tile.clone()
    kept = [tile.output(name).get_node() for name in ("mean", "m2")]
    return Model(kept, tile.get_parameters(), f"{tile.get_friendly_name()}_statistics")


def _with_pixels(network: openvino.Model, dtype: str, upscales: bool) -> openvino.Model:
    """The network between NHWC integer pixels: scaled to [0, 1], back, clipped and rounded."""
    from openvino import Model
    from openvino import opset13 as ops

    peak = float(np.iinfo(dtype).max)
    network = network.clone()
    image, *others = network.get_parameters()
    pixels = ops.parameter([-1, -1, -1, 3], np.dtype(dtype), name="pixels")
    scaled = ops.multiply(ops.convert(pixels, "f32"), np.float32(1.0 / peak))
    planar = ops.transpose(scaled, np.array([0, 3, 1, 2]))
    for consumer in image.output(0).get_target_inputs():
        consumer.replace_source_output(planar.output(0))
    results: list[Any] = [output.get_node() for output in network.outputs]
    if upscales:
        levels = ops.clamp(ops.multiply(results[0].input_value(0), np.float32(peak)), 0.0, peak)
        rounded = ops.convert(ops.round(levels, "half_to_even"), np.dtype(dtype))
        results[0] = ops.result(ops.transpose(rounded, np.array([0, 2, 3, 1])))
    name = f"{network.get_friendly_name()}_{dtype}"
    return Model(results, [pixels, *others], name)
