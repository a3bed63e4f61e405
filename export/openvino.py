"""ONNX → OpenVINO IR, several graphs over one file of weights."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import onnx
import openvino

from ramedge.errors import ExportError
from ramedge.files import atomic_path
from ramedge.runtimes.openvino.session import WEIGHTS_NAME, shared_core

_ALIGNMENT = 64


def convert_to_openvino(graphs: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Write each graph as IR, and the weights of all of them once, to `WEIGHTS_NAME`.

    The precision is the ONNX graphs' own.

    Args:
        graphs: with their weights, by the name that their IR gets, `….xml`.
        folder: where everything is written.

    Raises:
        ExportError: OpenVINO cannot read a graph, or its IR cannot be written.
        OutputError: a file cannot be written.
    """
    weights = bytearray()
    places: dict[bytes, int] = {}
    for name, source in graphs.items():
        document, own = _convert(source)
        for data in document.iterfind(".//layer[@type='Const']/data"):
            first, size = int(data.attrib["offset"]), int(data.attrib["size"])
            content = own[first : first + size]
            if content not in places:
                weights.extend(bytes(-len(weights) % _ALIGNMENT))
                places[content] = len(weights)
                weights.extend(content)
            data.set("offset", str(places[content]))
        with atomic_path(folder / name) as partial:
            document.write(partial, encoding="utf-8", xml_declaration=True)
    with atomic_path(folder / WEIGHTS_NAME) as partial:
        partial.write_bytes(weights)


def _convert(source: onnx.ModelProto) -> tuple[ET.ElementTree[ET.Element], bytes]:
    """The IR of a graph, and its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        try:
            model = shared_core().read_model(source.SerializeToString())
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ExportError(f"OpenVINO cannot convert the model: {reason}") from None
        # Written by OpenVINO just now.
        return ET.parse(path), path.with_suffix(".bin").read_bytes()  # noqa: S314
