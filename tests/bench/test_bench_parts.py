from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ramedge.bench import roofline, settings
from ramedge.bench.quality import Photo, sample_pairs, summarize
from ramedge.bench.roofline import measure_roofline
from ramedge.bench.settings import BenchSettings, Candidate, Size, chosen_candidates, reference_of
from ramedge.bench.stages import Stages, run_stages
from ramedge.errors import UsageError
from ramedge.host_memory import peak_resident_bytes, resident_bytes
from ramedge.network.config import NetworkConfig, config_of
from ramedge.network.srram import SRRAM
from ramedge.quality.metrics import agreement
from ramedge.runtimes.tensorrt.backend import TENSORRT
from ramedge.samples import sample_clip
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler
from ramedge.weights import shipped_artifact


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("attention", ["ram", "none"])
def test_multiply_adds_are_what_pytorch_counts(scale: int, attention: str) -> None:
    config = NetworkConfig(scales=(scale,), attention=attention)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        SRRAM(config)(torch.zeros(1, 3, 6, 7))
    counted = counter.get_total_flops() / 2
    if attention == "ram":  # the layers behind the pooled variance run once a frame
        counted -= 10 * 2 * 64 * (64 // 16)
    assert config.multiply_adds(scale) * 6 * 7 == counted


def test_a_name_tells_its_configuration() -> None:
    for config in (NetworkConfig(), NetworkConfig(blocks=3, channels=32, attention="cbam-ca")):
        found = config_of(config.name, 2)
        assert found is not None
        assert found.name == config.name
    assert config_of("edsr", 2) is None
    assert config_of("srram_r10c64_other", 2) is None
    assert NetworkConfig(attention="cbam").multiply_adds(2) is None


def test_peak_memory_only_grows() -> None:
    held = resident_bytes()  # first: what is measured later may be more
    before = peak_resident_bytes()
    assert before is not None
    assert before >= 0.99 * held > 0  # both are counted in batches
    block = np.ones(before + (64 << 20), np.uint8)
    after = peak_resident_bytes()
    assert after >= block.nbytes
    del block
    assert peak_resident_bytes() == pytest.approx(after, rel=0.01)  # counted in batches


def titles(**chosen: object) -> list[str]:
    return [candidate.title for candidate in chosen_candidates(BenchSettings(**chosen))]


def test_by_default_everything_runs_that_is_there() -> None:
    found = titles()
    assert found[:3] == ["PyTorch fp32", "OpenVINO fp32", "OpenVINO fp16"]
    assert titles(runtimes=("openvino",), precisions=("fp32",)) == ["OpenVINO fp32"]
    scales = [candidate.scale for candidate in chosen_candidates(BenchSettings(scales=(2, 4)))]
    assert scales == sorted(scales)


def test_int8_is_among_them() -> None:
    assert titles()[3:] == ["OpenVINO int8"]


def test_engines_join_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "best", lambda: (TENSORRT, "there is an NVIDIA GPU"))
    found = titles(runtimes=("tensorrt",))
    assert found == ["TensorRT fp32", "TensorRT fp16", "TensorRT int8"]


