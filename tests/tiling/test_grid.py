from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramedge.errors import UsageError
from ramedge.tiling.grid import TilePlan
from ramedge.types import Window


@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.integers(1, 80),
    halo=st.integers(0, 40),
)
def test_every_pixel_is_written_once_from_equal_windows(
    height: int, width: int, tile: int, halo: int
) -> None:
    plan = TilePlan(height, width, tile, halo)
    written = np.zeros((height, width), int)
    shapes = set()
    tiles = list(plan)
    for part in tiles:
        written[part.interior.slices] += 1
        shapes.add((part.source.height, part.source.width))
        assert 0 <= part.source.top <= part.source.bottom <= height
        assert 0 <= part.source.left <= part.source.right <= width
        # What is kept lies in what is read, the whole halo round it except beyond the image.
        assert part.source.top <= max(0, part.interior.top - halo)
        assert part.source.left <= max(0, part.interior.left - halo)
        assert part.source.bottom >= min(height, part.interior.bottom + halo)
        assert part.source.right >= min(width, part.interior.right + halo)
    assert (written == 1).all()
    assert shapes == {(plan.source_height, plan.source_width)}
    assert len(tiles) == plan.count


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    tile=st.integers(1, 30),
    scale=st.sampled_from([2, 3, 4]),
)
def test_stitching_a_local_operation_is_the_operation_on_the_whole(
    height: int, width: int, tile: int, scale: int
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width))

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        return np.kron(pixels, np.ones((scale, scale), int))

    result = np.zeros((height * scale, width * scale), int)
    for part in TilePlan(height, width, tile, 2):
        output = enlarge(image[part.source.slices])
        kept = part.interior.within(part.source).scaled(scale)
        result[part.interior.scaled(scale).slices] = output[kept.slices]
    np.testing.assert_array_equal(result, enlarge(image))


def test_window_measures() -> None:
    window = Window(2, 3, 7, 13)
    assert (window.height, window.width) == (5, 10)
    assert window.scaled(2) == Window(4, 6, 14, 26)


@pytest.mark.parametrize("arguments", [(0, 5, 8, 2), (5, 5, 0, 2), (5, 5, 8, -1)])
def test_impossible_plans_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError):
        TilePlan(*arguments)
