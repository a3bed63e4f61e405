"""OpenVINO: the default on CPUs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.graphs import FRAME, STATISTICS, TILE, PixelType, part_index
from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import RuntimeUnavailableError, WeightsError
from ramedge.failures import cannot_load
from ramedge.network.channel_statistics import load_excitation
from ramedge.runtimes.base import (
    COMPUTE_DTYPES,
    Arrays,
    GraphRequest,
    Session,
    is_out_of_memory,
)
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.openvino.memory import MEASURED
from ramedge.runtimes.openvino.rewrites import prepare, with_feature_type, without_fp16
from ramedge.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import openvino

_OPENVINO_PRECISION = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

REPEATS = 8
"""Runs that pay for a graph compiled for their shape: half a second, gained back in speed.
The 8 turns of a self-ensemble have two shapes and do not count as one."""
CHANCES = 2
"""Graphs for one shape that may turn out not to have paid; then one for any shape is compiled,
until a shape is seen to repeat. A picture, a video, the tiles of a frame are of one shape."""
LARGE = 1 << 19
"""Pixels of an input whose one run pays for a graph of its own."""

Shapes = tuple[tuple[int, ...], ...]
WEIGHTS_NAME = "model.bin"
"""The weights of all IRs (`.xml`) in a folder."""
_HELD: Mapping[str, int] = MappingProxyType({FRAME: 1, TILE: 2, STATISTICS: 2})
"""Compiled graphs of a kind that are kept. Tiles take turns with the small windows that the first
guess of a frame's attention is from (`ramedge.tiling.attention.fixed_point`)."""
_Key = tuple[str, PixelType, str]
"""Name, type of the pixels, arithmetic of a compiled graph."""


@lru_cache(maxsize=1)
def shared_core() -> openvino.Core:
    """The process's one `openvino.Core`.

    OpenVINO's CPU plugin gives the thread a signal stack for each core and puts the previous one
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


class OpenVinoSession(Session):
    """Runs ONNX files or OpenVINO IR.

    A graph is compiled for each type of pixels that it meets and each arithmetic, and for the
    shape: OpenVINO then plans memory and kernels for it, and the rounding of half precision is the
    same in frames and tiles (`ramedge.runtimes.openvino.rewrites`). Where small inputs of many
    shapes come, it is compiled for any.
    """

    name = "openvino"

    def __init__(self, files: ModelFiles, precision: str = "auto", device: str = "auto") -> None:
        """Read the frame graph and choose the arithmetic.

        Args:
            files: ONNX or IR.
            precision: `fp32`; `fp16`, half precision where the device computes in it; `auto`,
                the fastest of them; `int8` for a quantized model, whose other layers then run in
                the fastest.
            device: an OpenVINO device such as `CPU` or `GPU`; `auto` is the CPU.

        Raises:
            RuntimeUnavailableError: OpenVINO or the device is not there.
            WeightsError: the file is not a model.
        """
        self._core = shared_core()
        self._files = files
        self.device = "CPU" if device == "auto" else device.upper()
        # What the layers run in that are not int8.
        self._arithmetic, self.notes = self._choose_precision(
            "auto" if precision == "int8" else precision
        )
        self.precision = "int8" if precision == "int8" else self._arithmetic
        self.compute_dtype = COMPUTE_DTYPES[self._arithmetic]
        self._models: dict[str, openvino.Model] = {}
        self._graphs: defaultdict[_Key, list[_Graph]] = defaultdict(list)
        self._wasted: Counter[_Key] = Counter()
        self._parts: dict[tuple[str, PixelType], Any] = {}
        self._parts_of: tuple[str, tuple[int, ...]] | None = None
        self._model(FRAME)

    def _model(self, name: str) -> openvino.Model:
        """A graph with its image as floats; those of whole frames and tiles are kept."""
        if name in self._models:
            return self._models[name]
        try:
            model = without_fp16(self._read(name))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise WeightsError(
                f"{self._files.path(name)} is not a model that OpenVINO reads: {reason}"
            ) from None
        if name in _HELD:
            self._models[name] = model
        return model

    def _read(self, name: str) -> openvino.Model:
        path = self._files.path(name)
        if path.suffix == ".xml":
            return self._core.read_model(path, path.with_name(WEIGHTS_NAME))
        return self._core.read_model(self._files.graph(name).SerializeToString())

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

    def feature_dtype(self, fp32: bool) -> np.dtype[Any]:
        """The bits of bfloat16 or FP16, or float32."""
        return np.dtype(np.float32 if fp32 or self._arithmetic == "fp32" else np.float16)

    def run(self, graph: GraphRequest, values: Arrays) -> list[NDArray[Any]]:
        """See `Session.run`."""
        arithmetic = "fp32" if graph.fp32 else self._arithmetic
        if part_index(graph.name) is not None:
            return self._run_part(graph, arithmetic, values)
        shapes = tuple(value.shape for value in values)
        held = self._graph((graph.name, graph.pixels, arithmetic), shapes)
        results = held.request.infer(list(values), share_inputs=True)
        return [results[index].copy() for index in range(len(results))]

    def _run_part(self, graph: GraphRequest, arithmetic: str, values: Arrays) -> list[NDArray[Any]]:
        """Run a part of the tile graph; the results are overwritten by the next run of it."""
        from openvino import Tensor

        common = arithmetic, values[-1].shape[2:]  # of the features, or of the mask
        if self._parts_of != common:
            self._parts.clear()  # each takes memory: of one shape only
            self._parts_of = common
            self._free_graphs(FRAME, STATISTICS)
        request = self._parts.get((graph.name, graph.pixels))
        if request is None:
            model = _with_pixels(self._model(graph.name), graph.pixels)
            with_feature_type(model, _OPENVINO_PRECISION[arithmetic])
            shapes = tuple(value.shape for value in values)
            request = self._build(model, arithmetic, shapes)
            self._parts[graph.name, graph.pixels] = request
        for place, value in enumerate(values):
            kind = request.get_input_tensor(place).element_type
            request.set_input_tensor(place, Tensor(value, value.shape, kind))
        request.infer()
        return [tensor.data for tensor in request.output_tensors]

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
        self, name: str, pixels: PixelType, arithmetic: str, shapes: Shapes | None = None
    ) -> Any:
        return self._build(_with_pixels(self._model(name), pixels), arithmetic, shapes)

    def _build(self, model: openvino.Model, arithmetic: str, shapes: Shapes | None) -> Any:
        """A request that runs the model."""
        quantized = self.precision == "int8"
        model = prepare(self._core, model, arithmetic != "fp32", shapes, quantized)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[arithmetic],
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

    def _make_room(self, name: str) -> None:
        """Free what does not run together with a graph: memory is planned for one way at a time.

        Frames are run whole, or in tiles by fixed-point iterations, or block by block; temporal
        tiles do so with frames that do not continue another.
        """
        if name != TILE:
            self._parts.clear()
            self._parts_of = None
        if name == FRAME:
            self._free_graphs(TILE, STATISTICS)
        else:
            self._free_graphs(FRAME)

    def _free_graphs(self, *names: str) -> None:
        for key, graphs in self._graphs.items():
            if key[0] in names:
                graphs.clear()


def open_openvino(files: ModelFiles, precision: str = "auto", device: str = "auto") -> Runtime:
    """A model's files in OpenVINO; arguments and errors are those of `OpenVinoSession`."""
    session = OpenVinoSession(files, precision, device)
    excitation = None if files.excitation is None else load_excitation(files.excitation)
    return Runtime(session, files.scale, excitation, by_block=files.blocks > 0)