def test_the_reference_is_pytorch_with_the_same_weights(
    small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = chosen_candidates(BenchSettings(runtimes=("openvino",)))
    in_torch = Candidate("torch", "fp32", 2)
    assert {reference_of(candidate, candidates) for candidate in candidates} == {in_torch}
    folder = Candidate("openvino", "fp16", 2, Path("mine"), weights="unknown")
    assert reference_of(folder, [folder]) is None
    known = Candidate("torch", "fp32", 2, small_weights, weights="unknown")
    assert reference_of(folder, [folder, known]) == known
    monkeypatch.setattr(settings, "has_torch", lambda: False)
    assert titles()[0] == "OpenVINO fp32"
    assert reference_of(candidates[1], candidates) == Candidate("openvino", "fp32", 2)


def test_weights_run_in_pytorch_and_exports_in_openvino(small_weights: Path) -> None:
    assert titles(models=(small_weights,)) == [f"PyTorch fp32 {small_weights.name}"]
    folder = shipped_artifact(3, "fp32")
    (first, *_) = chosen_candidates(BenchSettings(models=(folder,)))
    assert (first.runtime, first.scale, first.exported) == ("openvino", 3, "fp32")
    with pytest.raises(UsageError, match="for ×3"):
        chosen_candidates(BenchSettings(models=(folder,), scales=(2,)))


def test_a_photo_s_tint_and_nan_are_failures() -> None:
    (photo, *_) = sample_pairs(2)
    good = np.linspace(0, 1, 300, dtype=np.float32).reshape(1, 10, 10, 3)
    outputs = [(Photo("x", photo.low, photo.truth, photo.bicubic), photo.truth)]

    def judged(output: np.ndarray, thresholds: str = "fp32"):
        found = {"x": agreement(output.astype(np.float32), good)}
        return summarize(found, "PyTorch fp32", thresholds, outputs, 2)

    equal = judged(good)
    assert (equal.psnr, equal.max_error, equal.failure) == (None, 0.0, "")
    assert judged(good + 2 / 255, "fp16").failure.startswith("A tint on x")
    broken = judged(np.where(good > 0.9, np.nan, good))
    assert (broken.psnr, broken.max_error) == (None, None)
    assert "NaN" in broken.failure
    unknown = summarize({}, "", "fp32", outputs, 2)
    assert (unknown.psnr, unknown.max_error, unknown.failure) == (None, None, "")


@pytest.fixture
def upscaler(small_weights: Path) -> Upscaler:
    with Upscaler(RuntimeSettings(model=small_weights)) as opened:
        yield opened


def test_the_stages_of_a_video(upscaler: Upscaler, tmp_path: Path) -> None:
    found = run_stages(sample_clip(), 3, tmp_path, upscaler)
    assert found.frames == 3
    for busy in (found.decode, found.network, found.encode):
        assert 0 < busy < found.seconds
    assert upscaler.timing.seconds == pytest.approx(found.network, rel=0.05)


def test_the_stages_of_an_image(upscaler: Upscaler, photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "in.png")
    found = run_stages(tmp_path / "in.png", 1, tmp_path, upscaler)
    assert found.seconds == pytest.approx(found.decode + found.network + found.encode)


def test_the_limit_is_the_busiest_stage() -> None:
    assert Stages(1, 9.0, 1.0, 2.0, 8.0).limit == "encode"


@pytest.mark.parametrize(
    ("name", "precision"), [("torch", "fp32"), ("openvino", "fp32"), ("openvino", "int8")]
)
def test_a_roofline_is_measured_in_the_runtime(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    monkeypatch.setattr(roofline, "SIDE", 64)
    device = "CPU" if name == "openvino" else "cpu"
    found = measure_roofline(SimpleNamespace(name=name, precision=precision, device=device))
    assert found is not None
    assert 0 < found < 1e15
    assert (
        measure_roofline(SimpleNamespace(name="other", precision=precision, device=device)) is None
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "0x10"), "--size '0x10'"),
        (("--size", "320"), "for example 180x320"),
        (("--runtime", "tensorflow"), "choose among torch, openvino"),
        (("--precision", "fp4"), "choose among fp32, fp16"),
        (("--scale", "2,5"), "choose among 2, 3, 4"),
        (("--runtime", "torch", "--precision", "fp16"), "nothing here that runs torch fp16"),
        (("--iterations", "2"), "--iterations"),
        (("--seconds", "0"), "--seconds"),
        (("--seconds", "nan"), "--seconds"),
        (("--input", "none.mp4"), "none.mp4 does not exist"),
        (("--input", __file__), "not a readable video"),
        (("--input", __file__, "--size", "8x8"), "leave --size out"),
        (("--model", "none"), "No such model"),
        (("--model", shipped_artifact(2, "fp32"), "--scale", "3"), "is for ×2"),
        (("--json", "x.txt"), "must end with .json"),
        (("--html", "x.json"), "must end with .html"),
        (("--size", "20000x20000"), "smaller --size"),
        (("--compare", "a.json", "b.json"), "Cannot read a.json"),
    ],
)
def test_a_mistake_is_one_line(ramedge, options: tuple[object, ...], words: str) -> None:
    ended = ramedge("bench", *options)
    assert ended.code in {1, 2}
    assert words in ended.error


def test_a_size_says_itself() -> None:
    assert str(Size(180, 320)) == "180x320"
