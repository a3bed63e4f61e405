"""Device memory, streams, events and graphs, through cuda-python or pycuda.

Both retain the device's primary context, the one that PyTorch and the CUDA runtime use, and make
it current only while they work: they live beside others in one process. pycuda has no graphs.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError, UsageError

CHOICE = "RAMEDGE_CUDA"
"""Environment variable: `cuda-python` or `pycuda`, where both are installed."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What an engine belongs to.

    Attributes:
        name: the GPU's.
        compute_capability: for example `8.7`.
        driver: the CUDA version that the driver supports, for example `12.6`.
    """

    name: str
    compute_capability: str
    driver: str


NO_GPU = GpuFacts("none", "none", "none")


class Cuda(ABC):
    """One device. Methods but `active` and `close` want to be called inside `active()`.

    Streams, events and graphs are opaque; `stream_handle` gives what TensorRT takes.
    """

    name: str
    has_graphs: bool
    facts: GpuFacts

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device's primary context current in this thread."""
        self._push()
        try:
            yield
        finally:
            self._pop()

    @abstractmethod
    def _push(self) -> None: ...

    @abstractmethod
    def _pop(self) -> None: ...

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes, aligned to 256: its address. MemoryError where full."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give device memory back."""

    @abstractmethod
    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory, `[size]`; it lives until `free_pinned`."""

    @abstractmethod
    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give page-locked memory back."""

    @abstractmethod
    def free_memory(self) -> int:
        """Bytes of device memory that are free."""

    @abstractmethod
    def make_stream(self) -> Any:
        """A stream that does not wait for the default stream."""

    @abstractmethod
    def stream_handle(self, stream: Any) -> int:
        """The stream as TensorRT takes it."""

    @abstractmethod
    def synchronize(self, stream: Any) -> None:
        """Wait until the stream has done its work."""

    @abstractmethod
    def to_device(self, address: int, source: NDArray[np.uint8], stream: Any) -> None:
        """Copy pinned bytes to the device, in the stream's order."""

    @abstractmethod
    def to_host(self, target: NDArray[np.uint8], address: int, stream: Any) -> None:
        """Copy bytes of the device to pinned memory, in the stream's order."""

    @abstractmethod
    def make_event(self) -> Any:
        """An event that measures time."""

    @abstractmethod
    def record(self, event: Any, stream: Any) -> None:
        """Mark this point of the stream's work."""

    @abstractmethod
    def milliseconds(self, first: Any, second: Any) -> float:
        """Between two events, after waiting for the second."""

    @abstractmethod
    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """What `work` puts into the stream as a graph; nothing of it runs."""

    @abstractmethod
    def launch(self, graph: Any, stream: Any) -> None:
        """Run a graph in a stream."""

    @abstractmethod
    def close(self) -> None:
        """Let the primary context go."""


def open_cuda(device: int = 0) -> Cuda:
    """The GPU through cuda-python, or pycuda where that alone is installed or asked for.

    Raises:
        RuntimeUnavailableError: neither is installed, or there is no such GPU.
        UsageError: the environment asks for something else.
    """
    from ramedge.runtimes.tensorrt.cuda_bindings import BINDINGS

    wanted = os.environ.get(CHOICE, "")
    if wanted and wanted not in BINDINGS:
        raise UsageError(f"{CHOICE}={wanted}: choose cuda-python or pycuda.")
    reasons = []
    for name in [wanted] if wanted else BINDINGS:
        try:
            return BINDINGS[name](device)
        except RuntimeUnavailableError as failure:
            reasons.append(f"{name}: {str(failure).rstrip('.')}")
    raise RuntimeUnavailableError(f"No NVIDIA GPU can be used ({'; '.join(reasons)}).")


def gpu_facts(device: int = 0) -> GpuFacts:
    """What the GPU is; `NO_GPU` where there is none or nothing to ask it with."""
    try:
        cuda = open_cuda(device)
    except RuntimeUnavailableError:
        return NO_GPU
    cuda.close()
    return cuda.facts
