"""Every graph of a network on every backend: frame, tile, statistics, and the parts of the tile
graph between two blocks. PyTorch's own modules are the reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from fake_gpu import FakeGpu, make_cuda, make_variant
from PIL import Image
from real_gpu import no_gpu

from ramedge.artifacts.artifact import STORE_NAME, load_artifact
from ramedge.artifacts.graphs import cut, graph_names
from ramedge.artifacts.half import to_half
from ramedge.artifacts.model_files import ModelFiles
from ramedge.artifacts.storage import read_graph, save_graphs
from ramedge.calibration.quantize import dense_convolutions
from ramedge.errors import RamedgeError
from ramedge.export.onnx import network_graph
from ramedge.export.openvino import convert_to_openvino
from ramedge.network.attention import ATTENTIONS
from ramedge.network.channel_statistics import save_excitation
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork, excitation_of
from ramedge.quality.metrics import agreement
from ramedge.runtimes.backend import OpenOptions
from ramedge.runtimes.onnxruntime.session import open_onnxruntime
from ramedge.runtimes.openvino.session import open_openvino
from ramedge.runtimes.registry import BACKENDS
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.session import EngineSource, open_tensorrt
from ramedge.runtimes.torch.session import open_torch
from ramedge.samples import sample_photo
from ramedge.types import Window
from ramedge.weights import shipped_artifact

HEIGHT, WIDTH = 20, 27
INTERIOR = Window(3, 2, 17, 25)
SETTINGS = BuildSettings(Shapes((1, 1), (24, 32), (64, 64)))


class Model(NamedTuple):
    network: SRRAM
    files: ModelFiles


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Model]:
    """A network of a scale and its files, exported once: pytest orders tests by backend."""

    @lru_cache
    def make(scale: int) -> Model:
        torch.manual_seed(scale)
        config = NetworkConfig(blocks=3, channels=16, reduction=4, scales=(scale,))
        network = SRRAM(config).eval()
        with torch.no_grad():  # an untrained network's blocks do next to nothing
            for block in network.blocks:
                for parameter in block.parameters():
                    parameter.mul_(20)
        folder = tmp_path_factory.mktemp("model")
        graphs = {f"{kind}.onnx": network_graph(network, kind) for kind in ("frame", "tile")}
        save_graphs(graphs, folder, STORE_NAME)
        save_excitation(excitation_of(network), folder / "attention.safetensors")
        files = ModelFiles(
            scale,
            folder / "frame.onnx",
            tile=folder / "tile.onnx",
            excitation=folder / "attention.safetensors",
        )
        return Model(network, files)

    return make


@pytest.fixture(scope="module", params=[2, 3, 4])
def model(request: pytest.FixtureRequest, models: Callable[[int], Model]) -> Model:
    return models(request.param)


@pytest.fixture(scope="module")
def network(model: Model) -> SRRAM:
    return model.network


@pytest.fixture(scope="module")
def files(model: Model) -> ModelFiles:
    return model.files


def in_torch(network: SRRAM, files: ModelFiles, folder: Path) -> Runtime:
    return open_torch(network, "fp32", "cpu")


def in_openvino(network: SRRAM, files: ModelFiles, folder: Path) -> Runtime:
    return open_openvino(files, "fp32")


def in_openvino_from_ir(network: SRRAM, files: ModelFiles, folder: Path) -> Runtime:
    names = graph_names(files.graph("tile"))
    graphs = {name: files.graph(name) for name in names}
    convert_to_openvino({f"{name}.xml": graph for name, graph in graphs.items()}, folder)
    paths = {name: folder / f"{name}.xml" for name in names}
    return open_openvino(
        ModelFiles(
            files.scale,
            paths.pop("frame"),
            tile=paths.pop("tile"),
            excitation=files.excitation,
            cut=paths,
        ),
        "fp32",
    )


def in_onnxruntime(network: SRRAM, files: ModelFiles, folder: Path) -> Runtime:
    return open_onnxruntime(files, "cpu")


def in_fake_engines(network: SRRAM, files: ModelFiles, folder: Path, rtx: bool) -> Runtime:
    """TensorRT's code over a GPU that is none: its buffers, streams and graphs, not its kernels."""
    gpu = FakeGpu()
    source = EngineSource(EngineCache(folder), SETTINGS)
    return open_tensorrt(files, make_variant(gpu, rtx), source, make_cuda(gpu, "cuda-python"))


