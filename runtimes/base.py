"""The interface of a backend: a session runs the named graphs of one network on arrays.

What is above backends (checks, 16-bit pixels, masks, the statistic in FP64) is in
`ramedge.runtimes.runtime`; `tests/conformance` runs every graph on every backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.graphs import PixelType
from ramedge.runtimes.limits import Limits

Arrays = Sequence[NDArray[Any]]
Floats = NDArray[np.float32]
S = TypeVar("S", bound="Session")

COMPUTE_DTYPES: Mapping[str, str] = MappingProxyType(
    {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
)
"""Name of the type that a precision computes in."""


class GraphRequest(NamedTuple):
    """Which graph of a network is to run.

    Attributes:
        name: `frame`, `tile`, `statistics` or a part (`ramedge.artifacts.graphs`).
        pixels: of its image and output, where it has them.
        fp32: compute in FP32 whatever the session's precision is.
    """

    name: str
    pixels: PixelType = "float32"
    fp32: bool = False


class Session(ABC):
    """One network of one scale, loaded and ready on one device. For one thread at a time.

    Attributes:
        name: of the backend, `openvino`, `torch` …
        device: where it computes, by the backend's name.
        precision: the arithmetic that really runs: `fp32`, `bf16`, `fp16` or `int8`.
        compute_dtype: what is computed in: `float32`, `bfloat16` or `float16`; of `int8` what
            stands around it.
        notes: fallbacks taken while opening, each one line for the user.
    """

    name: str
    device: str
    precision: str
    compute_dtype: str
    notes: tuple[str, ...] = ()

    @property
    def limits(self) -> Limits:
        """What the device allows now."""
        return Limits()

    def feature_dtype(self, fp32: bool) -> np.dtype[Any]:
        """Of the features at the edges of a part. Half-precision bits may be of bfloat16."""
        del fp32
        return np.dtype(np.float32)

    @abstractmethod
    def run(self, graph: GraphRequest, values: Arrays) -> list[NDArray[Any]]:
        """Run a graph once.

        Args:
            graph: which.
            values: its inputs in their order, see `ramedge.artifacts.graphs.cut`; contiguous.

        Returns:
            Its outputs in their order. Those of a part may be overwritten by the next run of it.

        Raises:
            RuntimeError, MemoryError: the device's memory does not suffice, see `memory_errors`.
        """

    def run_many(
        self, graph: GraphRequest, values: Iterable[Arrays]
    ) -> Iterator[list[NDArray[Any]]]:
        """`run` for one set of inputs of equal shapes after another, in order.

        Several are in flight at once where that is faster.
        """
        for given in values:
            yield self.run(graph, given)

    def close(self) -> None:  # noqa: B027  # most backends have nothing to free
        """Free what the session holds. It must not be used afterwards."""

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_OUT_OF_MEMORY = (
    "out of memory",
    "can't alloc",
    "cannot allocate",
    "failed to allocate",
    "bad_alloc",
    "resource temporarily unavailable",  # no room for a thread's stack
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a backend's error says that memory is exhausted."""
    text = str(error).lower()
    return any(words in text for words in _OUT_OF_MEMORY)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Backends report exhausted memory as any RuntimeError: make it a MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error).strip().splitlines()[0]) from None
        raise
