"""The one channel for what a user should know of a run: decisions, fallbacks, conversions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Notes:
    """Lines for the user, each once, in the order in which they were added.

    >>> notes = Notes(["PyTorch computes in FP32 on a CPU."])
    >>> notes.add("Tiles of 64 pixels.")
    >>> notes.add("Tiles of 64 pixels.")
    >>> len(notes)
    2
    >>> notes.restart()
    >>> list(notes)
    ['PyTorch computes in FP32 on a CPU.']
    """

    def __init__(self, lasting: Iterable[str] = ()) -> None:
        """Begin with lines that `restart` keeps, those of the runtime for example."""
        self._lasting = tuple(lasting)
        self._lines = dict.fromkeys(self._lasting)

    def add(self, note: str) -> None:
        """Add one line, unless it is there already."""
        self._lines.setdefault(note)

    def restart(self) -> None:
        """Keep the lasting lines only: another file begins."""
        self._lines = dict.fromkeys(self._lasting)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._lines))

    def __len__(self) -> int:
        return len(self._lines)