def on_gpu(network: SRRAM, files: ModelFiles, folder: Path, name: str) -> Runtime:
    """A backend on a real GPU."""
    try:
        if name == "torch":
            return open_torch(network, "fp32", "cuda")
        return BACKENDS[name].open(files, OpenOptions("fp32", "cuda"))  # type: ignore[index]
    except RamedgeError as reason:
        no_gpu(str(reason))


Open = Callable[[SRRAM, ModelFiles, Path], Runtime]
BACKEND_CASES = [
    pytest.param(in_torch, id="torch"),
    pytest.param(in_openvino, id="openvino"),
    pytest.param(in_openvino_from_ir, id="openvino-ir"),
    pytest.param(in_onnxruntime, id="onnxruntime"),
    pytest.param(partial(in_fake_engines, rtx=False), id="fake-tensorrt"),
    pytest.param(partial(in_fake_engines, rtx=True), id="fake-rtx"),
    *(
        pytest.param(partial(on_gpu, name=name), id=f"{name}-gpu", marks=pytest.mark.gpu)
        for name in ("torch", "onnxruntime", "tensorrt", "tensorrt-rtx")
    ),
]


@pytest.fixture(scope="module", params=BACKEND_CASES)
def runtime(
    request: pytest.FixtureRequest,
    network: SRRAM,
    files: ModelFiles,
    tmp_path_factory: pytest.TempPathFactory,
):
    with request.param(network, files, tmp_path_factory.mktemp("backend")) as opened:
        yield opened


def pixels_of(dtype: type) -> np.ndarray:
    peak = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    return rng.integers(0, peak + 1, (HEIGHT, WIDTH, 3)).astype(dtype)


def logits_of(runtime: Runtime) -> np.ndarray:
    assert runtime.excitation is not None
    return np.random.default_rng(1).normal(0, 1, runtime.excitation.shape)


