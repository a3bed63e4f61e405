from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ramedge.errors import InputError
from ramedge.quality.benchmark_sets import evaluate_sets
from ramedge.quality.evaluation import evaluate
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler


@pytest.fixture
def sets(photo: np.ndarray, tmp_path: Path) -> list[Path]:
    """Folders `large`, with two photos, and `small`, with one that is just large enough for ×4."""
    crops = {"large/0.png": photo, "large/4.png": photo[4:], "small/20.png": photo[:20, :24]}
    for name, crop in crops.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(path)
    return [tmp_path / "large", tmp_path / "small"]


@pytest.fixture
def upscalers(multi_weights: Path):
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Upscaler(RuntimeSettings(scale=s, model=multi_weights, precision="fp32"))
            )
            for s in (2, 4, 3)
        ]


def test_every_set_is_measured_at_every_scale(sets: list[Path], upscalers: list[Upscaler]) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate_sets(
        [*sets, sets[0]], upscalers, lambda done, total: seen.append((done, total))
    )
    measured = [(e.scale, e.name) for e in result.evaluations]
    assert measured == [(2, "large"), (2, "small"), (4, "large"), (4, "small"), (3, "large"),
                        (3, "small")]  # fmt: skip
    assert seen == [(done, 9) for done in range(1, 10)]
    assert result.failures == ()
    assert result.evaluations[2] == evaluate(sets[0], upscalers[1])


def test_a_set_that_cannot_be_measured_does_not_end_the_others(
    sets: list[Path], upscalers: list[Upscaler]
) -> None:
    Image.new("RGB", (16, 16)).save(sets[1] / "20.png")
    (sets[0] / "bad.png").write_bytes(b"bad")
    result = evaluate_sets(sets, upscalers[:2])
    measured = [(e.scale, e.name) for e in result.evaluations]
    assert measured == [(2, "large"), (2, "small"), (4, "large")]
    assert [failure.name for failure in result.failures] == ["bad.png", "bad.png", "small ×4"]
    document = result.as_dict()
    assert document["failed"][0]["name"] == "small ×4"
    assert [len(e["failed"]) for e in document["evaluations"]] == [1, 0, 1]


def test_missing_sets_are_said_before_anything_is_measured(
    sets: list[Path], upscalers: list[Upscaler], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in [("nothing", "No such folder"), ("empty", "No photos")]:
        with pytest.raises(InputError, match=message):
            evaluate_sets([sets[0], tmp_path / name], upscalers, lambda *_: pytest.fail("measured"))


def test_nothing_to_measure(sets: list[Path], upscalers: list[Upscaler]) -> None:
    Image.new("RGB", (8, 8)).save(sets[1] / "20.png")
    with pytest.raises(InputError, match="too small"):
        evaluate_sets(sets[1:], upscalers)
    with pytest.raises(InputError, match="give a folder"):
        evaluate_sets([], upscalers)
