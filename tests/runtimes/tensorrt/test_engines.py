"""The cache of engines: what is kept, refused, rebuilt, and by whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramedge.errors import ExportError, RuntimeUnavailableError, UsageError, WeightsError
from ramedge.runtimes.tensorrt import build as engine_module
from ramedge.runtimes.tensorrt.build import EngineRequest, engine_key, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.cuda import NO_GPU, GpuFacts
from ramedge.runtimes.tensorrt.plan import BuildSettings, Plan, Shapes
from ramedge.runtimes.tensorrt.variant import RTX, TENSORRT, Variant

ORIN = GpuFacts("Orin", "8.7", "12.6")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution with the names of a frame graph."""
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    nodes = [helper.make_node("Conv", ["image", "w"], ["upscaled"], name="conv")]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("image", "upscaled")
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[BuildSettings]:
    """Builds are counted, not made."""
    found: list[BuildSettings] = []

    def build(model: bytes, settings: BuildSettings, *rest: Any) -> Plan:
        found.append(settings)
        return Plan(model + b"plan", {"CONVOLUTION FLOAT": 1}, b"", 0.5)

    monkeypatch.setattr(engine_module, "build_plan", build)
    monkeypatch.setattr(Variant, "load", lambda self: None)
    monkeypatch.setattr(Variant, "version", lambda self: "1.7.1")
    monkeypatch.setattr(engine_module, "gpu_facts", lambda: ORIN)
    return found


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def request_(model: Path) -> EngineRequest:
    return EngineRequest(model, "small", 2, "fp32", RTX)


def test_the_second_time_nothing_is_built(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings]
) -> None:
    first, second = get_engine(request_, cache), get_engine(request_, cache)
    assert (first.cached, second.cached, len(builds)) == (False, True, 1)
    assert first.data == second.data
    assert second.record.gate["engine"] == "not run yet"
    assert get_engine(request_, cache, rebuild=True).cached is False


def test_only_the_user_may_read_the_folder(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings]
) -> None:
    engine = get_engine(request_, cache)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(engine.path.stat().st_mode) == 0o600
    assert len(engine.path.name) < 32
    cache.folder.chmod(0o755)
    EngineCache(cache.folder)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_a_folder_of_someone_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "getuid"):
        pytest.skip("this system has no user numbers")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UsageError, match="another user"):
        EngineCache(tmp_path)


CHANGES: list[tuple[str, Callable[[EngineRequest], EngineRequest], GpuFacts]] = [
    ("driver 12.6 → 12.8", lambda r: r, replace(ORIN, driver="12.8")),
    ("gpu Orin → Thor", lambda r: r, replace(ORIN, name="Thor")),
    ("compute capability 8.7 → 11.0", lambda r: r, replace(ORIN, compute_capability="11.0")),
    ("shapes", lambda r: replace(r, settings=BuildSettings(Shapes(largest=(2000, 2000)))), ORIN),
    ("opt level default", lambda r: replace(r, settings=BuildSettings(opt_level=5)), ORIN),
]


@pytest.mark.parametrize(("words", "change", "gpu"), CHANGES, ids=[c[0] for c in CHANGES])
def test_what_changed_is_said(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings],
    monkeypatch: pytest.MonkeyPatch, words: str,
    change: Callable[[EngineRequest], EngineRequest], gpu: GpuFacts,
) -> None:  # fmt: skip
    get_engine(request_, cache)
    monkeypatch.setattr(engine_module, "gpu_facts", lambda: gpu)
    said: list[str] = []
    assert not get_engine(change(request_), cache, on_notice=said.append).cached
    assert words in said[0]
    assert said[0].count("→") == 1
    assert len(cache.records()) == 2


def test_another_model_is_another_engine(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings], model: Path
) -> None:
    get_engine(request_, cache)
    changed = onnx.load(model)
    changed.doc_string = "changed"
    onnx.save(changed, model)
    said: list[str] = []
    assert not get_engine(request_, cache, on_notice=said.append).cached
    assert "onnx" in said[0]


