"""What a user asks for: tiles, where their attention comes from, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ramedge.errors import UsageError

TileRequest: TypeAlias = int | Literal["auto", "whole"]
"""Side of a tile in low-resolution pixels; `whole` never tiles; `auto` tiles only where the whole
frame does not fit in memory."""

TileMode = Literal["exact", "temporal", "fast"]
"""Where a tile's channel attention comes from: its frame's statistics (`exact`), those of the
previous frame of a video (`temporal`), or the tile's own (`fast`)."""

MIN_TILE = 16
"""Smallest side of a tile: up to 34 pixels are read around it."""


@dataclass(frozen=True, slots=True)
class TilingOptions:
    """How frames are cut into tiles.

    >>> TilingOptions(tile=256, mode="temporal", memory=2 << 30)
    TilingOptions(tile=256, mode='temporal', memory=2147483648)

    Attributes:
        tile: `auto`, `whole` or the side of a tile in low-resolution pixels, at least `MIN_TILE`.
        mode: where the attention of tiles comes from; `exact` equals the whole frame.
        memory: bytes that this process may take, of the host's memory and of a GPU's each;
            `None` is what is free.

    Raises:
        UsageError: a side, mode or limit that cannot be.
    """

    tile: TileRequest = "auto"
    mode: TileMode = "exact"
    memory: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tile, int) and self.tile not in ("auto", "whole"):
            raise UsageError(f"tile={self.tile!r}: use 'auto', 'whole' or a whole number.")
        if isinstance(self.tile, int) and self.tile < MIN_TILE:
            raise UsageError(
                f"A tile of {self.tile} pixels is too small: --tile takes auto, whole or at least "
                f"{MIN_TILE} pixels."
            )
        if self.mode not in get_args(TileMode):
            raise UsageError(f"No tile mode {self.mode!r}: use {', '.join(get_args(TileMode))}.")
        if self.memory is not None and not isinstance(self.memory, int):
            raise UsageError(f"memory={self.memory!r} is not a whole number; None is automatic.")
        if self.memory is not None and self.memory <= 0:
            raise UsageError(f"A memory limit of {self.memory} bytes leaves nothing.")
