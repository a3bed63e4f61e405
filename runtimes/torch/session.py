"""PyTorch: the reference that every other backend is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramedge.artifacts.graphs import FRAME, STATISTICS, TILE, PixelType, part_index
from ramedge.errors import RuntimeUnavailableError, UsageError
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork, excitation_of
from ramedge.runtimes.base import COMPUTE_DTYPES, Arrays, GraphRequest, Session
from ramedge.runtimes.limits import Limits
from ramedge.runtimes.runtime import Runtime


class TorchSession(Session):
    """Runs a network in PyTorch, in FP32, or in half precision on a GPU."""

    name = "torch"

    def __init__(self, network: SRRAM, precision: str = "auto", device: str = "auto") -> None:
        """Take the network of one scale.

        Args:
            network: of one scale; see `SRRAM.take`.
            precision: `fp32`, `fp16` (GPU only), or `auto`: FP32, as a reference should.
            device: a torch device; `auto` takes a GPU where there is one.

        Raises:
            RuntimeUnavailableError: no such device.
        """
        name = device.lower()
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(name)
            self._network = network.eval().to(self._device)
        except (RuntimeError, AssertionError, NotImplementedError):
            raise RuntimeUnavailableError(
                f"PyTorch has no device {device!r} here: try --device cpu."
            ) from None
        self.device = str(self._device)
        self._autocast = precision == "fp16" and self._device.type == "cuda"
        self.precision = "fp16" if self._autocast else "fp32"
        self.compute_dtype = COMPUTE_DTYPES[self.precision]
        if network.config.attention == "ram":
            self._tile = TiledNetwork(network)
            self._statistics = TiledNetwork(network, upscales=False)
        if precision == "fp16" and not self._autocast:
            self.notes = ("PyTorch computes in FP32 on a CPU.",)

    @property
    def limits(self) -> Limits:
        """What the GPU has free, the allocator's own reserve included."""
        if self._device.type != "cuda":
            return Limits()
        free, _ = torch.cuda.mem_get_info(self._device)
        reserve = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(
            self._device
        )
        return Limits(free_bytes=free + reserve, features_on_device=False)

    def feature_dtype(self, fp32: bool) -> np.dtype[Any]:
        """FP16 under autocast."""
        return np.dtype(np.float16 if self._autocast and not fp32 else np.float32)

    def run(self, graph: GraphRequest, values: Arrays) -> list[NDArray[Any]]:
        """See `Session.run`."""
        half = self._autocast and not graph.fp32
        with torch.inference_mode():
            given = [self._there(value) for value in values]
            with torch.autocast(self._device.type, torch.float16, enabled=half):
                outputs = self._forward(graph, given)
            if graph.name in {FRAME, TILE} or len(outputs) == 1:
                outputs = (_packed(outputs[0].float(), graph.pixels), *outputs[1:])
            return [_array(output, graph.pixels) for output in outputs]

    def _forward(self, graph: GraphRequest, given: list[Tensor]) -> tuple[Tensor, ...]:
        index = part_index(graph.name)
        if graph.name == FRAME:
            return (self._network(_image(given[0], graph.pixels)),)
        if graph.name in {TILE, STATISTICS}:
            image, logits, mask = given
            network = self._tile if graph.name == TILE else self._statistics
            outputs: tuple[Tensor, ...] = network(_image(image, graph.pixels), logits, mask)
            return outputs
        if index == 0:
            image, mask = given
            return _stacked(self._tile.begin(_image(image, graph.pixels), mask))
        if index == self._network.config.blocks:
            image, logits, residual, transformed = given
            features = residual, transformed
            return (self._tile.finish(features, logits, _image(image, graph.pixels)),)
        if index is None:
            raise UsageError(f"PyTorch has no graph {graph.name!r}.")
        logits, mask, residual, transformed = given
        return _stacked(self._tile.advance(index, (residual, transformed), logits, mask))

    def _there(self, values: NDArray[Any]) -> Tensor:
        # torch has few operations for uint16: it crosses over as int32. It warns of pixels
        # that it may not write to, as Pillow's are: those are copied.
        if values.dtype == np.uint16:
            values = values.astype(np.int32)
        elif not values.flags.writeable:
            values = values.copy()
        return torch.from_numpy(values).to(self._device)


def open_torch(network: SRRAM, precision: str = "auto", device: str = "auto") -> Runtime:
    """A network of one scale in PyTorch; arguments and errors are those of `TorchSession`."""
    has_tiles = network.config.attention == "ram"
    excitation = excitation_of(network) if has_tiles else None
    session = TorchSession(network, precision, device)
    return Runtime(session, network.config.scales[0], excitation, by_block=has_tiles)


def _image(given: Tensor, pixels: PixelType) -> Tensor:
    """What was given as `[N, 3, H, W]` in [0, 1]."""
    if pixels == "float32":
        return given
    return given.permute(0, 3, 1, 2).float() * (1.0 / float(np.iinfo(pixels).max))


def _packed(output: Tensor, pixels: PixelType) -> Tensor:
    """`[N, 3, H, W]` in [0, 1] → `[N, H, W, 3]` integers, clipped, then rounded half to even."""
    if pixels == "float32":
        return output
    peak = float(np.iinfo(pixels).max)
    levels = (output * peak).clamp(0.0, peak).round().permute(0, 2, 3, 1)
    return levels.to(torch.uint8 if pixels == "uint8" else torch.int32).contiguous()


def _array(output: Tensor, pixels: PixelType) -> NDArray[Any]:
    values: NDArray[Any] = output.cpu().numpy()
    return values.astype(np.uint16) if pixels == "uint16" and values.dtype == np.int32 else values


def _stacked(found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Mean and M2 of `TiledNetwork.begin` as `[N, 1, C]`."""
    residual, transformed, mean, m2 = found
    return residual, transformed, mean[:, None], m2[:, None]
