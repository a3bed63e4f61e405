"""The shipped networks as engines on a real GPU (`-m gpu`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_gpu import no_gpu

from ramedge.artifacts.artifact import load_artifact
from ramedge.errors import RuntimeUnavailableError
from ramedge.export.engine_gate import check_engine
from ramedge.network.weights import load_weights
from ramedge.quality.gate import gate_photos
from ramedge.quality.metrics import agreement
from ramedge.runtimes.tensorrt.build import EngineRequest, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import Cuda
from ramedge.runtimes.tensorrt.cuda_bindings import CudaPython, PyCuda
from ramedge.runtimes.tensorrt.engine import LoadedEngine
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.variant import RTX, TENSORRT, Variant
from ramedge.runtimes.torch.session import open_torch
from ramedge.weights import shipped_artifact, shipped_weights

pytestmark = pytest.mark.gpu
SETTINGS = BuildSettings(Shapes((16, 16), (192, 192), (384, 384)))


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    try:
        return CudaPython()
    except RuntimeUnavailableError as reason:
        no_gpu(str(reason))


@pytest.fixture(params=[TENSORRT, RTX], ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> Variant:
    try:
        request.param.load()
    except RuntimeUnavailableError as reason:
        no_gpu(str(reason))
    return request.param


def request_for(precision: str, variant: Variant) -> EngineRequest:
    exported = "int8" if precision == "int8" else "fp32"
    return EngineRequest(
        load_artifact(shipped_artifact(2, exported)).model, "srram_r10c64", 2, precision, variant,  # type: ignore[arg-type]
        settings=SETTINGS,
    )  # fmt: skip


@pytest.mark.parametrize(("precision", "least"), [("fp32", 63.0), ("fp16", 49.0), ("int8", 40.0)])
def test_engines_agree_with_pytorch_on_real_photos(
    cuda: Cuda, variant: Variant, tmp_path: Path, precision: str, least: float
) -> None:
    """In 8 bits, so both are rounded: 50 dB of the floats are 49 here."""
    engine = get_engine(request_for(precision, variant), EngineCache(tmp_path))
    session = LoadedEngine(engine.data, variant, cuda)
    network = load_weights(shipped_weights(2)).network.take(2)
    reference = open_torch(network, "fp32", "cpu")
    for image in gate_photos().values():
        pixels = np.rint(image.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        (found,) = session.run([pixels])
        assert agreement(found / 255, reference.infer(pixels) / 255).psnr >= least
    session.close()


def test_the_gate_passes_and_is_recorded(cuda: Cuda, variant: Variant, tmp_path: Path) -> None:
    cache, request = EngineCache(tmp_path), request_for("fp16", variant)
    record = check_engine(get_engine(request, cache), request.model, cache, cuda)
    assert record.gate["engine"]["psnr"] > 45
    assert cache.record(record.key) == record


def test_graph_replay_equals_plain_execution_and_frames_keep_their_order(
    cuda: Cuda, variant: Variant, tmp_path: Path
) -> None:
    engine = get_engine(request_for("fp16", variant), EngineCache(tmp_path))
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (1, 96, 128, 3)).astype(np.uint8) for _ in range(12)]
    plain, replayed = (LoadedEngine(engine.data, variant, cuda) for _ in range(2))
    plain.captures = False
    expected = [plain.run([frame])[0] for frame in frames]
    for one, found in zip(expected, replayed.run_many([f] for f in frames), strict=True):
        np.testing.assert_array_equal(found[0], one)
    plain.close()
    replayed.close()


def test_pycuda_lives_beside_pytorch(variant: Variant, tmp_path: Path) -> None:
    """Both use the primary context; neither loses what it made in it."""
    import torch

    if not torch.cuda.is_available():
        no_gpu("PyTorch sees no GPU")
    try:
        cuda = PyCuda()
    except RuntimeUnavailableError as reason:
        no_gpu(str(reason))
    tensor = torch.arange(1000, device="cuda")
    engine = get_engine(request_for("fp16", variant), EngineCache(tmp_path))
    session = LoadedEngine(engine.data, variant, cuda)
    session.run([np.zeros((1, 32, 32, 3), np.uint8)])
    assert int(tensor.sum()) == 499500
    session.close()
    cuda.close()
    assert int((tensor + 1).sum()) == 500500
