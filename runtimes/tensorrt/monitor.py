"""How far a builder of TensorRT is, and the user's wish that it stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

OnProgress = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and the phase's name."""


def make_monitor(trt: Any, cancel: threading.Event, on_progress: OnProgress) -> Any:
    """An `IProgressMonitor`; the builder stops at its next step once `cancel` is set."""
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # its base is known only when it runs
        """Turns nested phases into one share, and passes on that the user wants to stop."""

        def __init__(self) -> None:
            base.__init__(self)
            self._phases: dict[str, tuple[int, int]] = {}
            self._share = 0.0
            self._lock = threading.Lock()

        def phase_start(self, name: str, _parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases[name] = (0, max(1, steps))
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                _, steps = self._phases.get(name, (0, step + 1))
                self._phases[name] = (step + 1, steps)
            self._tell(name)
            return not cancel.is_set()

        def phase_finish(self, name: str) -> None:
            with self._lock:
                self._phases.pop(name, None)
            self._tell(name)

        def _tell(self, name: str) -> None:
            with self._lock:
                share, part = 0.0, 1.0
                for done, steps in self._phases.values():
                    part /= steps
                    share += part * min(done, steps)
                # Phases that begin late make the whole longer: the bar never goes back.
                self._share = max(self._share, min(1.0, share), 1e-3)
                found = self._share
            on_progress(found, name)

    return Monitor()
