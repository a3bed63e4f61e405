"""Every rewrite of a graph on every kind of file that is run: FP32, FP16 and INT8, all scales.

ONNX Runtime runs the same file, and nothing of it is rewritten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ramedge.artifacts.artifact import STORE_NAME, Artifact, load_artifact
from ramedge.artifacts.graphs import cut
from ramedge.artifacts.half import to_half
from ramedge.artifacts.model_files import ModelFiles
from ramedge.artifacts.storage import read_graph, save_graphs
from ramedge.export.openvino import convert_to_openvino
from ramedge.quality.gate import frame_through_tile
from ramedge.quality.metrics import agreement
from ramedge.runtimes.onnxruntime.session import open_onnx
from ramedge.runtimes.openvino.session import open_openvino
from ramedge.runtimes.runtime import Runtime
from ramedge.types import Window
from ramedge.weights import shipped_artifact, shipped_scales

PRECISIONS = ("fp32", "fp16", "int8", "int8 in fp16")
NEEDED = {"fp32": 90.0, "fp16": 60.0, "int8": 45.0, "int8 in fp16": 45.0}
"""dB beside ONNX Runtime. Int8 rounds what lies between two levels either way."""
ARITHMETIC = ("fp32", "auto")
HALF = 60.0
"""dB beside ONNX Runtime in half precision, where the CPU has one."""


@pytest.fixture(scope="module", params=shipped_scales())
def scale(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS)
def artifact(
    request: pytest.FixtureRequest, scale: int, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path, Artifact]:
    """Name, files of the frame and tile graphs, and what they are made of."""
    shipped = load_artifact(shipped_artifact(scale, "int8" if "int8" in request.param else "fp32"))
    assert shipped.tile is not None
    if "fp16" not in request.param:
        return request.param, shipped.model, shipped.tile, shipped
    folder = tmp_path_factory.mktemp("half")
    graphs = {
        f"{name}.onnx": to_half(onnx.load(path))
        for name, path in (("model", shipped.model), ("tile", shipped.tile))
    }
    save_graphs(graphs, folder, STORE_NAME)
    return request.param, folder / "model.onnx", folder / "tile.onnx", shipped


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    from ramedge.quality.gate import gate_photos

    return np.ascontiguousarray(next(iter(gate_photos().values()))[:, :, 40:88, 40:104])


def opened(
    name: str,
    frame: Path,
    tile: Path,
    shipped: Artifact,
    arithmetic: str,
    cut: dict[str, Path] | None = None,
) -> Runtime:
    assert shipped.excitation is not None
    precision = "int8" if "int8" in name and arithmetic == "auto" else arithmetic
    files = ModelFiles(
        shipped.manifest.scale, frame, tile=tile, excitation=shipped.excitation, cut=cut or {}
    )
    return open_openvino(files, precision)


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return agreement(found.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1)).psnr


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_frame_and_tile_are_what_onnx_runtime_makes(
    artifact: tuple[str, Path, Path, Artifact], image: np.ndarray, arithmetic: str
) -> None:
    name, frame, tile, shipped = artifact
    expected = open_onnx(frame, 2).infer_float(image)
    needed = min(NEEDED[name], HALF) if arithmetic == "auto" else NEEDED[name]
    with opened(name, frame, tile, shipped, arithmetic) as runtime:
        assert runtime.excitation is not None
        assert psnr(runtime.infer_float(image), expected) >= needed
        through = frame_through_tile(runtime.infer_tile_float, runtime.excitation, image)
        assert psnr(through, expected) >= needed
        # As in a video of ever new sizes: a graph for any shape.
        for extra in range(1, 5):
            runtime.infer_float(np.ascontiguousarray(image[:, :, :-extra, extra:]))
        assert psnr(runtime.infer_float(image), expected) >= needed


def test_blocks_are_the_frame(
    artifact: tuple[str, Path, Path, Artifact], image: np.ndarray
) -> None:
    """Block by block, with the attention of the frame itself."""
    name, frame, tile, shipped = artifact
    pixels = np.rint(image[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    whole = Window(0, 0, *pixels.shape[:2])
    with opened(name, frame, tile, shipped, "fp32") as runtime:
        assert runtime.excitation is not None
        assert runtime.feature_type(np.dtype(np.uint8)) is not None
        features, statistic = runtime.begin(pixels, whole)
        blocks, channels = runtime.excitation.shape
        logits = np.zeros((blocks, channels))
        for index in range(blocks):
            logits[index] = runtime.excitation.block(index).logits(statistic.variance)[0]
            if index + 1 < blocks:
                kept = type(features)(*(values.copy() for values in features))
                features, statistic = runtime.advance(index + 1, kept, logits, whole)
        kept = type(features)(*(values.copy() for values in features))
        upscaled = runtime.finish(kept, logits, pixels)
        expected = runtime.infer(pixels[None])[0]
    assert np.abs(upscaled.astype(int) - expected).max() <= (8 if "int8" in name else 1)


def test_openvino_ir_with_shared_weights_is_the_onnx_file(
    artifact: tuple[str, Path, Path, Artifact], image: np.ndarray, tmp_path: Path
) -> None:
    name, frame, tile, shipped = artifact
    graphs = {"frame": read_graph(frame), "tile": read_graph(tile)}
    graphs |= {"statistics": cut(graphs["tile"], "statistics")}
    convert_to_openvino({f"{name}.xml": graph for name, graph in graphs.items()}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "frame.xml", "model.bin", "statistics.xml", "tile.xml",
    ]  # fmt: skip
    results = []
    for files in ((frame, tile), (tmp_path / "frame.xml", tmp_path / "tile.xml")):
        with opened(name, *files, shipped, "fp32") as runtime:
            assert runtime.excitation is not None
            results.append(runtime.infer_float(image))
            results.append(frame_through_tile(runtime.infer_tile_float, runtime.excitation, image))
    assert psnr(results[2], results[0]) >= 100
    assert psnr(results[3], results[1]) >= 100
