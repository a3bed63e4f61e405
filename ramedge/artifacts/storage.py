"""ONNX graphs that share their weights: one safetensors file is the external data of all of them.

ONNX's external data names a file beside the graph, an offset and a length, and a safetensors file
is a header and then the bare tensors. So every tool that reads ONNX finds them, and they are also
tensors by name.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data
from safetensors.numpy import save_file

from ramedge.errors import WeightsError
from ramedge.files import atomic_path

LEAST_BYTES = 1024
"""Tensors of fewer bytes stay in the graph."""
_TYPES = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "I8": TensorProto.INT8,
    "I64": TensorProto.INT64,
}
_Content = tuple[int, tuple[int, ...], bytes]
"""Type, shape and bytes of a tensor."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor's bytes stand."""

    file: str
    offset: int
    length: int


def save_graphs(
    graphs: Mapping[str, onnx.ModelProto], folder: Path, store: str, others: Iterable[Path] = ()
) -> None:
    """Write graphs to a folder, their weights once.

    Args:
        graphs: by file name, with their weights inside; they stay as they are.
        folder: where everything is written.
        store: name of the safetensors file for the weights; not written where `others` hold all.
        others: safetensors files in `folder` whose tensors are used where they are the same.

    Raises:
        WeightsError: one of `others` cannot be read.
        OutputError: a file cannot be written.
    """
    places: dict[_Content, _Place] = {}
    for other in others:
        places.update(_read_places(other))
    tensors: dict[str, NDArray[np.generic]] = {}
    own: set[_Content] = set()
    for model in graphs.values():
        for tensor in model.graph.initializer:
            content = _content(tensor)
            if len(content[2]) < LEAST_BYTES or content in places or content in own:
                continue
            own.add(content)
            tensors[_free_name(tensor.name, tensors)] = numpy_helper.to_array(tensor)
    if tensors:
        with atomic_path(folder / store) as partial:
            save_file(tensors, partial)
        places.update(_read_places(folder / store))
    for name, model in graphs.items():
        outside = onnx.ModelProto()
        outside.CopyFrom(model)
        for tensor in outside.graph.initializer:
            found = places.get(_content(tensor))
            if found is not None and found.length >= LEAST_BYTES:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                set_external_data(tensor, found.file, found.offset, found.length)
                tensor.ClearField("raw_data")
        with atomic_path(folder / name) as partial:
            partial.write_bytes(outside.SerializeToString(deterministic=True))


def read_graph(model: Path) -> onnx.ModelProto:
    """An ONNX file with the weights that stand beside it.

    `onnx.load` refuses weights in a file with several hard links, as package installers make them.

    Raises:
        WeightsError: it is not an ONNX file, or its weights are missing, cut, or elsewhere.
    """
    graph = _read(model)
    files = {path.name: path for path in external_files(model)}
    data: dict[str, bytes] = {}
    for tensor in graph.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entry = _entry(tensor)
        file = files[entry["location"]]
        try:
            whole = data.setdefault(file.name, file.read_bytes())
        except OSError as error:
            raise WeightsError(f"Cannot read {file}: {error.strerror}.") from None
        first, length = int(entry.get("offset", "0")), int(entry["length"])
        if first + length > len(whole):
            raise WeightsError(f"{file} is cut off: {model.name} needs more of it.")
        tensor.raw_data = whole[first : first + length]
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
    return graph


def load_graph(path: Path) -> onnx.ModelProto:
    """`read_graph`, and a check that the graph is valid ONNX.

    Raises:
        WeightsError: it is not a whole, valid ONNX file.
    """
    model = read_graph(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf's and onnx's errors share no public base
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise WeightsError(f"{path} is damaged or not an ONNX file: {reason}") from None
    return model


def external_files(model: Path) -> tuple[Path, ...]:
    """The files beside an ONNX file that hold weights of it, by name.

    Raises:
        WeightsError: it is not an ONNX file, or names a file elsewhere.
    """
    names = {entry["location"] for entry in _external_entries(model)}
    for name in names:
        if Path(name).name != name:
            raise WeightsError(f"{model} has weights in {name}: they must stand beside it.")
    return tuple(model.parent / name for name in sorted(names))


def bytes_read(model: Path) -> int:
    """Bytes of an ONNX file and of the weights beside it that it reads.

    Raises:
        WeightsError: it is not an ONNX file.
    """
    return model.stat().st_size + sum(int(entry["length"]) for entry in _external_entries(model))


def _read(model: Path) -> onnx.ModelProto:
    try:
        return onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors share no public base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{model} is damaged or not an ONNX file: {reason}") from None


def _external_entries(model: Path) -> list[dict[str, str]]:
    return [
        _entry(tensor)
        for tensor in _read(model).graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]


def _entry(tensor: onnx.TensorProto) -> dict[str, str]:
    """Where a tensor's bytes stand: `location`, `offset`, `length`."""
    size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    found = {entry.key: entry.value for entry in tensor.external_data}
    return {"location": "", "length": str(size)} | found


def _content(tensor: onnx.TensorProto) -> _Content:
    return tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    """`name`, or with a number where another tensor has it: nodes of two graphs may share names."""
    number, found = 2, name
    while found in taken:
        found, number = f"{name}.{number}", number + 1
    return found


def _read_places(path: Path) -> dict[_Content, _Place]:
    """The tensors of a safetensors file by their content.

    The format: https://huggingface.co/docs/safetensors, eight bytes with the header's length, the
    header as JSON, then the tensors.
    """
    try:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (OSError, ValueError, struct.error):
        raise WeightsError(f"{path} is not a safetensors file.") from None
    found: dict[_Content, _Place] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in _TYPES:
            continue
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        content = _TYPES[entry["dtype"]], tuple(entry["shape"]), data[first:last]
        found[content] = _Place(path.name, first, last - first)
    return found
