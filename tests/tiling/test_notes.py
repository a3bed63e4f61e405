from __future__ import annotations

import pytest

from ramedge.tiling.notes import Notes

pytestmark = pytest.mark.base


def test_each_line_is_there_once_in_order() -> None:
    notes = Notes(["lasting"])
    for line in ("b", "a", "b", "lasting"):
        notes.add(line)
    assert list(notes) == ["lasting", "b", "a"]
    notes.restart()
    assert list(notes) == ["lasting"]
    assert len(notes) == 1
    assert not Notes()
