"""A GPU that is none: the driver APIs of cuda-python and pycuda, and TensorRT, on the CPU.

Work in a stream runs when someone waits for the stream, as late as a GPU may run it: what is read
too early, or overwritten too early, comes out wrong. A plan is an ONNX file that onnxruntime runs.
"""

from __future__ import annotations

import ctypes
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ramedge.runtimes.tensorrt.cuda import Cuda
from ramedge.runtimes.tensorrt.cuda_bindings import CudaPython, PyCuda
from ramedge.runtimes.tensorrt.variant import Variant

Work = Callable[[], None]
PLAN_MARK = b"fake plan"


class Stream:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.handle = gpu.new_handle(self)
        self.queue: list[Work] = []
        self.captured: list[Work] | None = None

    def __int__(self) -> int:
        return self.handle

    def add(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def synchronize(self) -> None:
        assert self.captured is None, "no waiting while capturing"
        queue, self.queue = self.queue, []
        for work in queue:
            work()


class FakeGpu:
    """Memory, streams and counters behind both driver APIs."""

    def __init__(self, memory: int = 2**40) -> None:
        self.free = memory
        self.blocks: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.pushed = 0
        self.counts: Counter[str] = Counter()

    def new_handle(self, stream: Stream) -> int:
        self.streams[len(self.streams) + 1] = stream
        return len(self.streams)

    def allocate(self, size: int) -> int | None:
        assert self.pushed > 0, "no context is current"
        if size > self.free:
            return None
        self.free -= size
        self.counts["allocate"] += 1
        block = np.full(size, 0xCD, np.uint8)
        self.blocks[block.ctypes.data] = block
        return block.ctypes.data

    def release(self, address: int) -> None:
        self.free += self.blocks.pop(address).size

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        stream.add(lambda: ctypes.memmove(target, source, size))


def cuda_python(gpu: FakeGpu) -> types.SimpleNamespace:
    """`cuda.bindings.driver`: functions return a code, then values."""
    ok, full = "CUDA_SUCCESS", "CUDA_ERROR_OUT_OF_MEMORY"
    pinned: dict[int, np.ndarray] = {}

    def allocate(size: int) -> tuple[str, int]:
        address = gpu.allocate(size)
        return (full, 0) if address is None else (ok, address)

    def allocate_host(size: int) -> tuple[str, int]:
        block = np.zeros(size, np.uint8)
        pinned[block.ctypes.data] = block
        return ok, block.ctypes.data

    def shift(by: int) -> tuple[str]:
        gpu.pushed += by
        return (ok,)

    def begin(stream: Stream, _mode: object) -> tuple[str]:
        stream.captured = []
        return (ok,)

    def end(stream: Stream) -> tuple[str, list[Work]]:
        found, stream.captured = stream.captured, None
        return ok, found

    def launch(graph: list[Work], stream: Stream) -> tuple[str]:
        gpu.counts["launch"] += 1
        for work in graph:
            stream.add(work)
        return (ok,)

    def done(work: Callable[..., object]) -> Callable[..., tuple[str]]:
        return lambda *arguments: (work(*arguments), (ok,))[1]

    flag = types.SimpleNamespace(value=1)
    return types.SimpleNamespace(
        CUresult=types.SimpleNamespace(CUDA_SUCCESS=ok, CUDA_ERROR_OUT_OF_MEMORY=full),
        CUdevice_attribute=types.SimpleNamespace(
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        ),
        CUstream_flags=types.SimpleNamespace(CU_STREAM_NON_BLOCKING=flag),
        CUstreamCaptureMode=types.SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1),
        cuInit=lambda flags: (ok,),
        cuDeviceGet=lambda index: (ok, index),
        cuDeviceGetName=lambda length, device: (ok, b"Fake GPU\0\0\0"),
        cuDeviceGetAttribute=lambda which, device: (ok, 8 if which == "major" else 7),
        cuDriverGetVersion=lambda: (ok, 12060),
        cuDevicePrimaryCtxRetain=lambda device: (ok, "context"),
        cuDevicePrimaryCtxRelease=lambda device: (ok,),
        cuCtxPushCurrent=lambda context: shift(1),
        cuCtxPopCurrent=lambda: (*shift(-1), "context"),
        cuMemAlloc=allocate,
        cuMemFree=done(gpu.release),
        cuMemAllocHost=allocate_host,
        cuMemFreeHost=done(pinned.pop),
        cuMemGetInfo=lambda: (ok, gpu.free, 2**40),
        cuStreamCreate=lambda flags: (ok, Stream(gpu)),
        cuStreamSynchronize=done(Stream.synchronize),
        cuMemcpyHtoDAsync=done(gpu.copy),
        cuMemcpyDtoHAsync=done(gpu.copy),
        cuEventCreate=lambda flags: (ok, []),
        cuEventRecord=lambda event, stream: (ok,),
        cuEventSynchronize=lambda event: (ok,),
        cuEventElapsedTime=lambda first, second: (ok, 1.5),
        cuStreamBeginCapture=begin,
        cuStreamEndCapture=end,
        cuGraphInstantiate=lambda graph, flags: (ok, graph),
        cuGraphLaunch=launch,
    )


