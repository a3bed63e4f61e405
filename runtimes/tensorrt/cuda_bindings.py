"""The two bindings to CUDA's driver API: cuda-python and pycuda."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError
from ramedge.runtimes.tensorrt.cuda import Cuda, GpuFacts


class CudaPython(Cuda):
    """NVIDIA's cuda-python, through the driver API."""

    name = "cuda-python"
    has_graphs = True

    def __init__(self, device: int = 0) -> None:
        self._driver = driver = _import_cuda_python()
        self._check(driver.cuInit(0))
        self._device = self._check(driver.cuDeviceGet(device))
        major = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        minor = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
        name = self._check(driver.cuDeviceGetName(128, self._device))
        capability = [
            self._check(driver.cuDeviceGetAttribute(a, self._device)) for a in (major, minor)
        ]
        version = self._check(driver.cuDriverGetVersion())
        self.facts = GpuFacts(
            name.split(b"\0")[0].decode(), "{}.{}".format(*capability), _version(version)
        )
        self._context = self._check(driver.cuDevicePrimaryCtxRetain(self._device))

    def _check(self, result: tuple[Any, ...]) -> Any:
        code, *values = result
        driver = self._driver
        if code == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError("The GPU is out of memory.")
        if code != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeUnavailableError(f"CUDA: {getattr(code, 'name', code)}.")
        return values[0] if values else None

    def _push(self) -> None:
        self._check(self._driver.cuCtxPushCurrent(self._context))

    def _pop(self) -> None:
        self._check(self._driver.cuCtxPopCurrent())

    def allocate(self, size: int) -> int:  # noqa: D102
        return int(self._check(self._driver.cuMemAlloc(size)))

    def free(self, address: int) -> None:  # noqa: D102
        self._check(self._driver.cuMemFree(address))

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:  # noqa: D102
        return _view(int(self._check(self._driver.cuMemAllocHost(size))), size)

    def free_pinned(self, array: NDArray[np.uint8]) -> None:  # noqa: D102
        self._check(self._driver.cuMemFreeHost(array.ctypes.data))

    def free_memory(self) -> int:  # noqa: D102
        code, free, _total = self._driver.cuMemGetInfo()
        return int(self._check((code, free)))

    def make_stream(self) -> Any:  # noqa: D102
        flags = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        return self._check(self._driver.cuStreamCreate(flags.value))

    def stream_handle(self, stream: Any) -> int:  # noqa: D102
        return int(stream)

    def synchronize(self, stream: Any) -> None:  # noqa: D102
        self._check(self._driver.cuStreamSynchronize(stream))

    def to_device(  # noqa: D102
        self, address: int, source: NDArray[np.uint8], stream: Any
    ) -> None:
        pointer = source.ctypes.data
        self._check(self._driver.cuMemcpyHtoDAsync(address, pointer, source.nbytes, stream))

    def to_host(self, target: NDArray[np.uint8], address: int, stream: Any) -> None:  # noqa: D102
        pointer = target.ctypes.data
        self._check(self._driver.cuMemcpyDtoHAsync(pointer, address, target.nbytes, stream))

    def make_event(self) -> Any:  # noqa: D102
        return self._check(self._driver.cuEventCreate(0))

    def record(self, event: Any, stream: Any) -> None:  # noqa: D102
        self._check(self._driver.cuEventRecord(event, stream))

    def milliseconds(self, first: Any, second: Any) -> float:  # noqa: D102
        self._check(self._driver.cuEventSynchronize(second))
        return float(self._check(self._driver.cuEventElapsedTime(first, second)))

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:  # noqa: D102
        driver = self._driver
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check(driver.cuStreamBeginCapture(stream, mode))
        try:
            work()
        finally:
            graph = self._check(driver.cuStreamEndCapture(stream))
        return self._check(driver.cuGraphInstantiate(graph, 0))

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: D102
        self._check(self._driver.cuGraphLaunch(graph, stream))

    def close(self) -> None:  # noqa: D102
        self._check(self._driver.cuDevicePrimaryCtxRelease(self._device))


