"""Real parsing and building with TensorRT-RTX, which needs no GPU. What it built has not run."""

from __future__ import annotations

import _thread
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ramedge.artifacts.graphs import cut, with_pixels
from ramedge.artifacts.storage import load_graph
from ramedge.calibration.pictures import CalibrationFrame
from ramedge.calibration.quantize import QuantizationPlan, dense_convolutions, inputs_of
from ramedge.calibration.ranges import measure
from ramedge.errors import ExportError, WeightsError
from ramedge.export.onnx import export_onnx
from ramedge.network.srram import SRRAM
from ramedge.runtimes.tensorrt.build import EngineRequest, get_engine
from ramedge.runtimes.tensorrt.cache import EngineCache
from ramedge.runtimes.tensorrt.plan import BuildSettings, Shapes, build_plan
from ramedge.runtimes.tensorrt.variant import RTX
from ramedge.samples import PHOTOS, sample_photo

needs_rtx = pytest.mark.skipif(
    not RTX.installed(), reason="TensorRT-RTX is not installed: pip install tensorrt-rtx"
)
SETTINGS = BuildSettings(Shapes((1, 1), (90, 160), (360, 640)))


@pytest.fixture(scope="module")
def models(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of one small network: `fp32`, `fp16`, `int8` and the tile graphs."""
    folder = tmp_path_factory.mktemp("onnx")
    found = {}
    for precision in ("fp32", "fp16"):
        for kind in ("frame", "tile"):
            name = f"{precision}" if kind == "frame" else f"{precision}_tile"
            found[name] = folder / f"{name}.onnx"
            export_onnx(small_network, found[name], precision, kind)
    frames = []
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            pixels = np.asarray(opened.convert("RGB"))[80:144, 60:124]
        frames.append(CalibrationFrame(name, pixels, name))
    model = onnx.load(found["fp32"])
    names = dense_convolutions(model)
    tensors = inputs_of(model, names)
    measured = measure(found["fp32"], list(tensors.values()), frames)
    inner = [measured[tensors[name]].ranges("minmax") for name in names[1:-1]]
    found["int8"] = folder / "int8.onnx"
    # The plan is from the FP32 model; the FP16 one has the same convolutions in the same order.
    QuantizationPlan((None, *inner, None)).apply(found["fp16"], found["int8"])
    return found


def request(models: dict[str, Path], precision: str, kind: str = "frame") -> EngineRequest:
    name = precision if kind == "frame" else f"{precision}_tile"
    return EngineRequest(
        models[name], "small", 2, precision, RTX, kind, settings=SETTINGS  # type: ignore[arg-type]
    )  # fmt: skip


def test_int8_has_fp16_around_it_and_fp32_where_it_was(models: dict[str, Path]) -> None:
    """ONNX Runtime runs the file: its types fit, and it is near the FP32 network."""
    graph = load_graph(models["int8"]).graph
    kinds = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer}
    convolutions = Counter(
        kinds.get(node.input[1], "INT8") for node in graph.node if node.op_type == "Conv"
    )
    # Head and collapsed tail, two depth-wise layers, the rim's four strips of two layers and of the
    # collapsed tail; the attention's two of each of two blocks and the picture's own way.
    assert convolutions == {"INT8": 5, "FLOAT16": 16, "FLOAT": 5}
    scales = {kinds[n.input[1]] for n in graph.node if n.op_type == "QuantizeLinear"}
    assert scales == {"FLOAT16"}
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        photo = np.asarray(opened.convert("RGB"), np.float32)[80:144, 60:124] / 255
    image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None])
    found, expected = (
        onnxruntime.InferenceSession(models[name], providers=["CPUExecutionProvider"]).run(
            None, {"image": image}
        )[0]
        for name in ("int8", "fp32")
    )
    assert 30 < -10 * np.log10(np.mean((found - expected) ** 2)) < 90


def test_pixels_in_the_graph_are_the_floats_clipped_then_rounded(models: dict[str, Path]) -> None:
    graph = with_pixels(load_graph(models["fp32"]), "uint8")
    onnx.checker.check_model(graph, full_check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    image = (pixels / 255).astype(np.float32).transpose(0, 3, 1, 2)
    providers = ["CPUExecutionProvider"]
    plain = onnxruntime.InferenceSession(models["fp32"], providers=providers)
    inside = onnxruntime.InferenceSession(graph.SerializeToString(), providers=providers)
    (expected,) = plain.run(None, {"image": np.ascontiguousarray(image)})
    (found,) = inside.run(None, {"pixels": pixels})
    levels = np.rint(np.clip(expected * 255, 0, 255)).transpose(0, 2, 3, 1)
    assert (found.dtype, found.shape) == (np.uint8, (2, 18, 14, 3))
    assert np.abs(found.astype(int) - levels).max() <= 1
    assert (found != levels).mean() < 0.001


def test_statistics_are_those_of_the_tile_without_its_upscaling(models: dict[str, Path]) -> None:
    tile = load_graph(models["fp32_tile"])
    alone = cut(tile, "statistics")
    assert [value.name for value in alone.graph.output] == ["mean", "m2"]
    assert "DepthToSpace" not in {node.op_type for node in alone.graph.node}
    rng = np.random.default_rng(0)
    given = {
        "image": rng.random((1, 3, 20, 24), dtype=np.float32),
        "logits": rng.random((1, 2, 16), dtype=np.float32),
        "mask": np.ones((1, 1, 20, 24), np.float32),
    }
    providers = ["CPUExecutionProvider"]
    whole = onnxruntime.InferenceSession(models["fp32_tile"], providers=providers)
    part = onnxruntime.InferenceSession(alone.SerializeToString(), providers=providers)
    for found, expected in zip(part.run(None, given), whole.run(None, given)[1:], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@needs_rtx
@pytest.mark.parametrize("kind", ["frame", "tile", "statistics", "part0", "part1", "part2"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engines_hold_the_precision_of_their_file(
    models: dict[str, Path], tmp_path: Path, precision: str, kind: str
) -> None:
    if precision == "int8" and kind != "frame":
        pytest.skip("int8 is exported for whole frames")
    said: list[float] = []
    engine = get_engine(
        request(models, precision, kind), EngineCache(tmp_path),
        on_progress=lambda share, phase: said.append(share),
    )  # fmt: skip
    layers = engine.record.layers
    assert said == sorted(said)
    assert said[-1] == 1.0
    assert engine.record.key.gpu == "none" or engine.record.key.driver != "none"
    half = {"fp32": 0, "fp16": 1, "int8": 1}[precision]
    assert bool(layers.get("CONVOLUTION HALF", 0)) == bool(half)
    assert layers.get("QUANTIZE INT8", 0) == (5 if precision == "int8" else 0)
    # The variance, and what follows from it, is FP32 in every precision. The last part has none.
    if kind != "part2":
        assert layers["REDUCE FLOAT"] >= 2 * (2 if kind == "frame" else 1)
    assert "REDUCE HALF" not in layers


@needs_rtx
def test_the_second_build_is_alike_and_the_third_is_none(
    models: dict[str, Path], tmp_path: Path
) -> None:
    cache = EngineCache(tmp_path)
    first = get_engine(request(models, "fp16"), cache)
    second = get_engine(request(models, "fp16"), cache, rebuild=True)
    third = get_engine(request(models, "fp16"), cache)
    assert (first.cached, second.cached, third.cached) == (False, False, True)
    assert (first.record.size, first.record.layers) == (second.record.size, second.record.layers)
    # The builder numbers the sizes that are known only at run time, and not always in one order:
    # a few bytes may differ, no weight and no layer does.
    different = np.frombuffer(first.data, np.uint8) != np.frombuffer(second.data, np.uint8)
    assert different.sum() < 200
    assert third.data == second.data


@needs_rtx
def test_ctrl_c_stops_the_builder_and_leaves_nothing(
    models: dict[str, Path], tmp_path: Path
) -> None:
    pressed: list[str] = []

    def press(share: float, phase: str) -> None:
        if share > 0.05 and not pressed:
            pressed.append(phase)
            _thread.interrupt_main()

    cache = EngineCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        get_engine(request(models, "fp32"), cache, on_progress=press)
    assert pressed
    assert cache.records() == []
    assert get_engine(request(models, "fp32"), cache).record.size > 0


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"nonsense", lambda data: b""],
    ids=["half", "nonsense", "empty"],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line(
    models: dict[str, Path], tmp_path: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ramedge.runtimes.tensorrt.variant import Variant

    monkeypatch.setattr(Variant, "load", lambda self: None)
    monkeypatch.setattr(Variant, "version", lambda self: "1")
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(models["fp32"].read_bytes()))
    wanted = replace(request(models, "fp32"), model=path)
    with pytest.raises(WeightsError, match="damaged or not an ONNX file") as failure:
        get_engine(wanted, EngineCache(tmp_path / "cache"))
    assert "\n" not in str(failure.value)


@needs_rtx
def test_what_the_parser_refuses_is_one_line() -> None:
    """Past our own checks: the parser's first error with its node."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Nonsense", ["image"], ["out"], name="strange")
    graph = onnx.helper.make_graph(
        [node], "g", [value("image", 1, [1, 3, "h", "w"])], [value("out", 1, [1, 3, "h", "w"])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    with pytest.raises(ExportError, match="TensorRT-RTX refuses the model: strange") as failure:
        build_plan(model.SerializeToString(), SETTINGS, RTX)
    assert "\n" not in str(failure.value)


def test_unsigned_quantization_is_refused_before_any_build(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT would take it as int8 with a warning, and clip half the range."""
    from ramedge.runtimes.tensorrt.variant import Variant

    monkeypatch.setattr(Variant, "load", lambda self: None)
    monkeypatch.setattr(Variant, "version", lambda self: "1")
    model = onnx.load(models["int8"])
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    for tensor in model.graph.initializer:
        if tensor.name == first.input[2]:
            zero = onnx.numpy_helper.from_array(np.zeros((), np.uint8), tensor.name)
            tensor.CopyFrom(zero)
    path = tmp_path / "uint8.onnx"
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"must not be built.*uint8"):
        get_engine(replace(request(models, "int8"), model=path), EngineCache(tmp_path / "cache"))
