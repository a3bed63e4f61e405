"""The shipped network: its weights once, and the graphs of each scale that read them.

`srram_r10c64_x234.safetensors` is what `ramedge train` wrote: all scales, FP32. The ONNX graphs of
each scale have it as their external data, beside `srram_r10c64_derived.safetensors` with what is
computed of it: the tails multiplied out (`ramedge.network.collapse`), and the int8 weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from ramedge.errors import UsageError

FOLDER = Path(__file__).parent
NETWORK = "srram_r10c64"
WEIGHTS = FOLDER / f"{NETWORK}_x234.safetensors"
DERIVED_NAME = f"{NETWORK}_derived.safetensors"
EXCITATION_NAME = f"{NETWORK}_attention.safetensors"


def shipped_scales() -> tuple[int, ...]:
    """Scales that weights are shipped for."""
    with safe_open(WEIGHTS, framework="numpy") as opened:
        network = json.loads(opened.metadata()["ramedge"])["network"]
    return tuple(int(scale) for scale in network["scales"])


def shipped_weights(scale: int) -> Path:
    """The shipped safetensors file that has a scale, among others.

    Raises:
        UsageError: none is shipped for this scale.
    """
    _check(scale)
    return WEIGHTS


def shipped_artifact(scale: int, precision: str) -> Path:
    """Manifest of the shipped ONNX artifact of a scale, in `fp32` or `int8`.

    FP16 is made from FP32 (`ramedge.artifacts.half`).

    Raises:
        UsageError: none is shipped for this scale, or not in this precision.
    """
    _check(scale)
    if precision not in shipped_precisions(scale):
        raise UsageError(
            f"No {precision} model is shipped for ×{scale}: leave --precision out, or make one "
            f"with ramedge export --precision {precision} and name its folder with --model."
        )
    return FOLDER / f"{artifact_name(scale, precision)}.json"


def artifact_name(scale: int, precision: str) -> str:
    """What the names of a shipped artifact's own files begin with."""
    return f"{NETWORK}_x{scale}_{precision}"


def shipped_precisions(scale: int) -> tuple[str, ...]:
    """Precisions that an artifact of this scale is shipped in, by the names of their manifests."""
    prefix = artifact_name(scale, "")
    found = sorted(FOLDER.glob(f"{prefix}*.json"))
    return tuple(manifest.stem.removeprefix(prefix) for manifest in found)


def _check(scale: int) -> None:
    known = shipped_scales()
    if scale not in known:
        have = ", ".join(f"×{s}" for s in known) or "none"
        raise UsageError(
            f"No weights are shipped for ×{scale} (shipped: {have}): "
            "train your own with ramedge train and name them."
        )
