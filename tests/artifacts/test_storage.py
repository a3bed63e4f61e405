"""Graphs that share their weights, read back by ONNX, ONNX Runtime and safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from ramedge.artifacts.storage import LEAST_BYTES, external_files, read_graph, save_graphs
from ramedge.errors import WeightsError
from ramedge.export.onnx import network_graph
from ramedge.network.srram import SRRAM
from ramedge.runtimes.onnxruntime.session import open_onnx
from ramedge.runtimes.openvino import session as openvino


@pytest.fixture(scope="module")
def graphs(small_network: SRRAM) -> dict[str, onnx.ModelProto]:
    return {
        "model.onnx": network_graph(small_network, "frame"),
        "tile.onnx": network_graph(small_network, "tile"),
    }


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_graphs_read_back_as_they_were(graphs: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    save_graphs(graphs, tmp_path, "weights.safetensors")
    for name, model in graphs.items():
        found, expected = initializers(onnx.load(tmp_path / name)), initializers(model)
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            assert found[key].dtype == values.dtype
            assert found[key].tobytes() == values.tobytes()
        assert initializers(read_graph(tmp_path / name)).keys() == expected.keys()
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].name == "image"
        assert external_files(tmp_path / name) == (tmp_path / "weights.safetensors",)


def test_each_weight_stands_there_once(graphs: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    save_graphs(graphs, tmp_path, "weights.safetensors")
    stored = load_file(tmp_path / "weights.safetensors")
    contents = {
        (values.dtype, values.shape, values.tobytes())
        for model in graphs.values()
        for values in initializers(model).values()
        if values.nbytes >= LEAST_BYTES
    }
    assert len(stored) == len(contents)
    assert {(v.dtype, v.shape, v.tobytes()) for v in stored.values()} == contents


def test_what_another_file_has_is_not_written_again(
    graphs: dict[str, onnx.ModelProto], small_weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / small_weights.name
    other.write_bytes(small_weights.read_bytes())
    save_graphs(graphs, tmp_path, "more.safetensors", [other])
    trained, more = load_file(other), load_file(tmp_path / "more.safetensors")
    assert more
    assert not {v.tobytes() for v in trained.values()} & {v.tobytes() for v in more.values()}
    assert set(external_files(tmp_path / "model.onnx")) == {other, tmp_path / "more.safetensors"}
    assert initializers(onnx.load(tmp_path / "model.onnx")).keys()


def test_tensors_of_one_name_and_other_values_are_both_kept(tmp_path: Path) -> None:
    def graph(value: float) -> onnx.ModelProto:
        weights = numpy_helper.from_array(np.full(1000, value, np.float32), "w")
        node = onnx.helper.make_node("Identity", ["w"], ["y"])
        output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1000])
        return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [output], [weights]))

    save_graphs({"a.onnx": graph(1), "b.onnx": graph(2)}, tmp_path, "w.safetensors")
    for name, value in (("a", 1.0), ("b", 2.0)):
        assert (initializers(onnx.load(tmp_path / f"{name}.onnx"))["w"] == value).all()


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_files_that_an_installer_linked_are_read(
    graphs: dict[str, onnx.ModelProto], tmp_path: Path, link: str
) -> None:
    """As uv and conda install packages; `onnx.load` refuses such weights."""
    save_graphs(graphs, tmp_path / "cache", "weights.safetensors")
    (tmp_path / "installed").mkdir()
    for path in (tmp_path / "cache").iterdir():
        target = tmp_path / "installed" / path.name
        target.hardlink_to(path) if link == "hard" else target.symlink_to(path)
    for name, model in graphs.items():
        path = tmp_path / "installed" / name
        found = initializers(read_graph(path))
        assert {k: v.tobytes() for k, v in found.items()} == {
            k: v.tobytes() for k, v in initializers(model).items()
        }
        onnx.checker.check_model(read_graph(path), full_check=True)
        open_onnx(path, 2)
        if name == "model.onnx":
            with openvino.open_onnx(path, 2, "fp32") as runtime:
                assert runtime.infer(np.zeros((1, 9, 8, 3), np.uint8)).shape == (1, 18, 16, 3)


@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_weights_that_are_not_whole_are_named(
    graphs: dict[str, onnx.ModelProto], tmp_path: Path, fault: str
) -> None:
    save_graphs(graphs, tmp_path, "weights.safetensors")
    store = tmp_path / "weights.safetensors"
    if fault == "missing":
        store.unlink()
    else:
        store.write_bytes(store.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        read_graph(tmp_path / "model.onnx")


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(1000, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, "../secret.bin", 0, 4000)
    tensor.ClearField("raw_data")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    (tmp_path / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(WeightsError, match="beside it"):
        external_files(tmp_path / "m.onnx")


def test_another_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(4, np.float32)}, tmp_path / "x.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        save_graphs({}, tmp_path, "w.safetensors", [tmp_path / "bad.safetensors"])
