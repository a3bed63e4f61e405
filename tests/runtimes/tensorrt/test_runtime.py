"""The TensorRT runtime over a fake GPU: buffers, streams, graphs, shapes, memory.

Nothing here ran on a GPU; `tests/conformance` has the same runtime on a real one (`-m gpu`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeGpu, driver_modules, make_cuda, make_variant

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import RuntimeUnavailableError, UsageError
from ramedge.export.onnx import export_onnx
from ramedge.network.channel_statistics import save_excitation
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import excitation_of
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import NO_GPU, gpu_facts, open_cuda
from ramedge.runtimes.tensorrt.engine import SLOTS, LoadedEngine
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes
from ramedge.runtimes.tensorrt.session import EngineSource, open_tensorrt

SHAPES = BuildSettings(Shapes((1, 1), (16, 16), (24, 24)))


@pytest.fixture(scope="module")
def models(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("models")
    export_onnx(small_network, folder / "model.onnx")
    export_onnx(small_network, folder / "tile.onnx", kind="tile")
    save_excitation(excitation_of(small_network), folder / "attention.safetensors")
    return ModelFiles(
        2,
        folder / "model.onnx",
        tile=folder / "tile.onnx",
        excitation=folder / "attention.safetensors",
        network="small",
    )


@pytest.fixture(params=["cuda-python", "pycuda"])
def binding(request: pytest.FixtureRequest) -> str:
    return request.param


def open_runtime(
    models: ModelFiles, gpu: FakeGpu, folder: Path, binding: str = "cuda-python",
    rtx: bool = False, said: list[str] | None = None,
) -> Runtime:  # fmt: skip
    said = [] if said is None else said
    source = EngineSource(EngineCache(folder), SHAPES, said.append)
    return open_tensorrt(models, make_variant(gpu, rtx), source, make_cuda(gpu, binding))


def frames(count: int, height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def test_frames_in_flight_come_out_in_order(
    models: ModelFiles, tmp_path: Path, binding: str
) -> None:
    gpu = FakeGpu()
    pixels = frames(7)
    with open_runtime(models, gpu, tmp_path, binding) as runtime:
        together = runtime.infer(pixels)
        assert gpu.counts["contexts"] == SLOTS
        for index in range(len(pixels)):
            np.testing.assert_array_equal(
                runtime.infer(pixels[index : index + 1])[0], together[index]
            )
    assert gpu.blocks == {}, "device memory was not given back"
    assert gpu.pushed == 0, "the context stayed current"


def test_buffers_are_allocated_once(models: ModelFiles, tmp_path: Path, binding: str) -> None:
    gpu = FakeGpu()
    with open_runtime(models, gpu, tmp_path, binding) as runtime:
        runtime.infer(frames(2, 12, 12))
        before = gpu.counts["allocate"]
        runtime.infer(frames(4, 12, 12))
        runtime.infer(frames(1, 5, 6))  # smaller: fits in what is there
        runtime.infer(frames(1, 12, 12))
        assert gpu.counts["allocate"] == before


def test_graphs_are_replayed_and_equal_plain_execution(models: ModelFiles, tmp_path: Path) -> None:
    gpu, plain = FakeGpu(), FakeGpu()
    with (
        open_runtime(models, gpu, tmp_path / "a") as runtime,
        open_runtime(models, plain, tmp_path / "b", "pycuda") as reference,
    ):
        for shape in ((8, 8), (6, 9), (8, 8)):  # back at the first, its graph is still there
            pixels = frames(6, *shape)
            np.testing.assert_array_equal(runtime.infer(pixels), reference.infer(pixels))
    assert gpu.counts["launch"] > 8
    assert plain.counts["launch"] == 0


def test_rtx_captures_by_itself(models: ModelFiles, tmp_path: Path) -> None:
    gpu = FakeGpu()
    with open_runtime(models, gpu, tmp_path, rtx=True) as runtime:
        runtime.infer(frames(5))
        assert runtime.name == "tensorrt-rtx"
    assert gpu.counts["launch"] == 0
    assert gpu.counts["execute"] == 5


def test_engines_come_from_the_cache_the_second_time(models: ModelFiles, tmp_path: Path) -> None:
    first, second = FakeGpu(), FakeGpu()
    with open_runtime(models, first, tmp_path) as runtime:
        expected = runtime.infer(frames(1))
    with open_runtime(models, second, tmp_path) as runtime:
        np.testing.assert_array_equal(runtime.infer(frames(1)), expected)
    assert (first.counts["build"], second.counts["build"]) == (1, 0)


def test_a_frame_beyond_the_engine_gets_one_of_its_own_aloud(
    models: ModelFiles, tmp_path: Path
) -> None:
    gpu, said = FakeGpu(), []
    with open_runtime(models, gpu, tmp_path, said=said) as runtime:
        assert runtime.infer(frames(1, 40, 20)).shape == (1, 80, 40, 3)
        assert "20×40" in said[0]
        assert runtime.infer(frames(1, 9, 9)).shape == (1, 18, 18, 3)
    assert gpu.counts["build"] == 1


def test_out_of_memory_becomes_smaller_tiles(
    models: ModelFiles, tmp_path: Path, small_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frame, nothing skipped, and the same result as with memory enough."""
    from ramedge.tiling.halos import Halos
    from ramedge.upscaling import upscaler as upscale
    from ramedge.upscaling.open_model import OpenedModel

    pixels = frames(1, 90, 84)[0]
    results = []
    for memory in (2**40, 64 * 90 * 84 * 3 - 1):
        gpu = FakeGpu(memory)
        runtime = open_runtime(models, gpu, tmp_path)
        halos = Halos(small_config.receptive_field(2))
        opened = OpenedModel(runtime, "small", "0" * 64, halos, "a test")
        monkeypatch.setattr(upscale, "open_model", lambda settings, opened=opened: opened)
        with upscale.Upscaler() as upscaler:
            results.append(upscaler.upscale(pixels))
            said = " ".join(upscaler.notes)
    assert "Out of memory" in said
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


