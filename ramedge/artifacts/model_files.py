"""The files of a network of one scale, and the graphs that a backend reads from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import onnx

from ramedge.artifacts.graphs import FRAME, PixelType, count_blocks, cut, with_pixels
from ramedge.artifacts.half import is_half, to_half
from ramedge.artifacts.storage import read_graph
from ramedge.errors import WeightsError

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files of one network in one precision.

    Attributes:
        scale: 2, 3 or 4.
        frame: the graph for whole images, `.onnx` (or OpenVINO's `.xml`).
        precision: of `frame` and `tile`; FP16, and FP16 around int8, are made from a file without
            where a backend wants them.
        tile: the graph for tiles, where there is one, with `excitation`.
        excitation: safetensors of `ramedge.network.channel_statistics.save_excitation`.
        fp32: the same network in FP32, for 16-bit pixels, where `precision` is another.
        cut: graphs that stand in files of their own because they are not ONNX, by their name.
        network: short name.
        gate: what is known of their agreement with PyTorch.
        named: what names the model in messages, where it is not `frame`.
    """

    scale: int
    frame: Path
    precision: Precision = "fp32"
    tile: Path | None = None
    excitation: Path | None = None
    fp32: ModelFiles | None = None
    cut: Mapping[str, Path] = field(default_factory=dict)
    network: str = "network"
    gate: Mapping[str, Any] = field(default_factory=dict)
    named: Path | None = None

    @property
    def source(self) -> Path:
        """What names the model in messages."""
        return self.frame if self.named is None else self.named

    def path(self, name: str) -> Path:
        """The file that a graph is, or is cut from.

        Raises:
            WeightsError: the model has no graph for tiles.
        """
        if name == FRAME:
            return self.frame
        if self.tile is None:
            raise WeightsError(f"{self.frame} has no graph for tiles: export it again.")
        return self.cut.get(name, self.tile)

    @property
    def blocks(self) -> int:
        """R, or 0 where the tile graph cannot be cut between its blocks."""
        if self.tile is None:
            return 0
        if self.tile.suffix != ".onnx":
            return max(0, sum(name.startswith("part") for name in self.cut) - 1)
        return count_blocks(_read(*_state(self.tile)))

    def graph(
        self, name: str, pixels: PixelType = "float32", half: bool = False
    ) -> onnx.ModelProto:
        """A graph of ONNX files.

        Args:
            name: see `ramedge.artifacts.graphs`.
            pixels: of its image and output.
            half: in FP16 where FP16 is enough, also of FP32 files.

        Raises:
            WeightsError: a file is damaged, or the model has no graph for tiles.
            ExportError: it has no form in FP16.
        """
        model = _read(*_state(self.path(name)))
        if half and not is_half(model):
            model = to_half(model)
        return with_pixels(cut(model, name), pixels)


def _state(path: Path) -> tuple[Path, int, int]:
    """A file, and what changes when it does."""
    try:
        found = path.stat()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}.") from None
    return path, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=2)
def _read(path: Path, size: int, modified: int) -> onnx.ModelProto:
    """Kept for the other graphs of the file. Nobody may change what is returned."""
    del size, modified
    return read_graph(path)
