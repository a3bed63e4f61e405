"""What is exported: a network's FP32 graphs, from the shipped model or from weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx

from ramedge.artifacts.artifact import load_artifact
from ramedge.artifacts.storage import read_graph
from ramedge.errors import GateError, MissingExtraError, UsageError
from ramedge.files import file_digest
from ramedge.network.channel_statistics import ChannelExcitation, load_excitation
from ramedge.network.header import read_header
from ramedge.quality.gate import Images, Network
from ramedge.quality.int8_budget import Budget, Loss
from ramedge.runtimes.openvino.session import open_onnx
from ramedge.system import has_torch
from ramedge.weights import WEIGHTS, shipped_artifact, shipped_precisions, shipped_weights

PYTORCH, SHIPPED = "PyTorch", "the shipped FP32 model"
"""What an export is compared with."""
_OWN = "Export of your own weights"


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """A network of one scale.

    Attributes:
        network: its short name.
        scale: 2, 3 or 4.
        receptive_field: radius in low-resolution pixels.
        weights: SHA-256 of the weights file.
        frame: FP32 graph of the kind `frame`.
        tile: FP32 graph of the kind `tile`; `None` where the network has none.
        excitation: what turns the frame's variance into attention, with `tile`.
        reference: what exports have to agree with.
        compared_with: its name, `PYTORCH` or `SHIPPED`.
    """

    network: str
    scale: int
    receptive_field: int
    weights: str
    frame: onnx.ModelProto
    tile: onnx.ModelProto | None
    excitation: ChannelExcitation | None
    reference: Network
    compared_with: str


@dataclass(frozen=True, slots=True)
class QuantizedGraphs:
    """Graphs with int8 in them, and what was found when they were made.

    Attributes:
        frame, tile: FP32 around int8.
        record: how they were calibrated.
        gate: what they lose and how fast they are.
    """

    frame: onnx.ModelProto
    tile: onnx.ModelProto | None
    record: Mapping[str, Any]
    gate: Mapping[str, Any] = field(default_factory=dict)


def check_installed(weights: Path | None, calibrates: bool) -> None:
    """Refuse, before any work, an export that needs what is not installed.

    Raises:
        WeightsError: `weights` is no weights file.
        MissingExtraError: own weights need PyTorch and its exporter, a calibration ONNX Runtime.
    """
    if weights is not None:
        read_header(weights)  # what is no weights file needs no torch to be told so
    own_weights = weights is not None and not _are_shipped(weights)
    needed = [("torch", _OWN), ("onnxscript", _OWN), ("onnxsim", _OWN)] if own_weights else []
    needed += [("onnxruntime", "A calibration")] if calibrates else []
    for package, purpose in needed:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "export", purpose)


def open_source(weights: Path | None, scale: int) -> NetworkSource:
    """The network of a weights file; the shipped one where `None`, which needs no PyTorch.

    Raises:
        UsageError: it has no such scale.
        WeightsError: it cannot be loaded.
        MissingExtraError: PyTorch, or what it exports with, is not installed.
    """
    if weights is None or _are_shipped(weights):
        return _open_shipped(scale)
    return _open_weights(weights, scale)


def _are_shipped(weights: Path) -> bool:
    return weights.is_file() and file_digest(weights) == file_digest(WEIGHTS)


def shipped_int8(scale: int, budget: Budget) -> QuantizedGraphs:
    """The shipped INT8 graphs of a scale, with what was measured when they were made.

    Raises:
        UsageError: none are shipped.
        WeightsError: they are damaged.
        GateError: they lost more than the budget.
    """
    if "int8" not in shipped_precisions(scale):
        raise UsageError(
            f"No INT8 model is shipped for ×{scale}. Make one from your photos with --calibration "
            "DIR."
        )
    artifact = load_artifact(shipped_artifact(scale, "int8"))
    gate = {name: artifact.manifest.gate[name] for name in ("truth", "speed")}
    lost = Loss(**gate["truth"]["loss"])
    if not lost.within(budget):
        raise GateError(
            f"The shipped INT8 model loses {lost.mean:.3f} dB of PSNR-Y on average and "
            f"{lost.worst:.3f} dB at worst, allowed are {budget.mean:.3f} and {budget.worst:.3f} "
            "dB: raise --max-loss."
        )
    tile = None if artifact.tile is None else read_graph(artifact.tile)
    return QuantizedGraphs(read_graph(artifact.model), tile, artifact.manifest.int8, gate)


def _open_shipped(scale: int) -> NetworkSource:
    artifact = load_artifact(shipped_artifact(scale, "fp32"))
    manifest = artifact.manifest
    if not has_torch():
        reference: Network = open_onnx(artifact.model, scale, "fp32").infer_float
        compared_with = SHIPPED
    else:
        reference = _torch_reference(shipped_weights(scale), scale)
        compared_with = PYTORCH
    return NetworkSource(
        network=manifest.network,
        scale=scale,
        receptive_field=manifest.receptive_field,
        weights=manifest.weights,
        frame=read_graph(artifact.model),
        tile=None if artifact.tile is None else read_graph(artifact.tile),
        excitation=None if artifact.excitation is None else load_excitation(artifact.excitation),
        reference=_remembering(reference),
        compared_with=compared_with,
    )


def _remembering(network: Network) -> Network:
    """The same, but each picture once: several graphs are compared on the same ones."""
    outputs: dict[bytes, Images] = {}

    def run(images: Images) -> Images:
        key = images.tobytes()
        if key not in outputs:
            outputs[key] = network(images)
        return outputs[key]

    return run


def _torch_reference(weights: Path, scale: int) -> Network:
    from ramedge.network.weights import load_weights
    from ramedge.runtimes.torch.session import open_torch

    network = load_weights(weights).network.take(scale)
    return open_torch(network, "fp32", "cpu").infer_float


def _open_weights(path: Path, scale: int) -> NetworkSource:
    check_installed(path, calibrates=False)
    return _trace(path, file_digest(path), scale)


@lru_cache(maxsize=2)
def _trace(path: Path, digest: str, scale: int) -> NetworkSource:
    """The graphs of weights, kept for the next precision: PyTorch takes seconds to trace each."""
    from ramedge.export.onnx import network_graph
    from ramedge.network.tiled import excitation_of
    from ramedge.network.weights import load_weights
    from ramedge.runtimes.torch.session import open_torch

    loaded = load_weights(path)
    if scale not in loaded.config.scales:
        have = ", ".join(f"×{known}" for known in loaded.config.scales)
        raise UsageError(f"{path} has weights for {have}, not for ×{scale}: use --scale.")
    network = loaded.network.take(scale)
    has_tiles = network.config.attention == "ram"
    return NetworkSource(
        network=loaded.config.name,
        scale=scale,
        receptive_field=loaded.config.receptive_field(scale),
        weights=digest,
        frame=network_graph(network, "frame"),
        tile=network_graph(network, "tile") if has_tiles else None,
        excitation=excitation_of(network) if has_tiles else None,
        reference=_remembering(open_torch(network, "fp32", "cpu").infer_float),
        compared_with=PYTORCH,
    )