def pycuda(gpu: FakeGpu) -> types.SimpleNamespace:
    """`pycuda.driver`: objects, and exceptions."""

    class Error(Exception):
        pass

    class OutOfMemoryError(Error):
        pass

    class Allocation(int):
        def free(self) -> None:
            gpu.release(int(self))

    class HostAllocation:
        """Where pycuda's page-locked arrays have their memory; `array.base`."""

        def __init__(self, size: int) -> None:
            self.block = np.zeros(size, np.uint8)
            self.__array_interface__ = self.block.__array_interface__

        def free(self) -> None:
            pass

    class Context:
        def push(self) -> None:
            gpu.pushed += 1

        def pop(self) -> None:
            gpu.pushed -= 1

        def detach(self) -> None:
            pass

    class Event:
        def record(self, stream: Stream) -> None:
            pass

        def synchronize(self) -> None:
            pass

        def time_till(self, other: object) -> float:
            return 1.5

    class Device:
        def __init__(self, index: int) -> None:
            pass

        def name(self) -> str:
            return "Fake GPU"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def retain_primary_context(self) -> Context:
            return Context()

    def allocate(size: int) -> Allocation:
        address = gpu.allocate(size)
        if address is None:
            raise OutOfMemoryError("cuMemAlloc failed: out of memory")
        return Allocation(address)

    def pagelocked(size: int, dtype: type) -> np.ndarray:
        return np.asarray(HostAllocation(size))

    def to_device(address: int, source: np.ndarray, stream: Stream) -> None:
        gpu.copy(address, source.ctypes.data, source.nbytes, stream)

    def to_host(target: np.ndarray, address: int, stream: Stream) -> None:
        gpu.copy(target.ctypes.data, address, target.nbytes, stream)

    return types.SimpleNamespace(
        Error=Error, MemoryError=OutOfMemoryError, Device=Device, Event=Event,
        Stream=lambda: Stream(gpu), init=lambda: None, get_driver_version=lambda: 12060,
        mem_alloc=allocate, pagelocked_empty=pagelocked, mem_get_info=lambda: (gpu.free, 2**40),
        memcpy_htod_async=to_device, memcpy_dtoh_async=to_host,
    )  # fmt: skip


@contextmanager
def driver_modules(gpu: FakeGpu | None, *, name: str) -> Iterator[None]:
    """`name` is importable and finds this GPU; the other binding is not."""
    with pytest.MonkeyPatch.context() as patch:
        modules: dict[str, Any] = dict.fromkeys(
            ("cuda", "cuda.bindings", "cuda.bindings.driver", "pycuda", "pycuda.driver")
        )
        if gpu is not None and name == "cuda-python":
            driver = cuda_python(gpu)
            modules["cuda"] = types.ModuleType("cuda")
            modules["cuda.bindings"] = types.SimpleNamespace(driver=driver)
        elif gpu is not None:
            modules["pycuda.driver"] = pycuda(gpu)
            modules["pycuda"] = types.SimpleNamespace(driver=modules["pycuda.driver"])
        for module, value in modules.items():
            patch.setitem(__import__("sys").modules, module, value)
        yield


def make_cuda(gpu: FakeGpu, name: str) -> Cuda:
    with driver_modules(gpu, name=name):
        return CudaPython() if name == "cuda-python" else PyCuda()


class FakeVariant(Variant):
    """A variant whose module is fake."""

    def load(self) -> Any:
        return fake_tensorrt(_GPUS[self.module])


_GPUS: dict[str, FakeGpu] = {}


def make_variant(gpu: FakeGpu, captures_itself: bool = False) -> FakeVariant:
    module = f"fake{id(gpu)}"
    _GPUS[module] = gpu
    name = "tensorrt-rtx" if captures_itself else "tensorrt"
    return FakeVariant(name, "Fake TensorRT", module, "tensorrt", True, captures_itself)


