"""Memory of the host and of the device that computes: what is needed, and what is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ramedge.host_memory import available_bytes, resident_bytes

_FREE_SHARE = 0.7
"""Share of the free memory that is planned for: the rest is for other processes and codecs."""
_LIMIT_SHARE = 0.9
"""Share of a limit that is planned for: decoders, encoders and the allocator take their part."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that something takes.

    Attributes:
        host: in the host's memory.
        device: in a GPU's own memory; 0 where the network computes in the host's.
    """

    host: float = 0
    device: float = 0

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(self.host + other.host, self.device + other.device)

    @property
    def total(self) -> float:
        """Of both."""
        return self.host + self.device


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that may be taken, in the host's memory and in a GPU's own.

    Attributes:
        taken: bytes of the host's memory that are taken already: what the process holds, and what
            stands beside the network.
    """

    host: float
    device: float = 0
    taken: float = field(default=0, compare=False)

    def holds(self, needed: Footprint) -> bool:
        """Whether that fits."""
        return needed.host <= self.host and needed.device <= self.device

    def least_limit(self, needed: Footprint) -> float:
        """Bytes of a limit for the whole process that would leave room for that."""
        return max(needed.host + self.taken, needed.device) / _LIMIT_SHARE

    def shortage(self, needed: Footprint) -> Shortage:
        """Of the memory in which that does not fit."""
        if needed.device > self.device:
            return Shortage("GPU memory", needed.device, self.device)
        return Shortage("memory", needed.host, self.host)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Bytes `needed` and `free` of the memory that does not suffice, and its name."""

    name: str
    needed: float
    free: float


class MemoryBudget:
    """What may be taken from now on, beside what the process holds already."""

    def __init__(
        self, limit: int | None = None, device_free: Callable[[], int | None] = lambda: None
    ) -> None:
        """Look at what the process holds now.

        Args:
            limit: bytes for the whole process, of the host's memory and of the GPU's each; `None`
                is what is free.
            device_free: free bytes of the GPU now; `None` where there is none.
        """
        self._limit = limit
        self._held = resident_bytes()
        self._device_free = device_free
        self._most_on_device = device_free() or 0

    def room(self, beside: float = 0) -> Room:
        """Room for everything taken since; what was taken since is not taken off.

        So graphs that one frame loaded do not make the tiles of the next one smaller. `beside` is
        taken off that of the host: what stands there beside the network, in bytes.
        """
        return Room(max(0.0, self._host() - beside), self._device(), self._held + beside)

    def _host(self) -> float:
        if self._limit is not None:
            return max(0.0, self._limit * _LIMIT_SHARE - self._held)
        return _FREE_SHARE * (available_bytes() + max(0, resident_bytes() - self._held))

    def _device(self) -> float:
        # The driver does not tell what of a GPU's memory is this process's: at least what was free
        # before it took any.
        self._most_on_device = max(self._most_on_device, self._device_free() or 0)
        free = _FREE_SHARE * self._most_on_device
        return free if self._limit is None else min(free, self._limit * _LIMIT_SHARE)