def open_onnx(path: Path, scale: int, precision: str = "auto", device: str = "auto") -> Runtime:
    """A frame graph alone in OpenVINO; arguments and errors are those of `OpenVinoSession`."""
    return open_openvino(ModelFiles(scale, path), precision, device)


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


def _with_pixels(network: openvino.Model, pixels: PixelType) -> openvino.Model:
    """A copy between NHWC integer pixels: scaled to [0, 1], back, clipped and rounded.

    In OpenVINO's own operations, because IR has no ONNX; what `ramedge.artifacts.graphs` does.
    """
    from openvino import Model
    from openvino import opset13 as ops

    network = network.clone()
    takes = "image" in network.inputs[0].get_names()
    gives = "upscaled" in network.outputs[0].get_names()
    if pixels == "float32" or not (takes or gives):
        return network
    peak, dtype = float(np.iinfo(pixels).max), np.dtype(pixels)
    image, *others = network.get_parameters()
    given = ops.parameter([-1, -1, -1, 3], dtype, name="pixels")
    scaled = ops.multiply(ops.convert(given, "f32"), np.float32(1.0 / peak))
    planar = ops.transpose(scaled, np.array([0, 3, 1, 2]))
    for consumer in image.output(0).get_target_inputs():
        consumer.replace_source_output(planar.output(0))
    results: list[Any] = [output.get_node() for output in network.outputs]
    if gives:
        levels = ops.clamp(ops.multiply(results[0].input_value(0), np.float32(peak)), 0.0, peak)
        rounded = ops.convert(ops.round(levels, "half_to_even"), dtype)
        results[0] = ops.result(ops.transpose(rounded, np.array([0, 2, 3, 1])))
    name = f"{network.get_friendly_name()}_{pixels}"
    return Model(results, [given, *others], name)