class PyCuda(Cuda):
    """pycuda, without `pycuda.autoinit`, which would make a context of its own."""

    name = "pycuda"
    has_graphs = False

    def __init__(self, device: int = 0) -> None:
        self._driver = driver = _import_pycuda()
        self._errors = _errors_of(driver)
        with self._errors():
            driver.init()
            handle = driver.Device(device)
            major, minor = handle.compute_capability()
            version = driver.get_driver_version()
            self.facts = GpuFacts(handle.name(), f"{major}.{minor}", _version(version))
            self._context = handle.retain_primary_context()
        self._memory: dict[int, Any] = {}

    def _push(self) -> None:
        self._context.push()

    def _pop(self) -> None:
        self._context.pop()

    def allocate(self, size: int) -> int:  # noqa: D102
        with self._errors():
            memory = self._driver.mem_alloc(size)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:  # noqa: D102
        self._memory.pop(address).free()

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:  # noqa: D102
        with self._errors():
            array: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:  # noqa: D102
        array.base.free()  # type: ignore[union-attr]  # pycuda's allocation

    def free_memory(self) -> int:  # noqa: D102
        return int(self._driver.mem_get_info()[0])

    def make_stream(self) -> Any:  # noqa: D102
        # pycuda's own flag argument came late; its default stream is never used here.
        return self._driver.Stream()

    def stream_handle(self, stream: Any) -> int:  # noqa: D102
        return int(stream.handle)

    def synchronize(self, stream: Any) -> None:  # noqa: D102
        with self._errors():
            stream.synchronize()

    def to_device(  # noqa: D102
        self, address: int, source: NDArray[np.uint8], stream: Any
    ) -> None:
        self._driver.memcpy_htod_async(address, source, stream)

    def to_host(self, target: NDArray[np.uint8], address: int, stream: Any) -> None:  # noqa: D102
        self._driver.memcpy_dtoh_async(target, address, stream)

    def make_event(self) -> Any:  # noqa: D102
        return self._driver.Event()

    def record(self, event: Any, stream: Any) -> None:  # noqa: D102
        event.record(stream)

    def milliseconds(self, first: Any, second: Any) -> float:  # noqa: D102
        second.synchronize()
        return float(first.time_till(second))

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:  # noqa: ARG002, D102
        raise RuntimeUnavailableError("pycuda has no CUDA graphs: pip install cuda-python.")

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: ARG002, D102
        raise RuntimeUnavailableError("pycuda has no CUDA graphs: pip install cuda-python.")

    def close(self) -> None:  # noqa: D102
        self._context.detach()


BINDINGS: dict[str, type[CudaPython] | type[PyCuda]] = {
    "cuda-python": CudaPython,
    "pycuda": PyCuda,
}
"""By name, the one to be preferred first."""


def _import_cuda_python() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError:
        try:
            from cuda import cuda as driver  # cuda-python before 12.8
        except ImportError:
            raise RuntimeUnavailableError("not installed, pip install cuda-python") from None
    try:
        driver.cuDriverGetVersion()
    except RuntimeError:  # cannot find libcuda
        raise RuntimeUnavailableError("there is no NVIDIA driver (libcuda)") from None
    return driver


def _import_pycuda() -> Any:
    try:
        import pycuda.driver
    except ModuleNotFoundError:
        raise RuntimeUnavailableError("not installed, pip install pycuda") from None
    except ImportError as error:  # libcuda.so.1 is absent
        raise RuntimeUnavailableError(str(error)) from None
    return pycuda.driver


def _errors_of(driver: Any) -> Callable[[], Any]:
    @contextmanager
    def errors() -> Iterator[None]:
        try:
            yield
        except driver.MemoryError as error:
            raise MemoryError(f"The GPU is out of memory: {error}") from None
        except driver.Error as error:
            raise RuntimeUnavailableError(f"CUDA: {error}.") from None

    return errors


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _view(address: int, size: int) -> NDArray[np.uint8]:
    import ctypes

    array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    return array
