"""What the paper measured, to stand beside our own figures.

Table 4 of "RAM: Residual Attention Module for Single Image Super-Resolution" (arXiv 1811.12043),
the rows of SRRAM with R = 10 and C = 64: one network trained for ×2, ×3 and ×4 together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NETWORK = "srram_r10c64"
"""`NetworkConfig.name` of the network that the figures are of."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over a set: PSNR-Y in dB and SSIM-Y in [-1, 1]."""

    psnr: float
    ssim: float


TABLE_4: Mapping[int, Mapping[str, Figures]] = MappingProxyType(
    {
        2: {
            "set5": Figures(37.82, 0.9592),
            "set14": Figures(33.48, 0.9171),
            "bsd100": Figures(32.12, 0.8983),
            "urban100": Figures(32.05, 0.9264),
        },
        3: {
            "set5": Figures(34.30, 0.9256),
            "set14": Figures(30.32, 0.8417),
            "bsd100": Figures(29.07, 0.8039),
            "urban100": Figures(28.12, 0.8507),
        },
        4: {
            "set5": Figures(32.13, 0.8932),
            "set14": Figures(28.54, 0.7800),
            "bsd100": Figures(27.56, 0.7350),
            "urban100": Figures(26.05, 0.7834),
        },
    }
)
"""By scale, then by the name of the set in lower case."""


def paper_figures(network: str, set_name: str, scale: int) -> Figures | None:
    """The paper's figures for a set, whatever the case of its name.

    `None` where it has none, and where `network` is another than the one it measured: the figures
    would be no measure for it.

    >>> paper_figures("srram_r10c64", "Set5", 2)
    Figures(psnr=37.82, ssim=0.9592)
    >>> paper_figures("srram_r16c64", "Set5", 2) is None
    True
    """
    if network != NETWORK:
        return None
    return TABLE_4.get(scale, {}).get(set_name.lower())