def test_memory_that_runs_out_in_a_video_skips_no_frame(
    models: ModelFiles, tmp_path: Path, small_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames are in flight when the third, of another size, no longer fits."""
    from ramedge.tiling.halos import Halos
    from ramedge.upscaling import upscaler as upscale
    from ramedge.upscaling.open_model import OpenedModel

    video = [*frames(3, 40, 40), *frames(3, 90, 84), *frames(1, 40, 40)]
    results = []
    for memory in (2**40, 64 * 90 * 84 * 3 - 1):
        runtime = open_runtime(models, FakeGpu(memory), tmp_path)
        halos = Halos(small_config.receptive_field(2))
        opened = OpenedModel(runtime, "small", "0" * 64, halos, "a test")
        monkeypatch.setattr(upscale, "open_model", lambda settings, opened=opened: opened)
        with upscale.Upscaler() as upscaler:
            results.append(list(upscaler.upscale_many(video)))
            assert upscaler.timing.frames == len(video)
    for found, expected, source in zip(*reversed(results), video, strict=True):
        assert found.shape[0] == 2 * source.shape[0]
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_plan_of_something_else_is_one_line(tmp_path: Path) -> None:
    gpu = FakeGpu()
    with pytest.raises(RuntimeUnavailableError, match="cannot run the engine: Serialization"):
        LoadedEngine(b"of another version", make_variant(gpu), make_cuda(gpu, "cuda-python"))


def test_16_bit_pixels_without_an_fp32_graph_are_told(models: ModelFiles, tmp_path: Path) -> None:
    from dataclasses import replace

    with open_runtime(replace(models, precision="fp16"), FakeGpu(), tmp_path) as runtime:
        assert "16-bit pixels run in FP16" in runtime.notes[0]


def test_the_gpu_is_asked_through_either_binding(binding: str) -> None:
    with driver_modules(FakeGpu(), name=binding):
        facts = gpu_facts()
        assert (facts.name, facts.compute_capability, facts.driver) == ("Fake GPU", "8.7", "12.6")
        assert open_cuda().name == binding


def test_memory_that_is_not_there_is_a_memory_error(binding: str) -> None:
    cuda = make_cuda(FakeGpu(memory=100), binding)
    with cuda.active(), pytest.raises(MemoryError, match="GPU"):
        cuda.allocate(101)
    with cuda.active():
        stream = cuda.make_stream()
        first, second = cuda.make_event(), cuda.make_event()
        cuda.record(first, stream)
        cuda.record(second, stream)
        assert cuda.milliseconds(first, second) == 1.5
        assert cuda.free_memory() == 100
        pinned = cuda.allocate_pinned(16)
        assert (pinned.dtype, pinned.size) == (np.uint8, 16)
        cuda.free_pinned(pinned)
    cuda.close()


def test_without_a_binding_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with driver_modules(None, name=""):
        assert gpu_facts() == NO_GPU
        with pytest.raises(RuntimeUnavailableError, match=r"pip install cuda-python.*pycuda"):
            open_cuda()
        monkeypatch.setenv("RAMEDGE_CUDA", "opencl")
        with pytest.raises(UsageError, match="cuda-python or pycuda"):
            open_cuda()


def test_pycuda_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMEDGE_CUDA", "pycuda")
    with driver_modules(FakeGpu(), name="pycuda"):
        cuda = open_cuda()
    assert cuda.name == "pycuda"
    assert not cuda.has_graphs
    with pytest.raises(RuntimeUnavailableError, match="no CUDA graphs"):
        cuda.capture(None, lambda: None)


def test_the_gate_passes_what_agrees_and_removes_what_does_not(
    models: ModelFiles, small_network: SRRAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import copy
    from dataclasses import replace

    import torch

    from ramedge.errors import GateError
    from ramedge.export import engine_gate
    from ramedge.runtimes.tensorrt.build import EngineRequest, get_engine

    gpu = FakeGpu()
    variant, cuda = make_variant(gpu), make_cuda(gpu, "cuda-python")
    cache = EngineCache(tmp_path / "cache")
    monkeypatch.setitem(engine_gate.VARIANTS, "tensorrt", variant)
    settings = BuildSettings(Shapes((1, 1), (64, 64), (256, 256)))
    request = EngineRequest(models.frame, "small", 2, "fp32", variant, settings=settings)
    record = engine_gate.check_engine(get_engine(request, cache), models.frame, cache, cuda)
    assert record.gate["engine"]["psnr"] > 65
    assert cache.record(record.key) == record
    dark = copy.deepcopy(small_network)
    with torch.no_grad():
        for tail in dark.tails.values():
            tail.reconstruction.bias -= 5
    path = tmp_path / "dark.onnx"
    export_onnx(dark, path)
    engine = get_engine(replace(request, model=path), cache)
    with pytest.raises(GateError, match="agrees with its ONNX file"):
        engine_gate.check_engine(engine, models.frame, cache, cuda)
    assert cache.record(engine.record.key) is None
    assert gpu.blocks == {}
