"""The interface that every runtime has; `tests/conformance` holds what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import UsageError
from ramedge.media.frames import Pixels
from ramedge.network.channel_statistics import ChannelExcitation, Statistic, Values
from ramedge.runtimes.limits import Limits
from ramedge.types import Window

Floats = NDArray[np.float32]
GraphKind = Literal["frame", "tile", "statistics"]
"""Whole images; tiles that share a frame's attention; the same for their statistic alone."""
COMPUTE_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
R = TypeVar("R", bound="Runtime")


class Features(NamedTuple):
    """What a frame, or a window of it, is between two blocks (paper, Eq. 5).

    The type is the runtime's own, see `Runtime.feature_type`: half-precision bits may be of
    bfloat16 whatever numpy calls them.

    Attributes:
        residual: F_{r-1}, `[C, H, W]`.
        transformed: X_r, what block r's attention is for, `[C, H, W]`.
    """

    residual: NDArray[Any]
    transformed: NDArray[Any]


class Runtime(ABC):
    """One network of one scale, loaded and ready, on one device.

    Public methods check their input; back ends implement the underscored ones only. A
    runtime may be used by one thread at a time.

    Attributes:
        name: `torch`, `openvino` …
        device: where it computes, in the back end's words.
        scale: 2, 3 or 4.
        precision: the arithmetic that really runs: `fp32`, `bf16`, `fp16` or `int8`.
        compute_dtype: what is computed in: `float32`, `bfloat16` or `float16`; of `int8` what
            stands around it.
        notes: fallbacks taken while opening, each one line for the user.
        excitation: what turns the frame's variance into attention, for tiles that share it;
            `None` where the model has no tile graph.
    """

    name: str
    device: str
    scale: int
    precision: str
    compute_dtype: str
    notes: tuple[str, ...] = ()
    excitation: ChannelExcitation | None = None

    @property
    def limits(self) -> Limits:
        """What the device leaves now."""
        return Limits()

    def infer(self, pixels: Pixels) -> Pixels:
        """Upscale RGB pixels.

        `[N, H, W, 3]` uint8 (0–255) or uint16 (0–65535), any H, W ≥ 1 → `[N, s·H, s·W, 3]`
        of the same dtype, clipped to its range, then rounded half to even. The conversion
        runs inside the runtime's graph. 16-bit pixels are always computed in FP32.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the device's memory does not suffice.
        """
        contiguous = _checked(pixels)
        with _memory_errors():
            return self._infer_pixels(contiguous)

    def infer_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`infer` for one frame after another, in order; several at once where that is faster.

        Frames are taken before the results of those before them are given.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the device's memory does not suffice.
        """
        with _memory_errors():
            yield from self._infer_many(map(_checked, frames))

    def _infer_many(self, frames: Iterator[Pixels]) -> Iterator[Pixels]:
        yield from map(self._infer_pixels, frames)

    def infer_float(self, images: NDArray[np.float32], fp32: bool = False) -> NDArray[np.float32]:
        """The bare network, for comparisons and for means over several of its outputs.

        RGB in [0, 1], `[N, 3, H, W]` float32 → `[N, 3, s·H, s·W]` float32, not clipped.

        Args:
            images: any H, W ≥ 1.
            fp32: compute in FP32 whatever `precision` is, as 16-bit pixels need it.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the device's memory does not suffice.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise UsageError(f"Expected images [N, 3, H, W], got {list(images.shape)}.")
        if images.dtype != np.float32:
            raise UsageError(f"Expected float32 images, got {images.dtype}.")
        with _memory_errors():
            return self._infer_float(np.ascontiguousarray(images), fp32)

    def infer_tile(
        self, pixels: Pixels, logits: Values, interior: Window
    ) -> tuple[Pixels, Statistic]:
        """Upscale a tile with the frame's attention, and measure the tile's own statistic.

        Args:
            pixels: `[H, W, 3]` uint8 or uint16, as `infer`.
            logits: attention logits of the frame, `[R, C]`.
            interior: the part of the tile that counts for the statistic.

        Returns:
            `[s·H, s·W, 3]` of the same dtype, and the statistic over the interior.

        Raises:
            UsageError: another shape or dtype, or a model without a tile graph.
            MemoryError: the device's memory does not suffice.
        """
        self._check_tile(pixels, logits, interior)
        with _memory_errors():
            output, mean, m2 = self._infer_tile(*_tile_arrays(pixels, logits, interior))
        return output[0], Statistic(_area(interior), _wide(mean), _wide(m2))

    def infer_statistic(self, pixels: Pixels, logits: Values, interior: Window) -> Statistic:
        """The statistic of `infer_tile` alone, without the upscaling."""
        self._check_tile(pixels, logits, interior)
        with _memory_errors():
            mean, m2 = self._infer_statistic(*_tile_arrays(pixels, logits, interior))
        return Statistic(_area(interior), _wide(mean), _wide(m2))

    def feature_type(self, pixel_type: np.dtype[Any]) -> np.dtype[Any] | None:
        """Of `Features` for 8 or 16-bit pixels; `None` where frames do not run block by block."""
        del pixel_type
        return None

    def begin(self, pixels: Pixels, interior: Window) -> tuple[Features, Statistic]:
        """A tile up to the first block's features, where `feature_type` is not `None`.

        Args:
            pixels: `[H, W, 3]` uint8 or uint16, as `infer`.
            interior: the part of the tile that counts for the statistic.

        Returns:
            F_0 and X_1 of the whole tile, which stay what they are until the next call, and the
            statistic of X_1, `[1, C]`.

        Raises:
            UsageError: another shape or dtype, or a model without a tile graph.
            MemoryError: the device's memory does not suffice.
        """
        self._check_tile(pixels, None, interior)
        with _memory_errors():
            features, mean, m2 = self._begin(pixels[None], _mask(pixels.shape[:2], interior))
        return features, Statistic(_area(interior), _wide(mean), _wide(m2))

    def advance(
        self, block: int, features: Features, logits: Values, interior: Window
    ) -> tuple[Features, Statistic]:
        """A tile from one block to the next.

        Args:
            block: r, from 1 to R - 1.
            features: F_{r-1} and X_r.
            logits: attention logits of the frame, `[R, C]`; those of block r are used.
            interior: the part of the tile that counts for the statistic.

        Returns:
            F_r and X_{r+1} of the whole tile, which stay what they are until the next call, and the
            statistic of X_{r+1}, `[1, C]`.

        Raises:
            MemoryError: the device's memory does not suffice.
        """
        mask = _mask(features.residual.shape[1:], interior)
        with _memory_errors():
            features, mean, m2 = self._advance(block, features, _narrow(logits), mask)
        return features, Statistic(_area(interior), _wide(mean), _wide(m2))

    def finish(self, features: Features, logits: Values, pixels: Pixels) -> Pixels:
        """A tile from F_{R-1} and X_R to its upscaled pixels `[s·H, s·W, 3]`.

        Raises:
            MemoryError: the device's memory does not suffice.
        """
        with _memory_errors():
            upscaled: Pixels = self._finish(features, _narrow(logits), pixels[None])[0]
        return upscaled

    def _begin(self, pixels: Pixels, mask: Floats) -> tuple[Features, Any, Any]:
        """`[1, H, W, 3]`, `[1, 1, H, W]` → features, mean and M2 `[1, 1, C]`."""
        raise NotImplementedError

    def _advance(
        self, block: int, features: Features, logits: Floats, mask: Floats
    ) -> tuple[Features, Any, Any]:
        raise NotImplementedError

    def _finish(self, features: Features, logits: Floats, pixels: Pixels) -> Pixels:
        """`[1, H, W, 3]` pixels → `[1, s·H, s·W, 3]`."""
        raise NotImplementedError

    def _check_tile(self, pixels: Pixels, logits: Values | None, interior: Window) -> None:
        if self.excitation is None:
            raise UsageError("This model has no graph for tiles: export it again.")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
            raise UsageError(f"Expected 8 or 16-bit pixels [H, W, 3], got {list(pixels.shape)}.")
        if logits is not None and logits.shape != self.excitation.shape:
            raise UsageError(f"Expected logits {self.excitation.shape}, got {logits.shape}.")
        inside = 0 <= interior.top < interior.bottom <= pixels.shape[0]
        if not (inside and 0 <= interior.left < interior.right <= pixels.shape[1]):
            raise UsageError(f"{interior} does not lie in a tile {list(pixels.shape[:2])}.")

    def _infer_tile(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any, Any]:
        """`[1, H, W, 3]`, `[1, R, C]`, `[1, 1, H, W]` → pixels, mean and M2 with N = 1."""
        raise NotImplementedError

    def _infer_statistic(self, pixels: Pixels, logits: Floats, mask: Floats) -> tuple[Any, Any]:
        """As `_infer_tile`, without the pixels."""
        raise NotImplementedError

    @abstractmethod
    def _infer_pixels(self, pixels: Pixels) -> Pixels: ...

    @abstractmethod
    def _infer_float(self, images: NDArray[np.float32], fp32: bool) -> NDArray[np.float32]: ...

    def close(self) -> None:  # noqa: B027  # most back ends have nothing to free
        """Free what the runtime holds. It must not be used afterwards."""

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_OUT_OF_MEMORY = (
    "out of memory",
    "can't alloc",
    "cannot allocate",
    "failed to allocate",
    "bad_alloc",
    "resource temporarily unavailable",  # no room for a thread's stack
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a back end's error says that memory is exhausted."""
    text = str(error).lower()
    return any(words in text for words in _OUT_OF_MEMORY)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Back ends report exhausted memory as any RuntimeError: make it a MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error).strip().splitlines()[0]) from None
        raise


def _checked(pixels: Pixels) -> Pixels:
    if pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
        raise UsageError(f"Expected pixels [N, H, W, 3], got {list(pixels.shape)}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"Expected uint8 or uint16 pixels, got {pixels.dtype}.")
    contiguous: Pixels = np.ascontiguousarray(pixels)  # type: ignore[assignment]
    return contiguous


def _tile_arrays(pixels: Pixels, logits: Values, interior: Window) -> tuple[Pixels, Floats, Floats]:
    contiguous: Pixels = np.ascontiguousarray(pixels[None])  # type: ignore[assignment]
    return contiguous, _narrow(logits), _mask(pixels.shape[:2], interior)


def _mask(shape: tuple[int, ...], interior: Window) -> Floats:
    """`[1, 1, H, W]`: 1 on the interior, 0 elsewhere."""
    mask = np.zeros((1, 1, *shape), np.float32)
    rows, columns = interior.slices
    mask[:, :, rows, columns] = 1.0
    return mask


def _narrow(logits: Values) -> Floats:
    return logits[None].astype(np.float32)


def _area(window: Window) -> int:
    return window.height * window.width


def _wide(values: NDArray[Any]) -> Values:
    wide: Values = values[0].astype(np.float64)
    return wide
