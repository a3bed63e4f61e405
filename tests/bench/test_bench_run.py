"""The command as a user runs it, on frames small enough for a test."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from ramedge.artifacts.artifact import MANIFEST_NAME, load_artifact, write_manifest
from ramedge.bench.result import load_result
from ramedge.bench.rounds import Lane, run_rounds
from ramedge.bench.settings import BenchSettings, Candidate, Size
from ramedge.bench.worker import Worker
from ramedge.errors import RuntimeUnavailableError
from ramedge.export.model import ExportSettings, export_model
from ramedge.files import file_digest

QUICK = ("--seconds", "0.5", "--warmup", "1", "--iterations", "4")


@pytest.fixture
def tinted(tmp_path: Path) -> Path:
    """The shipped model with 2/255 added to red, its manifest hashed anew."""
    folder = tmp_path / "tinted"
    export_model(ExportSettings(folder, runtime="onnx"))
    manifest = load_artifact(folder).manifest
    path = folder / manifest.model
    model = onnx.load(path)
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["untinted" if name == output.name else name for name in node.output]
    tint = np.array([2 / 255, 0, 0], np.float32).reshape(1, 3, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(tint, "tint"))
    model.graph.node.append(helper.make_node("Add", ["untinted", "tint"], [output.name]))
    onnx.save(model, path)
    files = dict(manifest.files) | {path.name: file_digest(path)}
    write_manifest(folder / MANIFEST_NAME, replace(manifest, files=files))
    return folder


@pytest.mark.slow
def test_the_default_runs_everything_side_by_side(
    ramedge, photo: np.ndarray, tmp_path: Path
) -> None:
    figures, page = tmp_path / "b.json", tmp_path / "b.html"
    Image.fromarray(photo).save(tmp_path / "photo.png")
    ended = ramedge(
        "bench", "--input", tmp_path / "photo.png", *QUICK, "--json", figures, "--html", page
    )
    assert ended.code == 0, ended.err
    result = load_result(figures)
    assert result.complete
    assert result.baseline == "PyTorch fp32"
    candidates = [(row.combination.runtime, row.combination.precision) for row in result.rows]
    assert candidates[:3] == [("torch", "fp32"), ("openvino", "fp32"), ("openvino", "fp16")]
    baseline = result.rows[0]
    assert baseline.ratio.low == baseline.ratio.high == 1.0
    assert baseline.quality.max_error == 0.0
    for row in result.rows:
        assert len(row.rounds) == len(baseline.rounds) == len(row.ratios)
        assert row.peak_bytes > 50_000_000
        assert row.load_seconds > 0
        # 0.94 million parameters of 4 bytes, or most of them of one.
        assert row.model_bytes > (900_000 if row.combination.precision == "int8" else 3_000_000)
        assert row.roofline_share > 0
        exported = row.combination.runtime != "torch"
        assert row.multiply_adds == (802_596 if exported else 936_000) * 64 * 72
        assert row.quality.reference == "PyTorch fp32"
        assert row.quality.psnr_y > row.quality.bicubic_psnr_y + 1
        assert row.percentile(50) <= row.percentile(90) <= row.percentile(99)
    assert [one.combination.key for one in result.end_to_end] == [
        row.combination.key for row in result.rows
    ]
    assert result.end_to_end[0].source == "photo.png"
    assert result.machine["libraries"]["openvino"]
    for words in ("PyTorch fp32", "OpenVINO fp32", "OpenVINO fp16", "PSNR-Y", "limit"):
        assert words in ended.out
    assert "<canvas" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_tint_is_caught_by_the_quality_and_the_exit_code(
    ramedge, tinted: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "b.json"
    ended = ramedge(
        "bench", "--model", tinted, "--precision", "fp32", "--size", "24x40", "--no-end-to-end",
        *QUICK, "--json", figures,
    )  # fmt: skip
    assert ended.code == 1
    assert "OpenVINO fp32 tinted ×2: A tint on chelsea.png: a colour channel is off by 2.000" in (
        ended.error
    )
    assert "BAD" in ended.out
    assert "PyTorch fp32 is measured as well" in ended.err
    good, bad = load_result(figures).rows
    assert (good.combination.runtime, good.quality.failure) == ("torch", "")
    assert bad.quality.channel_bias == pytest.approx((2 / 255, 0, 0), abs=1e-6)
    assert bad.quality.psnr_y < good.quality.psnr_y


class FakeWorker:
    def __init__(self, seconds: float, interrupted_after: int = 99) -> None:
        self.seconds = seconds
        self.left = interrupted_after

    def time(self, count: int) -> list[float]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return [self.seconds] * count


def lanes(*workers: FakeWorker) -> list:
    return [
        Lane(Candidate("torch", "fp32", 2), Size(1, 1), worker, SimpleNamespace(),
                     worker.seconds, SimpleNamespace(), SimpleNamespace(), None)
        for worker in workers
    ]  # fmt: skip


def test_rounds_are_interleaved_and_fast_engines_run_more_often() -> None:
    shown: list[str] = []
    both = lanes(FakeWorker(0.5), FakeWorker(0.01))
    settings = BenchSettings(seconds=5.5, iterations=100)
    assert run_rounds(both, settings, [], lambda *now: shown.append(now[3]))
    assert [len(lane.rounds) for lane in both] == [10, 10]
    assert [len(lane.rounds[0]) for lane in both] == [1, 5]


def test_ctrl_c_keeps_the_whole_rounds() -> None:
    both = lanes(FakeWorker(0.5), FakeWorker(0.5, interrupted_after=4))
    assert not run_rounds(both, BenchSettings(), [], lambda *now: None)
    assert [len(lane.rounds) for lane in both] == [4, 4]
    first = lanes(FakeWorker(0.5, interrupted_after=0))
    with pytest.raises(KeyboardInterrupt):
        run_rounds(first, BenchSettings(), [], lambda *now: None)


def test_energy_is_counted_per_frame() -> None:
    class Counter:
        name = "meter"
        total = 0.0

        def joules(self) -> float:
            self.total += 10.0
            return self.total

    (lane,) = lanes(FakeWorker(0.01))
    run_rounds([lane], BenchSettings(iterations=3), [Counter()], lambda *now: None)
    assert lane.joules == [{"meter": 2.0}] * 3


def test_a_process_that_dies_is_one_line() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    with closing(Worker(Candidate("openvino", "fp32", 2), pixels)) as worker:
        assert worker.open().precision == "fp32"
        worker._process.kill()
        with pytest.raises(RuntimeUnavailableError, match="was killed: if memory ran out"):
            worker.time(1)
