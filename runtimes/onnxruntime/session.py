"""ONNX Runtime on the CPU: what the gate runs ONNX files with.

It rounds to FP16 between the nodes of an FP16 graph as a GPU would, which OpenVINO on a CPU
does not. Not offered for upscaling: OpenVINO is faster.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.storage import read_graph
from ramedge.errors import MissingExtraError, WeightsError

Floats = NDArray[np.float32]


class OnnxRuntimeSession:
    """An ONNX file of ours: float32 image in, float32 image out."""

    def __init__(self, model: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", "export", "Checking an ONNX file") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: it warns of FP16 constants that it does not fold
        try:
            self._session = onnxruntime.InferenceSession(
                read_graph(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base
            reason = str(error).strip().splitlines()[0]
            raise WeightsError(f"{model} is not a model ONNX Runtime reads: {reason}") from None
        self._input = self._session.get_inputs()[0].name

    def infer_float(self, images: Floats) -> Floats:
        """RGB in [0, 1], `[N, 3, H, W]` → `[N, 3, s·H, s·W]`, not clipped."""
        result: Floats = self._session.run(None, {self._input: images})[0]
        return result

    def infer_tile_float(
        self, images: Floats, logits: Floats, mask: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """The graph kind `tile`: see `ramedge.network.tiled.TiledNetwork.forward`."""
        inputs = {"image": images, "logits": logits, "mask": mask}
        output, mean, m2 = self._session.run(None, inputs)
        return output, mean, m2
