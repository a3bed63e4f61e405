"""The ONNX graph of a network, traced once for all tests: PyTorch takes seconds for each."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from ramedge.network.srram import SRRAM

MODULE = "ramedge.export.onnx"


def trace_once(folder: Path) -> None:
    """Let `network_graph` read a graph that it made before, in this process or in another.

    Does nothing while the module is not imported, or for the second time.

    Args:
        folder: where graphs are kept; all processes of one run of the tests share it.
    """
    module = sys.modules.get(MODULE)
    if module is not None and not hasattr(module.network_graph, "traced"):
        module.network_graph = _remembering(module.network_graph, folder)  # type: ignore[attr-defined]


def _remembering(trace: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def network_graph(network: SRRAM, kind: str = "frame") -> onnx.ModelProto:
        import onnx

        path = folder / f"{_digest(network, kind)}.onnx"
        if not path.exists():
            graph = trace(network, kind)
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(graph.SerializeToString())
            partial.replace(path)
        return onnx.load_model_from_string(path.read_bytes())

    network_graph.traced = trace  # type: ignore[attr-defined]
    return network_graph


def _digest(network: SRRAM, kind: str) -> str:
    digest = hashlib.sha256(f"{kind} {network.config} {network.training}".encode())
    for name, tensor in network.state_dict().items():
        values = tensor.detach().cpu()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