def test_a_changed_plan_is_refused_and_built_anew(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings]
) -> None:
    engine = get_engine(request_, cache)
    data = bytearray(engine.data)
    data[3] ^= 1
    engine.path.write_bytes(data)
    with pytest.raises(WeightsError, match="hash differs"):
        cache.load(engine.record)
    said: list[str] = []
    again = get_engine(request_, cache, on_notice=said.append)
    assert "refused" in said[0]
    assert (again.cached, again.data) == (False, engine.data)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', '{"format": 1, "key": {}}'])
def test_a_damaged_record_is_a_stray(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings], text: str
) -> None:
    engine = get_engine(request_, cache)
    name = engine.record.key.name
    (cache.folder / f"{name}.json").write_text(text)
    assert cache.strays() == [name]
    assert not get_engine(request_, cache).cached
    assert cache.strays() == []


def test_a_record_cannot_vouch_for_another_name(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings]
) -> None:
    engine = get_engine(request_, cache)
    path = cache.folder / f"{engine.record.key.name}.json"
    document = json.loads(path.read_text())
    document["key"]["driver"] = "99"
    path.write_text(json.dumps(document))
    assert cache.record(engine.record.key) is None


def test_a_timing_cache_with_a_flipped_byte_is_not_used(cache: EngineCache) -> None:
    owner = "tensorrt", "10.3", "Orin"
    assert cache.timing_cache(*owner) == b""
    cache.store_timing_cache(*owner, b"learnt")
    assert cache.timing_cache(*owner) == b"learnt"
    (path,) = cache.folder.glob("*.timing")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert cache.timing_cache(*owner) == b""


def test_tensorrt_without_a_gpu_says_where_it_builds(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(engine_module, "gpu_facts", lambda: NO_GPU)
    with pytest.raises(RuntimeUnavailableError, match="no NVIDIA GPU"):
        get_engine(replace(request_, variant=TENSORRT), cache)
    assert get_engine(request_, cache).record.key.gpu == "none"
    with pytest.raises(UsageError, match="--workspace needs a GPU"):
        get_engine(replace(request_, settings=BuildSettings(workspace=64)), cache)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_that_the_file_does_not_hold_is_refused(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings], precision: Any
) -> None:
    with pytest.raises(ExportError, match=f"int8 model|in {precision}"):
        get_engine(replace(request_, precision=precision), cache)
    assert cache.records() == []


def test_a_failed_build_leaves_nothing(
    request_: EngineRequest, cache: EngineCache, builds: list[BuildSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def interrupt(*_: Any) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine_module, "build_plan", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get_engine(request_, cache)
    assert [path.suffix for path in cache.folder.iterdir()] in ([], [".lock"])


def _build_and_count(request: EngineRequest, folder: Path, log: Path) -> None:
    def build(model: bytes, *_: Any) -> Plan:
        import time

        with log.open("a") as opened:
            opened.write("built\n")
        time.sleep(0.3)
        return Plan(b"plan", {"CONVOLUTION FLOAT": 1}, b"", 0.3)

    engine_module.build_plan = build
    engine_module.gpu_facts = lambda: ORIN
    Variant.load = lambda self: None  # type: ignore[method-assign]
    Variant.version = lambda self: "1"  # type: ignore[method-assign]
    assert get_engine(request, EngineCache(folder)).data == b"plan"


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_of_two_processes_one_builds(request_: EngineRequest, tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    work = [
        context.Process(target=_build_and_count, args=(request_, tmp_path / "cache", log))
        for _ in range(3)
    ]
    for process in work:
        process.start()
    for process in work:
        process.join(60)
    assert [process.exitcode for process in work] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_the_key_is_stable(request_: EngineRequest, builds: list[BuildSettings]) -> None:
    assert engine_key(request_, ORIN).name == engine_key(request_, ORIN).name
    assert engine_key(request_, ORIN).name != engine_key(request_, NO_GPU).name


@pytest.mark.parametrize(
    "sizes", [((2, 2), (1, 1), (3, 3)), ((0, 1), (1, 1), (2, 2)), ((1, 1), (4, 4), (4, 3))]
)
def test_shapes_must_grow(sizes: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UsageError, match="must grow"):
        Shapes(*sizes)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="opt-level"):
        BuildSettings(opt_level=6)
    with pytest.raises(UsageError, match="workspace"):
        BuildSettings(workspace=0)
