"""PyTorch as a backend."""

from __future__ import annotations

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import MissingExtraError
from ramedge.runtimes.backend import Backend, OpenOptions, WeightsFile
from ramedge.runtimes.runtime import Runtime
from ramedge.system import has_torch


class Torch(Backend):
    """The reference. It runs weights, which need no export."""

    name = "torch"
    title = "PyTorch"
    takes = "weights"

    def open(self, model: ModelFiles | WeightsFile, options: OpenOptions) -> Runtime:  # noqa: D102
        if not has_torch():
            raise MissingExtraError("torch", "export", "Running weights in PyTorch")
        from ramedge.network.weights import load_weights
        from ramedge.runtimes.torch.session import open_torch

        assert isinstance(model, WeightsFile)
        network = load_weights(model.path).network.take(model.scale)
        return open_torch(network, options.precision, options.device)


TORCH = Torch()
