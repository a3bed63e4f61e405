"""PyTorch → ONNX → simplified ONNX."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ramedge.errors import ExportError, MissingExtraError
from ramedge.export.precision import to_half
from ramedge.files import atomic_path
from ramedge.network.srram import SRRAM

OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "upscaled"


class FrameGraph(nn.Module):
    """The graph kind `frame`: a whole image in, the upscaled image out."""

    def __init__(self, network: SRRAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """`[N, 3, H, W]` float32 RGB in [0, 1] → `[N, 3, s·H, s·W]` float32, not clipped."""
        output: Tensor = self.network(image)
        return output


def export_onnx(network: SRRAM, path: Path, precision: str = "fp32") -> None:
    """Write the network of one scale as ONNX with dynamic N, H and W.

    Input and output are float32 in every precision; `fp16` casts inside (`to_half`).

    Raises:
        MissingExtraError: the export extra is not installed.
        ExportError: the conversion failed.
        OutputError: the file cannot be written.
    """
    try:
        import onnxscript  # noqa: F401  # torch's exporter needs it and says so less clearly
        import onnxsim
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnxsim", "export", "Export to ONNX") from None
    graph = FrameGraph(to_half(network) if precision == "fp16" else network).eval()
    dim = torch.export.Dim
    shapes = {"image": {0: dim("n"), 2: dim("h"), 3: dim("w")}}
    example = torch.zeros(2, 3, 16, 24)
    program = _quietly_export(graph, example, shapes)
    simplified, checked = onnxsim.simplify(program)
    if not checked:
        raise ExportError("onnxsim changed the network's output; nothing was written.")
    onnx.checker.check_model(simplified, full_check=True)
    with atomic_path(path) as partial:
        onnx.save(simplified, partial)


def _quietly_export(
    graph: nn.Module, example: Tensor, shapes: dict[str, dict[int, torch.export.Dim]]
) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
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
