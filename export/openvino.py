"""ONNX → OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

import openvino

from ramedge.errors import ExportError
from ramedge.runtimes.openvino import shared_core


def convert_to_openvino(onnx_file: Path, xml: Path) -> None:
    """Write `xml` and the `.bin` beside it. The precision is the ONNX file's own.

    Raises:
        ExportError: OpenVINO cannot read the file, or the IR cannot be written.
    """
    try:
        model = shared_core().read_model(onnx_file)
        openvino.save_model(model, xml, compress_to_fp16=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(f"OpenVINO cannot convert the model: {reason}") from None
