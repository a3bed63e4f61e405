from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ramedge.errors import UsageError, WeightsError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights, save_weights
from ramedge.upscaling.open_model import RuntimeSettings, open_model


def test_saved_weights_come_back_with_their_settings(tmp_path: Path) -> None:
    config = NetworkConfig(blocks=1, channels=16, scales=(2, 4), attention="csar", reduction=4)
    network = SRRAM(config)
    save_weights(network, tmp_path / "w.safetensors", {"steps": 7})
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.config == config
    assert loaded.training == {"steps": 7}
    image = torch.rand(1, 3, 5, 6)
    assert torch.equal(loaded.network(image, 4), network.eval()(image, 4))


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="does not say which network"):
        load_weights(path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(WeightsError, match="refused"):
        load_weights(path)
    torch.save(Bomb(trace), path)
    with pytest.raises(WeightsError, match="refused"):
        load_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"No such weights file.*nothing"):
        load_weights(tmp_path / "nothing.safetensors")


def rewrite(source: Path, target: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors import safe_open

    with safe_open(source, framework="pt") as opened:
        save_file(tensors, target, metadata=opened.metadata())


def test_a_tensor_of_another_shape_is_named(small_weights: Path, tmp_path: Path) -> None:
    tensors = load_file(small_weights)
    tensors["head.weight"] = torch.zeros(16, 3, 5, 5)
    rewrite(small_weights, tmp_path / "w.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"head\.weight has shape"):
        load_weights(tmp_path / "w.safetensors")


def test_a_missing_tensor_is_named(small_weights: Path, tmp_path: Path) -> None:
    tensors = load_file(small_weights)
    del tensors["body.bias"]
    rewrite(small_weights, tmp_path / "w.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"1 tensors missing.*body\.bias"):
        load_weights(tmp_path / "w.safetensors")


def test_nan_weights_are_refused(small_weights: Path, tmp_path: Path) -> None:
    tensors = load_file(small_weights)
    tensors["head.bias"][0] = float("nan")
    rewrite(small_weights, tmp_path / "w.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"head\.bias holds NaN"):
        load_weights(tmp_path / "w.safetensors")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, small_network: SRRAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(small_network, path)
    before = path.read_bytes()

    def broken(tensors: object, target: Path, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("ramedge.network.weights.save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        save_weights(small_network, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_file_that_is_no_weights_needs_no_torch_to_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge box has none, and to install it would not help."""
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    path = tmp_path / "weights.safetensors"
    path.write_text("not weights", encoding="utf-8")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        open_model(RuntimeSettings(model=path))


@pytest.mark.parametrize("name", ["weights.safetensors", "model.onnx"])
def test_a_part_of_a_model_names_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "manifest.json").touch()
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"--model {re.escape(str(tmp_path))}"):
        open_model(RuntimeSettings(model=tmp_path / name))
