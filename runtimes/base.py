"""The interface that every runtime has; `tests/conformance` holds what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import UsageError
from ramedge.media.frames import Pixels


class Runtime(ABC):
    """One network of one scale, loaded and ready, on one device.

    Public methods check their input; back ends implement the underscored ones only. A
    runtime may be used by one thread at a time.

    Attributes:
        name: `torch`, `openvino` …
        device: where it computes, in the back end's words.
        scale: 2, 3 or 4.
        precision: the arithmetic that really runs: `fp32`, `bf16` or `fp16`.
        notes: fallbacks taken while opening, each one line for the user.
    """

    name: str
    device: str
    scale: int
    precision: str
    notes: tuple[str, ...] = ()

    def infer(self, pixels: Pixels) -> Pixels:
        """Upscale RGB pixels.

        `[N, H, W, 3]` uint8 (0–255) or uint16 (0–65535), any H, W ≥ 1 → `[N, s·H, s·W, 3]`
        of the same dtype, clipped to its range, then rounded half to even. The conversion
        runs inside the runtime's graph. 16-bit pixels are always computed in FP32.

        Raises:
            UsageError: another shape or dtype.
        """
        if pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
            raise UsageError(f"Expected pixels [N, H, W, 3], got {list(pixels.shape)}.")
        if pixels.dtype not in (np.uint8, np.uint16):
            raise UsageError(f"Expected uint8 or uint16 pixels, got {pixels.dtype}.")
        contiguous: Pixels = np.ascontiguousarray(pixels)  # type: ignore[assignment]
        return self._infer_pixels(contiguous)

    def infer_float(self, images: NDArray[np.float32], fp32: bool = False) -> NDArray[np.float32]:
        """The bare network, for comparisons and for means over several of its outputs.

        RGB in [0, 1], `[N, 3, H, W]` float32 → `[N, 3, s·H, s·W]` float32, not clipped.

        Args:
            images: any H, W ≥ 1.
            fp32: compute in FP32 whatever `precision` is, as 16-bit pixels need it.

        Raises:
            UsageError: another shape or dtype.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise UsageError(f"Expected images [N, 3, H, W], got {list(images.shape)}.")
        if images.dtype != np.float32:
            raise UsageError(f"Expected float32 images, got {images.dtype}.")
        return self._infer_float(np.ascontiguousarray(images), fp32)

    @abstractmethod
    def _infer_pixels(self, pixels: Pixels) -> Pixels: ...

    @abstractmethod
    def _infer_float(self, images: NDArray[np.float32], fp32: bool) -> NDArray[np.float32]: ...

    def close(self) -> None:  # noqa: B027  # most back ends have nothing to free
        """Free what the runtime holds. It must not be used afterwards."""

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
