"""One engine on one device: buffers, streams, graphs, and several frames in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError
from ramedge.runtimes.tensorrt.cuda import Cuda
from ramedge.runtimes.tensorrt.log import make_logger
from ramedge.runtimes.tensorrt.variant import Variant

if TYPE_CHECKING:
    import tensorrt as rt
    import tensorrt_rtx as rtx

SLOTS = 2
"""Frames in flight: one computes while the next is copied in and the one before out."""

Arrays = Sequence[NDArray[Any]]
ShapeKey = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Buffer:
    """One tensor: memory on the device and pinned memory, as large as was ever needed."""

    device: int = 0
    pinned: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def host(self) -> NDArray[Any]:
        """The pinned memory as the tensor."""
        return self.pinned[: self.size].view(self.dtype).reshape(self.shape)


class _Slot:
    """What one frame in flight needs for itself: context, stream, buffers and graphs."""

    def __init__(self, session: LoadedEngine) -> None:
        self._session = session
        self._cuda = session.cuda
        self._context: rt.IExecutionContext = session.make_context()
        self._stream = self._cuda.make_stream()
        self._inputs = {name: _Buffer() for name in session.inputs}
        self._outputs = {name: _Buffer() for name in session.outputs}
        self._scratch, self._scratch_size = 0, 0
        self._shapes: ShapeKey = ()
        self._runs = 0
        self._graphs: dict[ShapeKey, Any] = {}

    def submit(self, values: Arrays) -> None:
        """Start a frame; `collect` waits for it."""
        shapes = tuple(value.shape for value in values)
        if shapes != self._shapes:
            self._reshape(values, shapes)
        for buffer, value in zip(self._inputs.values(), values, strict=True):
            np.copyto(buffer.host(), value)
        graph = self._graphs.get(shapes)
        if graph is None and self._session.captures and self._runs > 0:
            # The first run of a shape loads kernels, which must not happen while capturing.
            graph = self._graphs[shapes] = self._cuda.capture(self._stream, self._enqueue)
        if graph is None:
            self._enqueue()
        else:
            self._cuda.launch(graph, self._stream)
        self._runs += 1

    def collect(self) -> list[NDArray[Any]]:
        """The outputs of the frame that was submitted, copied out of the pinned memory."""
        self._cuda.synchronize(self._stream)
        return [buffer.host().copy() for buffer in self._outputs.values()]

    def _enqueue(self) -> None:
        cuda, stream = self._cuda, self._stream
        for buffer in self._inputs.values():
            cuda.to_device(buffer.device, buffer.pinned[: buffer.size], stream)
        if not self._context.execute_async_v3(cuda.stream_handle(stream)):
            raise self._session.failure()
        for buffer in self._outputs.values():
            cuda.to_host(buffer.pinned[: buffer.size], buffer.device, stream)

    def _reshape(self, values: Arrays, shapes: ShapeKey) -> None:
        context = self._context
        self._shapes, self._runs = (), 0
        for (name, buffer), value in zip(self._inputs.items(), values, strict=True):
            if not context.set_input_shape(name, value.shape):
                raise self._session.failure()
            self._grow(name, buffer, value.shape, value.dtype)
        for name, buffer in self._outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            self._grow(name, buffer, shape, self._session.outputs[name])
        size = max(1, int(context.update_device_memory_size_for_shapes()))
        if size > self._scratch_size:
            self._graphs.clear()
            self._release_scratch()
            self._scratch = self._cuda.allocate(size)
            self._scratch_size = size
        context.set_device_memory(self._scratch, self._scratch_size)
        self._shapes = shapes

    def _grow(
        self, name: str, buffer: _Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        buffer.shape, buffer.dtype = shape, np.dtype(dtype)
        if buffer.size > buffer.pinned.size:
            # Graphs hold the addresses that go now.
            self._graphs.clear()
            self._release(buffer)
            buffer.device = self._cuda.allocate(buffer.size)
            buffer.pinned = self._cuda.allocate_pinned(buffer.size)
        self._context.set_tensor_address(name, buffer.device)

    def _release(self, buffer: _Buffer) -> None:
        if buffer.device:
            self._cuda.free(buffer.device)
        if buffer.pinned.size:
            self._cuda.free_pinned(buffer.pinned)
        buffer.device, buffer.pinned = 0, np.empty(0, np.uint8)

    def _release_scratch(self) -> None:
        if self._scratch:
            self._cuda.free(self._scratch)
        self._scratch, self._scratch_size = 0, 0

    def close(self) -> None:
        self._cuda.synchronize(self._stream)
        self._graphs.clear()
        for buffer in (*self._inputs.values(), *self._outputs.values()):
            self._release(buffer)
        self._release_scratch()
        del self._context


class LoadedEngine:
    """A deserialized engine, ready to run on one device."""

    def __init__(self, plan: bytes, variant: Variant, cuda: Cuda) -> None:
        """Load a plan that this user built, its hash compared (`ramedge.runtimes.tensorrt.cache`).

        Raises:
            RuntimeUnavailableError: it is not for this device or library.
        """
        trt = variant.load()
        self.cuda = cuda
        self.variant = variant
        self.captures = cuda.has_graphs and not variant.captures_itself
        self._trt = trt
        self._log = make_logger(trt)
        with cuda.active():
            self._runtime: rt.Runtime = trt.Runtime(self._log)
            self._engine = self._deserialize(self._runtime, plan)
            self.inputs, self.outputs = self._tensors(self._engine)
            self._slots: list[_Slot] = []

    def _deserialize(self, runtime: rt.Runtime, plan: bytes) -> Any:
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self.failure()
        return engine

    def _tensors(
        self, engine: rt.ICudaEngine
    ) -> tuple[dict[str, np.dtype[Any]], dict[str, np.dtype[Any]]]:
        trt = self._trt
        inputs: dict[str, np.dtype[Any]] = {}
        outputs: dict[str, np.dtype[Any]] = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (inputs if is_input else outputs)[name] = dtype
        return inputs, outputs

    def make_context(self) -> Any:
        """A context whose scratch memory is ours, as large as a shape needs."""
        trt = self._trt
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.variant.captures_itself:
            context = self._make_capturing_context(self._engine, strategy)
        else:
            context = _make_context(self._engine, strategy)
        if context is None:
            raise self.failure()
        return context

    def _make_capturing_context(self, engine: rtx.ICudaEngine, strategy: Any) -> Any:
        rtx_module = self._trt
        config: rtx.IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.cuda_graph_strategy = rtx_module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(config)

    def failure(self) -> Exception:
        """What the library said last, as an exception."""
        reason = self._log.reason()
        compact = reason.lower().replace(" ", "")
        if "outofmemory" in compact or "cudaerrormemoryallocation" in compact:
            return MemoryError(reason)
        return RuntimeUnavailableError(f"{self.variant.title} cannot run the engine: {reason}")

    def run(self, values: Arrays) -> list[NDArray[Any]]:
        """Inputs in the engine's order → outputs."""
        (found,) = self.run_many([values])
        return found

    def run_many(self, frames: Iterable[Arrays]) -> Iterator[list[NDArray[Any]]]:
        """Frames in, outputs out, in order, `SLOTS` of them in flight."""
        flying: deque[_Slot] = deque()
        try:
            for values in frames:
                slot = self._free_slot(flying)
                if slot is None:
                    slot = flying.popleft()
                    yield self._collect(slot)
                with self.cuda.active():
                    slot.submit(values)
                flying.append(slot)
            while flying:
                yield self._collect(flying.popleft())
        finally:
            for slot in flying:  # given up in the middle: nothing may run on
                self._collect(slot)

    def _free_slot(self, flying: deque[_Slot]) -> _Slot | None:
        free = next((slot for slot in self._slots if slot not in flying), None)
        if free is None and len(self._slots) < SLOTS:
            with self.cuda.active():
                free = _Slot(self)
            self._slots.append(free)
        return free

    def _collect(self, slot: _Slot) -> list[NDArray[Any]]:
        with self.cuda.active():
            return slot.collect()

    def close(self) -> None:
        """Free contexts, memory and the engine."""
        with self.cuda.active():
            for slot in self._slots:
                slot.close()
            self._slots.clear()
            del self._engine
            del self._runtime


def _make_context(engine: rt.ICudaEngine, strategy: Any) -> Any:
    return engine.create_execution_context(strategy)
