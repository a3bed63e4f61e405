"""What the paper measured of the eleven mechanisms: its Table 2, ×2, R = 16, C = 64.

"RAM: Residual Attention Module for Single Image Super-Resolution", arXiv 1811.12043.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ramedge.network.config import ATTENTION_NAMES

PAPER_NETWORK = "R = 16, C = 64"
PAPER_TRAINING = "1,000,000 steps of 16 patches of 48×48 on DIV2K"

PARAMETERS_THOUSANDS: Mapping[str, int] = MappingProxyType(
    dict(
        zip(
            ATTENTION_NAMES,
            (1370, 1379, 1380, 1389, 1379, 1379, 1371, 1381, 1379, 1505, 1646),
            strict=True,
        )
    )
)
"""By attention, in thousands as printed."""

_PSNR = {
    "set5": (37.90, 37.93, 37.95, 37.98, 37.96, 37.91, 37.84, 37.89, 37.96, 37.91, 37.96),
    "set14": (33.58, 33.55, 33.59, 33.57, 33.58, 33.51, 33.52, 33.45, 33.58, 33.56, 33.57),
    "bsd100": (32.17, 32.17, 32.17, 32.17, 32.17, 32.14, 32.12, 32.11, 32.17, 32.14, 32.16),
    "urban100": (32.13, 32.26, 32.13, 32.28, 32.24, 32.14, 31.93, 32.01, 32.24, 32.02, 32.29),
    "manga109": (38.47, 38.67, 38.46, 38.72, 38.60, 38.19, 38.31, 38.20, 38.60, 38.33, 38.62),
}


def paper_psnr(set_name: str) -> Mapping[str, float] | None:
    """The paper's PSNR-Y in dB of a set by attention, whatever the case of the set's name.

    `None` for a set that is not in Table 2.

    >>> paper_psnr("Set5")["ram"]
    37.98
    >>> paper_psnr("holiday") is None
    True
    """
    values = _PSNR.get(set_name.lower())
    return None if values is None else dict(zip(ATTENTION_NAMES, values, strict=True))