def expected_tile(
    network: SRRAM, pixels: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    peak = np.iinfo(pixels.dtype).max
    image = torch.from_numpy((pixels / peak).astype(np.float32)).permute(2, 0, 1)[None]
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    rows, columns = INTERIOR.slices
    mask[:, :, rows, columns] = 1
    with torch.no_grad():
        output, mean, m2 = TiledNetwork(network)(
            image, torch.from_numpy(logits[None].astype(np.float32)), mask
        )
    levels = np.clip(output[0].permute(1, 2, 0).numpy() * peak, 0, peak)
    return np.rint(levels), mean[0].numpy(), m2[0].numpy()


def agree(found: np.ndarray, expected: np.ndarray, least: float) -> None:
    peak = float(np.iinfo(found.dtype).max)
    assert agreement(found / peak, expected / peak).psnr > least


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tile(runtime: Runtime, network: SRRAM, dtype: type) -> None:
    pixels, logits = pixels_of(dtype), logits_of(runtime)
    found, statistic = runtime.infer_tile(pixels, logits, INTERIOR)
    expected, mean, m2 = expected_tile(network, pixels, logits)
    assert found.dtype == dtype
    agree(found, expected, 65)
    np.testing.assert_allclose(statistic.mean, mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(statistic.m2, m2, rtol=2e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics(runtime: Runtime, network: SRRAM, dtype: type) -> None:
    pixels, logits = pixels_of(dtype), logits_of(runtime)
    statistic = runtime.infer_statistic(pixels, logits, INTERIOR)
    _, mean, m2 = expected_tile(network, pixels, logits)
    np.testing.assert_allclose(statistic.mean, mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(statistic.m2, m2, rtol=2e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_one_after_another_are_the_tile(
    runtime: Runtime, network: SRRAM, dtype: type
) -> None:
    pixels, logits = pixels_of(dtype), logits_of(runtime)
    expected, mean, m2 = expected_tile(network, pixels, logits)
    assert runtime.feature_type(np.dtype(dtype)) == np.float32
    features, statistic = runtime.begin(pixels, INTERIOR)
    for block in range(network.config.blocks):
        np.testing.assert_allclose(statistic.mean[0], mean[block], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(statistic.m2[0], m2[block], rtol=2e-3)
        kept = type(features)(*(values.copy() for values in features))
        if block + 1 < network.config.blocks:
            features, statistic = runtime.advance(block + 1, kept, logits, INTERIOR)
    found = runtime.finish(kept, logits, pixels)
    assert found.dtype == dtype
    agree(found, expected, 65)


@pytest.mark.parametrize("half", [False, True])
def test_every_graph_is_valid_onnx_with_the_inputs_it_says(files: ModelFiles, half: bool) -> None:
    names = graph_names(files.graph("tile"))
    assert names == ("frame", "tile", "statistics", "part0", "part1", "part2", "part3")
    for name in names:
        for pixels in ("float32", "uint8", "uint16"):
            graph = files.graph(name, pixels, half)  # type: ignore[arg-type]
            onnx.checker.check_model(graph, full_check=True)
    part = cut(files.graph("tile"), "part1")
    assert [value.name for value in part.graph.input] == [
        "logits", "mask", "head", "block1.conv2",
    ]  # fmt: skip
    assert [value.name for value in part.graph.output] == [
        "block1.output", "block2.conv2", "block2.mean", "block2.m2",
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_parts_with_fp16_in_them_run_in_onnxruntime(precision: str, tmp_path: Path) -> None:
    """Files for GPUs: FP16, and INT8 with FP16 around it, on a CPU."""
    shipped = load_artifact(shipped_artifact(2, "int8" if precision == "int8" else "fp32"))
    assert shipped.tile is not None
    for name, path in (("frame", shipped.model), ("tile", shipped.tile)):
        onnx.save(to_half(read_graph(path)), tmp_path / f"{name}.onnx")
    files = ModelFiles(
        2,
        tmp_path / "frame.onnx",
        precision,  # type: ignore[arg-type]
        tile=tmp_path / "tile.onnx",
        excitation=shipped.excitation,
    )
    with Image.open(sample_photo("chelsea.png")) as photo:
        pixels = np.asarray(photo.convert("RGB"))[40 : 40 + HEIGHT, 60 : 60 + WIDTH]
    whole = Window(0, 0, HEIGHT, WIDTH)
    with open_onnxruntime(files, "cpu") as runtime:
        assert runtime.excitation is not None
        # The frame's own attention: INT8 is calibrated for no other.
        logits = np.zeros(runtime.excitation.shape)
        features, statistic = runtime.begin(pixels, whole)
        assert features.residual.dtype == runtime.feature_type(pixels.dtype) == np.float16
        for block in range(len(logits)):
            logits[block] = runtime.excitation.block(block).logits(statistic.variance)[0]
            if block + 1 < len(logits):
                features, statistic = runtime.advance(block + 1, features, logits, whole)
        found = runtime.finish(features, logits, pixels)
        expected, _ = runtime.infer_tile(pixels, logits, whole)
    agree(found, expected, 50)


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
def test_networks_of_every_attention_have_named_convolutions(attention: str) -> None:
    config = NetworkConfig(
        blocks=1, channels=16, reduction=4, scales=(2,), attention=attention
    )  # fmt: skip
    graph = network_graph(SRRAM(config).eval(), "frame")
    assert dense_convolutions(graph) == ["head", "block1.conv1", "block1.conv2", "body", "tail"]


def test_memory_that_runs_out_in_onnxruntime_is_a_memory_error(files: ModelFiles) -> None:
    """In a process of its own: the limit on it stays."""
    script = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from ramedge.runtimes.onnxruntime.session import open_onnx\n"
        "runtime = open_onnx(Path(sys.argv[1]), int(sys.argv[2]))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: runtime.infer(np.zeros((1, 6000, 6000, 3), np.uint8))\n"
        "except MemoryError: print('memory')\n"
    )
    arguments = [sys.executable, "-c", script, files.frame, str(files.scale)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout == "memory\n", done.stderr


def test_parts_in_fp16_give_fp16_features(files: ModelFiles) -> None:
    from onnx import TensorProto

    for name in ("part0", "part1", "part3"):
        graph = files.graph(name, "uint8", half=True).graph
        types = {
            value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)
        }
        features = [kind for role, kind in types.items() if role.startswith(("head", "block"))]
        wanted = [TensorProto.FLOAT16, TensorProto.FLOAT]
        assert features
        assert set(features) <= set(wanted)
        assert all(
            kind == TensorProto.FLOAT16
            for role, kind in types.items()
            if role == "head" or role.endswith((".output", ".conv2"))
        )
