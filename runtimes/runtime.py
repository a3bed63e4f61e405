"""A network on a backend: pixels in, pixels out; the same for every backend.

Here stand the checks of what is given, the rule for 16-bit pixels (they are computed in FP32, and
converted on the host where the device has no such type), the masks of tiles, and the statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ramedge.artifacts.graphs import FRAME, STATISTICS, TILE, PixelType, part_name
from ramedge.errors import UsageError
from ramedge.media.pixels import Pixels
from ramedge.network.channel_statistics import ChannelExcitation, Statistic, Values
from ramedge.runtimes.base import Floats, GraphRequest, Session, memory_errors
from ramedge.runtimes.limits import Limits
from ramedge.types import Window

_STEP_16 = np.float32(1.0 / 65535.0)


class Features(NamedTuple):
    """What a frame, or a window of it, is between two blocks (paper, Eq. 5).

    The type is the session's own, see `Runtime.feature_type`.

    Attributes:
        residual: F_{r-1}, `[C, H, W]`.
        transformed: X_r, what block r's attention is for, `[C, H, W]`.
    """

    residual: NDArray[Any]
    transformed: NDArray[Any]


class Runtime:
    """One network of one scale, loaded and ready, on one device. For one thread at a time.

    Attributes:
        session: the backend's.
        scale: 2, 3 or 4.
        excitation: what turns the frame's variance into attention, for tiles that share it;
            `None` where the model has no tile graph.
    """

    def __init__(
        self,
        session: Session,
        scale: int,
        excitation: ChannelExcitation | None = None,
        by_block: bool = False,
    ) -> None:
        """Take an open session.

        Args:
            session: of a network.
            scale: the network's.
            excitation: of the network, where it has a tile graph.
            by_block: whether the tile graph can be cut between its blocks.
        """
        self.session = session
        self.scale = scale
        self.excitation = excitation
        self._blocks = excitation.shape[0] if excitation is not None and by_block else 0
        limits = session.limits
        self._batches, self._uint16_pixels = limits.batches, limits.uint16_pixels

    @property
    def name(self) -> str:
        """Name of the backend, for example `openvino`."""
        return self.session.name

    @property
    def device(self) -> str:
        """Where it computes, by the backend's name."""
        return self.session.device

    @property
    def precision(self) -> str:
        """The arithmetic that really runs: `fp32`, `bf16`, `fp16` or `int8`."""
        return self.session.precision

    @property
    def compute_dtype(self) -> str:
        """What is computed in: `float32`, `bfloat16` or `float16`; of `int8` what is around it."""
        return self.session.compute_dtype

    @property
    def notes(self) -> tuple[str, ...]:
        """Fallbacks taken while opening, each one line for the user."""
        return self.session.notes

    @property
    def limits(self) -> Limits:
        """What the device allows now."""
        return self.session.limits

    def infer(self, pixels: Pixels) -> Pixels:
        """Upscale RGB pixels.

        `[N, H, W, 3]` uint8 (0–255) or uint16 (0–65535), any H, W ≥ 1 → `[N, s·H, s·W, 3]`
        of the same dtype, clipped to its range, then rounded half to even. 16-bit pixels are
        always computed in FP32.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the device's memory does not suffice.
        """
        contiguous = _checked(pixels)
        with memory_errors():
            if self._batches or len(contiguous) == 1:
                return self._frames(contiguous)
            frames = (contiguous[index : index + 1] for index in range(len(contiguous)))
            result: Pixels = np.concatenate(list(self._infer_many(frames)))
            return result

    def _frames(self, pixels: Pixels) -> Pixels:
        kind = self._pixel_type(pixels)
        upscaled = self.session.run(_request(FRAME, kind, pixels), [_given(pixels, kind)])[0]
        return _taken(upscaled, pixels)

    def infer_many(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """`infer` for one frame after another, in order; several at once where that is faster.

        Frames are taken before the results of those before them are given.

        Raises:
            UsageError: another shape or dtype.
            MemoryError: the device's memory does not suffice.
        """
        with memory_errors():
            yield from self._infer_many(map(_checked, frames))

    def _infer_many(self, frames: Iterator[Pixels]) -> Iterator[Pixels]:
        """Those that are alike go to the session together."""
        for (shape, dtype), alike in groupby(frames, lambda frame: (frame.shape, frame.dtype)):
            if shape[0] != 1 and not self._batches:
                yield from map(self.infer, alike)
                continue
            like: Pixels = cast("Pixels", np.empty(0, dtype))
            kind = self._pixel_type(like)
            given = ([_given(frame, kind)] for frame in alike)
            for upscaled in self.session.run_many(_request(FRAME, kind, like), given):
                yield _taken(upscaled[0], like)

    def infer_float(self, images: Floats, fp32: bool = False) -> Floats:
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
        contiguous = np.ascontiguousarray(images)
        request = GraphRequest(FRAME, "float32", fp32)
        with memory_errors():
            if self._batches or len(images) == 1:
                result: Floats = self.session.run(request, [contiguous])[0]
                return result
            single = ([contiguous[index : index + 1]] for index in range(len(images)))
            found = self.session.run_many(request, single)
            whole: Floats = np.concatenate([upscaled[0] for upscaled in found])
            return whole

    def infer_tile_float(
        self, images: Floats, logits: Floats, mask: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """The bare tile graph: see `ramedge.network.tiled.TiledNetwork.forward`."""
        with memory_errors():
            output, mean, m2 = self.session.run(GraphRequest(TILE), [images, logits, mask])
        return output, mean, m2

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
        upscaled, mean, m2 = self._run_tile(TILE, pixels, logits, interior)
        return _taken(upscaled, pixels)[0], _statistic(mean, m2, interior)

    def infer_statistic(self, pixels: Pixels, logits: Values, interior: Window) -> Statistic:
        """The statistic of `infer_tile` alone, without the upscaling."""
        mean, m2 = self._run_tile(STATISTICS, pixels, logits, interior)
        return _statistic(mean, m2, interior)

    def _run_tile(
        self, name: str, pixels: Pixels, logits: Values, interior: Window
    ) -> list[NDArray[Any]]:
        self._check_tile(pixels, logits, interior)
        kind = self._pixel_type(pixels)
        given = [
            _given(pixels[None], kind), _narrow(logits), _mask(pixels.shape[:2], interior)
        ]  # fmt: skip
        with memory_errors():
            return self.session.run(_request(name, kind, pixels), given)

    def feature_type(self, pixel_type: np.dtype[Any]) -> np.dtype[Any] | None:
        """Of `Features` for 8 or 16-bit pixels; `None` where frames do not run block by block."""
        return self.session.feature_dtype(pixel_type == np.uint16) if self._blocks else None

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
        kind = self._pixel_type(pixels)
        given = [_given(pixels[None], kind), _mask(pixels.shape[:2], interior)]
        with memory_errors():
            found = self.session.run(_request(part_name(0), kind, pixels), given)
        return _features(found, interior)

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
        request = GraphRequest(part_name(block), fp32=self._are_fp32(features))
        with memory_errors():
            found = self.session.run(request, [_narrow(logits), mask, *_batched(features)])
        return _features(found, interior)

    def finish(self, features: Features, logits: Values, pixels: Pixels) -> Pixels:
        """A tile from F_{R-1} and X_R to its upscaled pixels `[s·H, s·W, 3]`.

        Raises:
            MemoryError: the device's memory does not suffice.
        """
        kind = self._pixel_type(pixels)
        given = [_given(pixels[None], kind), _narrow(logits), *_batched(features)]
        with memory_errors():
            request = _request(part_name(self._blocks), kind, pixels)
            found = self.session.run(request, given)
        return cast("Pixels", _taken(found[0], pixels)[0].copy())

    def _are_fp32(self, features: Features) -> bool:
        """Whether the features are of a frame that is computed in FP32 though not all are."""
        half = self.session.feature_dtype(fp32=False)
        return half != np.float32 and features.residual.dtype == np.float32

    def _pixel_type(self, pixels: Pixels) -> PixelType:
        """What the session is given for these pixels."""
        if pixels.dtype == np.uint16:
            return "uint16" if self._uint16_pixels else "float32"
        return "uint8"

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

    def close(self) -> None:
        """Free what the session holds. The runtime must not be used afterwards."""
        self.session.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _checked(pixels: Pixels) -> Pixels:
    if pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
        raise UsageError(f"Expected pixels [N, H, W, 3], got {list(pixels.shape)}.")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"Expected uint8 or uint16 pixels, got {pixels.dtype}.")
    contiguous: Pixels = np.ascontiguousarray(pixels)  # type: ignore[assignment]
    return contiguous


def _request(name: str, kind: PixelType, pixels: Pixels) -> GraphRequest:
    # Half precision holds 8-bit pixels well but not 16-bit ones.
    return GraphRequest(name, kind, fp32=pixels.dtype == np.uint16)


def _given(pixels: Pixels, kind: PixelType) -> NDArray[Any]:
    """`[N, H, W, 3]` as a graph of this kind takes it."""
    if kind != "float32":
        return np.ascontiguousarray(pixels)
    planar = pixels.transpose(0, 3, 1, 2).astype(np.float32) * _STEP_16
    return np.ascontiguousarray(planar)


def _taken(upscaled: NDArray[Any], pixels: Pixels) -> Pixels:
    """A graph's output as pixels like those it was made from, `[N, H, W, 3]`."""
    if upscaled.dtype == pixels.dtype:
        return cast("Pixels", upscaled)
    levels = np.rint(np.clip(upscaled.transpose(0, 2, 3, 1) * np.float32(65535), 0, 65535))
    packed: Pixels = levels.astype(np.uint16)
    return packed


def _features(found: list[NDArray[Any]], interior: Window) -> tuple[Features, Statistic]:
    residual, transformed, mean, m2 = found
    return Features(residual[0], transformed[0]), _statistic(mean, m2, interior)


def _batched(features: Features) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(values[None]) for values in features]


def _statistic(mean: NDArray[Any], m2: NDArray[Any], interior: Window) -> Statistic:
    return Statistic(interior.height * interior.width, _wide(mean), _wide(m2))


def _mask(shape: tuple[int, ...], interior: Window) -> Floats:
    """`[1, 1, H, W]`: 1 on the interior, 0 elsewhere."""
    mask = np.zeros((1, 1, *shape), np.float32)
    rows, columns = interior.slices
    mask[:, :, rows, columns] = 1.0
    return mask


def _narrow(logits: Values) -> Floats:
    return logits[None].astype(np.float32)


def _wide(values: NDArray[Any]) -> Values:
    wide: Values = values[0].astype(np.float64)
    return wide
