from __future__ import annotations

from typing import Any

import pytest

import ramedge
from ramedge.errors import UsageError
from ramedge.tiling.options import TilingOptions

pytestmark = pytest.mark.base


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"tile": 15}, "at least 16"),
        ({"tile": 0}, "at least 16"),
        ({"tile": None}, "whole"),
        ({"tile": "16"}, "not a whole number|a whole number"),
        ({"memory": -1}, "leaves nothing"),
        ({"memory": "1GiB"}, "not a whole number"),
        ({"mode": "follow"}, "exact, temporal, fast"),
    ],
)
def test_options_that_cannot_be_are_refused(option: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TilingOptions(**option)


def test_options_that_can_be() -> None:
    assert ramedge.TilingOptions() == TilingOptions("auto", "exact", None)
    for tile in ("auto", "whole", 16, 1000):
        assert TilingOptions(tile).tile == tile  # type: ignore[arg-type]
