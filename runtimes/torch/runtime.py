"""PyTorch: the reference that every other runtime is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ramedge.errors import RuntimeUnavailableError
from ramedge.media.frames import Pixels
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork, excitation_of
from ramedge.runtimes.base import COMPUTE_DTYPES, Features, Floats, Runtime
from ramedge.runtimes.limits import Limits


class TorchRuntime(Runtime):
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
        self.scale = network.config.scales[0]
        self._autocast = precision == "fp16" and self._device.type == "cuda"
        self.precision = "fp16" if self._autocast else "fp32"
        self.compute_dtype = COMPUTE_DTYPES[self.precision]
        if network.config.attention == "ram":
            self.excitation = excitation_of(network)
            self._tile = TiledNetwork(network)
            self._statistic = TiledNetwork(network, upscales=False)
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

    def _infer_pixels(self, pixels: Pixels) -> Pixels:
        with torch.inference_mode():
            image, half = self._image(pixels)
            return _packed(self._forward(image, half), pixels.dtype)

    def _infer_tile(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any, Any]:
        output, mean, m2 = self._run_tile(self._tile, pixels, logits, mask)
        return _packed(output.float(), pixels.dtype), mean.cpu().numpy(), m2.cpu().numpy()

    def _infer_statistic(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any]:
        mean, m2 = self._run_tile(self._statistic, pixels, logits, mask)
        return mean.cpu().numpy(), m2.cpu().numpy()

    def feature_type(self, pixel_type: np.dtype[Any]) -> np.dtype[Any] | None:  # noqa: D102
        if self.excitation is None:
            return None
        in_half = self._autocast and pixel_type == np.uint8
        return np.dtype(np.float16 if in_half else np.float32)

    def _begin(self, pixels: Pixels, mask: Floats) -> tuple[Features, Any, Any]:
        image, half = self._image(pixels)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=half):
            return _features(self._tile.begin(image, self._there(mask)))

    def _advance(
        self, block: int, features: Features, logits: Floats, mask: Floats
    ) -> tuple[Features, Any, Any]:
        half = features.residual.dtype == np.float16
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=half):
            given = self._pair(features), self._there(logits), self._there(mask)
            return _features(self._tile.advance(block, *given))

    def _finish(self, features: Features, logits: Floats, pixels: Pixels) -> Pixels:
        image, half = self._image(pixels)
        with torch.inference_mode():
            with torch.autocast(self._device.type, torch.float16, enabled=half):
                output = self._tile.finish(self._pair(features), self._there(logits), image)
            return _packed(output.float(), pixels.dtype)

    def _there(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def _pair(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        return self._there(features.residual[None]), self._there(features.transformed[None])

    def _run_tile(
        self, network: TiledNetwork, pixels: Pixels, logits: Floats, mask: Floats
    ) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            image, half = self._image(pixels)
            given = (torch.from_numpy(values).to(self._device) for values in (logits, mask))
            with torch.autocast(self._device.type, torch.float16, enabled=half):
                outputs: tuple[torch.Tensor, ...] = network(image, *given)
        return outputs

    def _image(self, pixels: Pixels) -> tuple[torch.Tensor, bool]:
        """Pixels as `[N, 3, H, W]` in [0, 1], and whether they bear half precision."""
        wide = pixels.dtype == np.uint16
        # torch has few operations for uint16: it crosses over as int32. It warns of pixels
        # that it may not write to, as Pillow's are: those are copied.
        values = torch.from_numpy(pixels.astype(np.int32) if wide else _writable(pixels))
        peak = float(np.iinfo(pixels.dtype).max)
        image = values.to(self._device).permute(0, 3, 1, 2).float() * (1.0 / peak)
        return image, self._autocast and not wide

    def _infer_float(self, images: NDArray[np.float32], fp32: bool) -> NDArray[np.float32]:
        half = self._autocast and not fp32
        with torch.inference_mode():
            output = self._forward(torch.from_numpy(images).to(self._device), half=half)
            result: NDArray[np.float32] = output.cpu().numpy()
        return result

    def _forward(self, image: torch.Tensor, half: bool) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.float16, enabled=half):
            output: torch.Tensor = self._network(image)
        return output.float()


def _features(found: tuple[torch.Tensor, ...]) -> tuple[Features, Any, Any]:
    """The features of N = 1, and mean and M2 `[1, 1, C]`."""
    residual, transformed, mean, m2 = (values.cpu().numpy() for values in found)
    return Features(residual[0], transformed[0]), mean[:, None], m2[:, None]


def _writable(pixels: Pixels) -> Pixels:
    return pixels if pixels.flags.writeable else pixels.copy()


def _packed(output: torch.Tensor, dtype: np.dtype[Any]) -> Pixels:
    """`[N, 3, H, W]` in [0, 1] → `[N, H, W, 3]` integers, clipped, then rounded half to even."""
    peak = float(np.iinfo(dtype).max)
    levels = (output * peak).clamp(0.0, peak).round().permute(0, 2, 3, 1)
    wide = dtype == np.uint16
    packed = levels.to(torch.int32 if wide else torch.uint8).contiguous().cpu().numpy()
    result: Pixels = packed.astype(np.uint16) if wide else packed
    return result