def fake_tensorrt(gpu: FakeGpu) -> types.SimpleNamespace:
    """As much of `tensorrt` as an engine needs."""
    severity = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)

    class Logger:
        Severity = severity

        def __init__(self) -> None:
            pass

    class Monitor:
        def __init__(self) -> None:
            pass

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine = engine
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}
            self.scratch = (0, 0)

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            assert set(self.shapes) == {value.name for value in self.engine.inputs}
            zeros = {
                value.name: np.ones(self.shapes[value.name], _numpy(value))
                for value in self.engine.inputs
            }
            (found,) = self.engine.session.run([name], zeros)
            return found.shape

        def update_device_memory_size_for_shapes(self) -> int:
            return 64 * int(np.prod(next(iter(self.shapes.values()))))

        def set_device_memory(self, address: int, size: int) -> None:
            assert size >= self.update_device_memory_size_for_shapes()
            assert address in gpu.blocks
            self.scratch = address, size

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def execute_async_v3(self, handle: int) -> bool:
            gpu.counts["execute"] += 1
            shapes, addresses = dict(self.shapes), dict(self.addresses)
            gpu.streams[handle].add(lambda: self.engine.run(shapes, addresses))
            return True

    class Engine:
        def __init__(self, model: bytes) -> None:
            self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            graph = onnx.load_from_string(model).graph
            self.inputs, self.outputs = list(graph.input), list(graph.output)
            self.num_io_tensors = len(self.inputs) + len(self.outputs)

        def get_tensor_name(self, index: int) -> str:
            name: str = [*self.inputs, *self.outputs][index].name
            return name

        def get_tensor_dtype(self, name: str) -> Any:
            return next(_numpy(v) for v in (*self.inputs, *self.outputs) if v.name == name)

        def get_tensor_mode(self, name: str) -> str:
            return "in" if name in {value.name for value in self.inputs} else "out"

        def create_runtime_config(self) -> Any:
            return types.SimpleNamespace(set_execution_context_allocation_strategy=lambda s: None)

        def create_execution_context(self, how: Any) -> Context:
            gpu.counts["contexts"] += 1
            return Context(self)

        def run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
            given = {
                value.name: _at(addresses[value.name], shapes[value.name], _numpy(value)).copy()
                for value in self.inputs
            }
            found = self.session.run(None, given)
            for value, result in zip(self.outputs, found, strict=True):
                _at(addresses[value.name], result.shape, result.dtype)[...] = result

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(PLAN_MARK):
                self.logger.log(severity.ERROR, "Serialization error: magic tag does not match")
                return None
            return Engine(plan[len(PLAN_MARK) :])

    class Network:
        model = b""

        @property
        def layers(self) -> list[Any]:
            graph = onnx.load_from_string(self.model).graph
            kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
            half = onnx.TensorProto.FLOAT16
            return [
                _layer("CONVOLUTION", "HALF" if kinds[node.input[1]] == half else "FLOAT")
                for node in graph.node if node.op_type == "Conv"
            ]  # fmt: skip

        @property
        def num_layers(self) -> int:
            return len(self.layers)

        def get_layer(self, index: int) -> Any:
            return self.layers[index]

        @property
        def inputs(self) -> list[Any]:
            values = onnx.load_from_string(self.model).graph.input
            return [
                types.SimpleNamespace(
                    name=v.name,
                    shape=[d.dim_value or -1 for d in v.type.tensor_type.shape.dim],
                )
                for v in values
            ]

        @property
        def num_inputs(self) -> int:
            return len(self.inputs)

        def get_input(self, index: int) -> Any:
            return self.inputs[index]

    class Parser:
        num_errors = 0

        def __init__(self, network: Network, logger: Any) -> None:
            self.network = network

        def parse(self, model: bytes) -> bool:
            self.network.model = model
            return True

    class Builder:
        def __init__(self, logger: Any) -> None:
            pass

        def create_network(self, flags: int) -> Network:
            assert flags == 2, "strongly typed"
            return Network()

        def create_builder_config(self) -> Any:
            nothing = lambda *arguments: None  # noqa: E731
            cache = types.SimpleNamespace(serialize=lambda: b"timings")
            return types.SimpleNamespace(
                add_optimization_profile=nothing, clear_flag=nothing, set_timing_cache=nothing,
                set_memory_pool_limit=nothing, create_timing_cache=lambda data: cache,
            )  # fmt: skip

        def create_optimization_profile(self) -> Any:
            return types.SimpleNamespace(set_shape=lambda name, low, best, high: None)

        def build_serialized_network(self, network: Network, config: Any) -> bytes:
            gpu.counts["build"] += 1
            return PLAN_MARK + network.model

    return types.SimpleNamespace(
        __version__="10.3.0", ILogger=Logger, IProgressMonitor=Monitor, Runtime=Runtime,
        Builder=Builder, OnnxParser=Parser, nptype=lambda dtype: dtype,
        TensorIOMode=types.SimpleNamespace(INPUT="in", OUTPUT="out"),
        NetworkDefinitionCreationFlag=types.SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=types.SimpleNamespace(TF32=0),
        MemoryPoolType=types.SimpleNamespace(WORKSPACE=0),
        CudaGraphStrategy=types.SimpleNamespace(WHOLE_GRAPH_CAPTURE=1),
        ExecutionContextAllocationStrategy=types.SimpleNamespace(USER_MANAGED=2),
    )  # fmt: skip


def _numpy(value: onnx.ValueInfoProto) -> Any:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _at(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(raw, np.uint8).view(dtype).reshape(shape)


def _layer(kind: str, dtype: str) -> Any:
    output = types.SimpleNamespace(dtype=f"DataType.{dtype}")
    return types.SimpleNamespace(type=f"LayerType.{kind}", get_output=lambda index: output)
