from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ramedge.bench.result import BenchResult, Spread, load_result
from ramedge.bench.table import figure_lines
from ramedge.errors import InputError


def test_a_result_survives_its_json(result: BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(result.as_dict(), allow_nan=False))
    assert load_result(path) == result
    document = json.loads(path.read_text())
    assert (document["kind"], document["schema"]) == ("ramedge bench", 1)
    derived = document["rows"][0]["derived"]
    assert derived["p50_ms"] == pytest.approx(1100)
    assert derived["gflops"] == pytest.approx(2 * 53.9136 / 1.1)
    assert derived["roofline_share"] == pytest.approx(2 * 53.9136 / 1.1 / 200)
    assert document["end_to_end"][0]["derived"]["limit"] == "network"


def test_a_percentile_is_a_run_that_happened(row) -> None:
    seconds = np.random.default_rng(0).uniform(1, 2, 40)
    found = row(rounds=seconds)
    for percent in (50, 90, 99):
        value = found.percentile(percent)
        assert value in seconds
        assert np.mean(seconds <= value) >= percent / 100
    assert found.percentile(99) == seconds.max()


def test_a_spread_holds_eight_of_ten() -> None:
    spread = Spread.of([float(value) for value in range(1, 12)])
    assert (spread.low, spread.median, spread.high) == (2, 6, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "not JSON"),
        ("[]", "not a result of ramedge bench"),
        ('{"schema": 1}', "not a result of ramedge bench"),
        ('{"kind": "ramedge bench", "schema": 2}', "schema 2"),
        ('{"kind": "ramedge bench", "schema": 1, "rows": [{}]}', "damaged"),
    ],
)
def test_what_is_no_result_is_refused(ramedge, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_result(path)
    ended = ramedge("bench", "--compare", path, path)
    assert ended.code == 1
    assert words in ended.error


def test_an_emptied_round_is_refused(result: BenchResult, tmp_path: Path) -> None:
    document = result.as_dict()
    document["rows"][0]["rounds"] = []
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="damaged"):
        load_result(path)


def test_figures_that_no_combination_has_are_left_out(result: BenchResult) -> None:
    lines = dict(figure_lines(result.rows, "PyTorch fp32"))
    assert lines["p50 ms"] == ["1100", "500", "200"]
    assert lines["speed, PyTorch fp32 = 1"] == ["1.00", "2.00 (2.00–2.20)", "5.00 (3.70–6.00)"]
    assert lines["quality"] == ["good"] * 3
    assert not [name for name in lines if name.startswith(("J/frame", "device"))]
