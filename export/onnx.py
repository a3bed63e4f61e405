"""PyTorch → ONNX → simplified ONNX."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ramedge.artifacts.graphs import IMAGE, LOGITS, MASK, UPSCALED, GraphKind
from ramedge.artifacts.half import to_half
from ramedge.errors import ExportError, MissingExtraError
from ramedge.export.roles import name_by_role
from ramedge.files import atomic_path
from ramedge.network.collapse import collapse
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork

OPSET = 20


class FrameGraph(nn.Module):
    """The graph kind `frame`: a whole image in, the upscaled image out."""

    def __init__(self, network: SRRAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """`[N, 3, H, W]` float32 RGB in [0, 1] → `[N, 3, s·H, s·W]` float32, not clipped."""
        output: Tensor = self.network(image)
        return output


_INPUTS = {"frame": (IMAGE,), "tile": (IMAGE, LOGITS, MASK)}
_OUTPUTS = {
    "frame": (UPSCALED,),
    "tile": (UPSCALED, "mean", "m2"),
    "statistics": ("mean", "m2"),
}


def export_onnx(
    network: SRRAM, path: Path, precision: str = "fp32", kind: GraphKind = "frame"
) -> None:
    """Write `network_graph` as one file, weights and all; `fp16` casts inside (`to_half`).

    Raises:
        UsageError, MissingExtraError, ExportError: see `network_graph`.
        OutputError: the file cannot be written.
    """
    graph = network_graph(network, kind)
    with atomic_path(path) as partial:
        onnx.save(to_half(graph) if precision == "fp16" else graph, partial)


def network_graph(network: SRRAM, kind: GraphKind = "frame") -> onnx.ModelProto:
    """The network of one scale as ONNX in FP32, with dynamic N, H and W.

    `frame` maps `image` to `upscaled`; `tile` and `statistics` are those of
    `ramedge.network.tiled`, with inputs `image`, `logits`, `mask` and outputs `upscaled` (`tile`
    only), `mean`, `m2`.

    Raises:
        UsageError: the network's attention has no tiles.
        MissingExtraError: the export extra is not installed.
        ExportError: the conversion failed.
    """
    try:
        import onnxscript  # noqa: F401  # torch's exporter needs it and says so less clearly
        import onnxsim
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnxsim", "export", "Export to ONNX") from None
    program = _quietly_export(_graph(collapse(network), kind).eval(), network.config, kind)
    simplified: onnx.ModelProto
    simplified, checked = onnxsim.simplify(program)
    if not checked:
        raise ExportError("onnxsim changed the network's output; nothing was written.")
    name_by_role(simplified)
    onnx.checker.check_model(simplified, full_check=True)
    return simplified


def _graph(network: SRRAM, kind: GraphKind) -> nn.Module:
    if kind == "frame":
        return FrameGraph(network)
    return TiledNetwork(network, upscales=kind == "tile")


def _quietly_export(graph: nn.Module, config: NetworkConfig, kind: GraphKind) -> onnx.ModelProto:
    dim = torch.export.Dim
    n, h, w = dim("n"), dim("h"), dim("w")
    image = torch.zeros(2, 3, 16, 24)
    examples: tuple[Tensor, ...] = (image,)
    shapes: dict[str, dict[int, torch.export.Dim]] = {"image": {0: n, 2: h, 3: w}}
    if kind != "frame":
        logits = torch.zeros(2, config.blocks, config.channels)
        examples = (image, logits, torch.ones(2, 1, 16, 24))
        shapes |= {"logits": {0: n}, "mask": {0: n, 2: h, 3: w}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                examples,
                input_names=_INPUTS["frame" if kind == "frame" else "tile"],
                output_names=_OUTPUTS[kind],
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"PyTorch cannot export this network: {error}") from error
    if program is None:
        raise ExportError("PyTorch's exporter returned no program.")
    return program.model_proto
