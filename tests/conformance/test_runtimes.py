"""What every runtime must do alike. PyTorch in FP32 is the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_gpu import FakeGpu, make_cuda, make_variant
from real_gpu import no_gpu

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import RuntimeUnavailableError, UsageError, WeightsError
from ramedge.export.onnx import export_onnx
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.quality.metrics import agreement
from ramedge.runtimes.onnxruntime import session as onnxruntime
from ramedge.runtimes.openvino.session import open_onnx
from ramedge.runtimes.registry import BACKENDS
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda_bindings import CudaPython, PyCuda
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.session import EngineSource, open_tensorrt
from ramedge.runtimes.tensorrt.variant import RTX, TENSORRT, Variant
from ramedge.runtimes.torch.session import open_torch as run_in_torch

Open = Callable[[SRRAM, Path], Runtime]


def open_torch(network: SRRAM, folder: Path) -> Runtime:
    return run_in_torch(network, "fp32", "cpu")


def open_openvino(network: SRRAM, folder: Path) -> Runtime:
    export_onnx(network, folder / "model.onnx")
    return open_onnx(folder / "model.onnx", network.config.scales[0], "fp32")


def open_onnxruntime(network: SRRAM, folder: Path) -> Runtime:
    export_onnx(network, folder / "model.onnx")
    return onnxruntime.open_onnx(folder / "model.onnx", network.config.scales[0])


def open_torch_cuda(network: SRRAM, folder: Path) -> Runtime:
    if not torch.cuda.is_available():
        no_gpu("PyTorch sees no GPU")
    return run_in_torch(network, "fp32", "cuda")


def engine_models(network: SRRAM, folder: Path) -> ModelFiles:
    export_onnx(network, folder / "model.onnx")
    return ModelFiles(network.config.scales[0], folder / "model.onnx", network="small")


def open_engine(
    network: SRRAM, folder: Path, variant: Variant, binding: type[CudaPython] | type[PyCuda]
) -> Runtime:
    """On a real GPU."""
    try:
        variant.load()
        cuda = binding()
    except RuntimeUnavailableError as reason:
        no_gpu(str(reason))
    source = EngineSource(EngineCache(folder / "cache"), ENGINE_SETTINGS)
    return open_tensorrt(engine_models(network, folder), variant, source, cuda)


def open_fake_engine(network: SRRAM, folder: Path, binding: str, rtx: bool) -> Runtime:
    """The same code over a GPU that is none: its buffers, streams and graphs, not its kernels."""
    gpu = FakeGpu()
    source = EngineSource(EngineCache(folder / "cache"), ENGINE_SETTINGS)
    models = engine_models(network, folder)
    return open_tensorrt(models, make_variant(gpu, rtx), source, make_cuda(gpu, binding))


ENGINE_SETTINGS = BuildSettings(Shapes((1, 1), (24, 32), (64, 64)))

RUNTIMES = [
    pytest.param(open_torch, id="torch"),
    pytest.param(open_openvino, id="openvino"),
    pytest.param(open_onnxruntime, id="onnxruntime"),
    pytest.param(open_torch_cuda, id="torch-cuda", marks=pytest.mark.gpu),
    pytest.param(partial(open_fake_engine, binding="cuda-python", rtx=False), id="fake-tensorrt"),
    pytest.param(partial(open_fake_engine, binding="pycuda", rtx=False), id="fake-pycuda"),
    pytest.param(partial(open_fake_engine, binding="cuda-python", rtx=True), id="fake-rtx"),
    *(
        pytest.param(
            partial(open_engine, variant=variant, binding=binding),
            id=f"{variant.name}-{binding.name}",
            marks=pytest.mark.gpu,
        )
        for variant in (TENSORRT, RTX)
        for binding in (CudaPython, PyCuda)
    ),
]


@pytest.fixture(scope="module", params=[2, 3, 4])
def network(request: pytest.FixtureRequest) -> SRRAM:
    torch.manual_seed(request.param)
    config = NetworkConfig(blocks=2, channels=16, reduction=4, scales=(request.param,))
    return SRRAM(config).eval()


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(
    request: pytest.FixtureRequest, network: SRRAM, tmp_path_factory: pytest.TempPathFactory
):
    with request.param(network, tmp_path_factory.mktemp("runtime")) as opened:
        yield opened


def reference(network: SRRAM, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


SIZES = [(1, 1, 1), (1, 3, 5), (2, 16, 24), (1, 33, 47)]


@pytest.mark.parametrize("size", SIZES)
def test_floats_agree_with_pytorch(
    runtime: Runtime, network: SRRAM, size: tuple[int, int, int]
) -> None:
    count, height, width = size
    images = np.random.default_rng(0).random((count, 3, height, width), dtype=np.float32)
    got = runtime.infer_float(images)
    expected = reference(network, images)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    found = agreement(got.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1))
    assert found.psnr > 80


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_the_floats_clipped_then_rounded(
    runtime: Runtime, network: SRRAM, size: tuple[int, int, int], dtype: type
) -> None:
    peak = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, peak + 1, (*size, 3)).astype(dtype)
    got = runtime.infer(pixels)
    images = (pixels / peak).astype(np.float32).transpose(0, 3, 1, 2)
    levels = np.clip(reference(network, np.ascontiguousarray(images)) * peak, 0, peak)
    expected = np.rint(levels).transpose(0, 2, 3, 1)
    assert got.dtype == dtype
    # Ties may round to either side.
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1
    assert (got != expected).mean() < (0.001 if dtype is np.uint8 else 0.05)


def test_values_out_of_range_are_clipped_and_do_not_wrap(network: SRRAM, tmp_path: Path) -> None:
    import copy

    for bias in (400.0, -400.0):
        extreme = copy.deepcopy(network)
        with torch.no_grad():
            for tail in extreme.tails.values():
                tail.reconstruction.bias += bias
        pixels = np.full((1, 4, 4, 3), 128, np.uint8)
        expected = 255 if bias > 0 else 0
        for opener in (open_torch, open_openvino):
            with opener(extreme, tmp_path) as runtime:
                assert (runtime.infer(pixels) == expected).all()
                assert (runtime.infer(pixels.astype(np.uint16)) == (65535 if bias > 0 else 0)).all()


def test_results_are_not_overwritten_by_the_next_call(runtime: Runtime) -> None:
    first = runtime.infer(np.zeros((1, 6, 6, 3), np.uint8))
    kept = first.copy()
    runtime.infer(np.full((1, 6, 6, 3), 255, np.uint8))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.filterwarnings("error")
def test_pixels_that_may_not_be_written_to_are_accepted(runtime: Runtime) -> None:
    for dtype in (np.uint8, np.uint16):
        pixels = np.random.default_rng(2).integers(0, 255, (1, 4, 5, 3)).astype(dtype)
        expected = runtime.infer(pixels)
        pixels.flags.writeable = False
        np.testing.assert_array_equal(runtime.infer(pixels), expected)


def test_many_frames_are_each_as_alone_and_in_order(runtime: Runtime) -> None:
    rng = np.random.default_rng(4)
    frames = [
        rng.integers(0, 256, (1, *size, 3)).astype(dtype)
        for size, dtype in [((6, 8), "u1")] * 5 + [((5, 9), "u1")] * 2 + [((6, 8), "u2")] * 3
    ]
    found = list(runtime.infer_many(iter(frames)))
    assert len(found) == len(frames)
    for one, frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(one, runtime.infer(frame))


def test_views_are_accepted(runtime: Runtime) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (1, 12, 10, 3)).astype(np.uint8)
    turned = pixels[:, ::-1, ::2]
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(runtime.infer(turned), runtime.infer(turned.copy()))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 4), np.uint8),
        np.zeros((1, 0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.float32),
    ],
)
def test_other_pixels_are_refused(runtime: Runtime, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="Expected"):
        runtime.infer(pixels)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 4, 4, 3), np.float32), np.zeros((1, 3, 4, 4), np.float64)]
)
def test_other_floats_are_refused(runtime: Runtime, images: np.ndarray) -> None:
    with pytest.raises(UsageError, match="Expected"):
        runtime.infer_float(images)


def test_floats_in_fp32_are_the_floats_of_an_fp32_runtime(runtime: Runtime) -> None:
    images = np.random.default_rng(3).random((1, 3, 9, 7), dtype=np.float32)
    expected = runtime.infer_float(images)
    np.testing.assert_array_equal(runtime.infer_float(images, fp32=True), expected)


def test_a_runtime_says_what_it_is(runtime: Runtime, network: SRRAM) -> None:
    assert runtime.scale == network.config.scales[0]
    assert runtime.precision == "fp32"
    assert runtime.name in BACKENDS
    assert runtime.device


def test_openvino_names_the_devices_there_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="CPU"):
        open_onnx(tmp_path / "x.onnx", 2, device="NPU7")


def test_openvino_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match="not an ONNX file"):
        open_onnx(tmp_path / "x.onnx", 2)


def test_half_precision_is_used_or_its_absence_said(small_network: SRRAM, tmp_path: Path) -> None:
    export_onnx(small_network, tmp_path / "model.onnx")
    with open_onnx(tmp_path / "model.onnx", 2, "fp16") as runtime:
        if runtime.precision == "fp32":
            assert "no half-precision" in runtime.notes[0]
        else:
            assert runtime.precision in {"bf16", "fp16"}
        images = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
        got = runtime.infer_float(images)
    expected = reference(small_network, images)
    assert agreement(got.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1)).psnr > 50


def test_half_precision_is_left_where_fp32_is_asked_for(
    small_network: SRRAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(small_network, tmp_path / "model.onnx")
    with open_onnx(tmp_path / "model.onnx", 2, "fp32") as runtime:
        session = runtime.session
        session._arithmetic = "bf16"  # as on a CPU that computes in it
        compiled: list[tuple[str, str]] = []
        compile_model = session._compile

        def record(name: str, pixels: str, arithmetic: str, *shapes: object) -> object:
            compiled.append((pixels, arithmetic))
            return compile_model(name, pixels, "fp32")

        monkeypatch.setattr(session, "_compile", record)
        images = np.zeros((1, 3, 4, 4), np.float32)
        for fp32 in (False, True, False):
            runtime.infer_float(images, fp32=fp32)
        for dtype in (np.uint8, np.uint16):
            runtime.infer(np.zeros((1, 4, 4, 3), dtype))
    assert compiled == [
        ("float32", "bf16"), ("float32", "fp32"), ("uint8", "bf16"), ("uint16", "fp32"),
    ]  # fmt: skip


def test_torch_says_that_a_cpu_computes_in_fp32(small_network: SRRAM) -> None:
    runtime = run_in_torch(small_network, "fp16", "cpu")
    assert runtime.precision == "fp32"
    assert runtime.notes


def test_torch_refuses_a_device_that_is_not_there(small_network: SRRAM) -> None:
    with pytest.raises(RuntimeUnavailableError, match="nonsense"):
        run_in_torch(small_network, "fp32", "nonsense")
