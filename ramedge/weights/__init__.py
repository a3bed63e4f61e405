"""Shipped weights (safetensors) and the ONNX artifacts made from them."""

from __future__ import annotations

from pathlib import Path

from ramedge.errors import UsageError

FOLDER = Path(__file__).parent
NETWORK = "srram_r10c64"


def shipped_scales() -> tuple[int, ...]:
    """Scales that weights are shipped for."""
    return tuple(s for s in (2, 3, 4) if (FOLDER / f"{NETWORK}_x{s}.safetensors").is_file())


def shipped_weights(scale: int) -> Path:
    """The shipped safetensors file of a scale.

    Raises:
        UsageError: none is shipped for this scale.
    """
    _check(scale)
    return FOLDER / f"{NETWORK}_x{scale}.safetensors"


def shipped_artifact(scale: int, precision: str) -> Path:
    """Folder of the shipped ONNX artifact of a scale, in `fp32`, `fp16` or `int8`.

    Raises:
        UsageError: none is shipped for this scale, or not in this precision.
    """
    _check(scale)
    if precision not in shipped_precisions(scale):
        raise UsageError(
            f"No {precision} model is shipped for ×{scale}: leave --precision out, or make one "
            f"with ramedge export --precision {precision} and name its folder with --model."
        )
    return FOLDER / f"{NETWORK}_x{scale}_{precision}"


def shipped_precisions(scale: int) -> tuple[str, ...]:
    """Precisions that an artifact of this scale is shipped in, by the names of their folders."""
    prefix = f"{NETWORK}_x{scale}_"
    found = sorted(FOLDER.glob(f"{prefix}*/manifest.json"))
    return tuple(manifest.parent.name.removeprefix(prefix) for manifest in found)


def _check(scale: int) -> None:
    known = shipped_scales()
    if scale not in known:
        have = ", ".join(f"×{s}" for s in known) or "none"
        raise UsageError(
            f"No weights are shipped for ×{scale} (shipped: {have}): "
            "train your own with ramedge train and name them."
        )
