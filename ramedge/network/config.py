"""The settings that define a network. Free of torch, so that every part may read them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ramedge.errors import UsageError

SUPPORTED_SCALES = (2, 3, 4)

ATTENTION_NAMES = (
    "none",
    "ram-ca",
    "ram-sa",
    "ram",
    "rcab",
    "cbam-ca",
    "cbam-sa",
    "cbam",
    "csar-ca",
    "csar-sa",
    "csar",
)
"""The columns of the paper's Table 2, in its order."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """SRRAM(R, C, scales, reduction, attention).

    The defaults are SRRAM_R10C64, the light network of the paper's Table 4, for ×2.

    Raises:
        UsageError: a value is outside what the network supports.
    """

    blocks: int = 10
    channels: int = 64
    scales: tuple[int, ...] = (2,)
    reduction: int = 16
    attention: str = "ram"

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.channels < 1:
            raise UsageError("A network needs at least one block and one channel.")
        if self.reduction < 1 or self.channels // self.reduction < 1:
            raise UsageError(
                f"{self.channels} channels are too few: at least {self.reduction} are needed, the "
                "reduction of the channel attention."
            )
        if not self.scales or len(set(self.scales)) != len(self.scales):
            raise UsageError("Give each scale once, for example --scales 2,3,4.")
        for scale in self.scales:
            if scale not in SUPPORTED_SCALES:
                raise UsageError(f"Scale {scale} is not supported: choose among 2, 3 and 4.")
        if self.attention not in ATTENTION_NAMES:
            raise UsageError(
                f"Unknown attention {self.attention!r}: choose among {', '.join(ATTENTION_NAMES)}."
            )

    @property
    def name(self) -> str:
        """Short name as the paper writes it, for example `srram_r10c64`."""
        suffix = "" if self.attention == "ram" else f"_{self.attention}"
        return f"srram_r{self.blocks}c{self.channels}{suffix}"

    def multiply_adds(self, scale: int) -> int | None:
        """Multiply-adds of the convolutions for each low-resolution pixel.

        The two small layers behind the pooled variance run once a frame and do not count.
        `None` for another attention than the paper's, whose cost is not counted here.
        """
        trunk = self._trunk_multiply_adds()
        if trunk is None:
            return None
        full = 9 * self.channels * self.channels
        tail, pixels = 0, 1
        for stage in (2, 2) if scale == 4 else (scale,):
            tail += pixels * full * stage * stage
            pixels *= stage * stage
        return trunk + tail + pixels * 9 * 3 * self.channels

    def collapsed_multiply_adds(self, scale: int) -> int | None:
        """As `multiply_adds`, of an exported network: its tail is one convolution of 5×5.

        The image-space skip branch, 7×7 from the image, is added to it. The rim, which other layers
        make (`ramedge.network.collapse`), does not count.
        """
        trunk = self._trunk_multiply_adds()
        return None if trunk is None else trunk + (25 * self.channels + 49 * 3) * 3 * scale**2

    def _trunk_multiply_adds(self) -> int | None:
        if self.attention not in {"ram", "none"}:
            return None
        full = 9 * self.channels * self.channels
        depthwise = 9 * self.channels if self.attention == "ram" else 0
        return 9 * 3 * self.channels + self.blocks * (2 * full + depthwise) + full

    def receptive_field(self, scale: int) -> int:
        """Radius, in low-resolution pixels, of what one output pixel can depend on locally.

        Head 1, three per block (two convolutions and the depth-wise one), body 1, each
        ×2 or ×3 upsampling convolution at its own resolution, reconstruction at the output's.
        The frame-wide variance of the channel attention is not part of it.
        """
        stages = (2, 2) if scale == 4 else (scale,)
        radius = 1.0  # reconstruction, in output pixels
        for stage in reversed(stages):
            radius = radius / stage + 1.0
        return 1 + 3 * self.blocks + 1 + math.ceil(radius)


def config_of(name: str, scale: int) -> NetworkConfig | None:
    """The configuration that has this `NetworkConfig.name`; the name does not tell `reduction`.

    >>> config_of("srram_r10c64", 2) == NetworkConfig(reduction=1)
    True
    """
    found = re.fullmatch(r"srram_r([1-9]\d*)c([1-9]\d*)(?:_(.+))?", name)
    if found is None or (found[3] or "ram") not in ATTENTION_NAMES:
        return None
    return NetworkConfig(int(found[1]), int(found[2]), (scale,), 1, found[3] or "ram")
