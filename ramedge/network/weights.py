"""Weights on disk: safetensors, with the network's settings in the metadata.

Nothing here runs code from a file: a pickle is refused before it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ramedge.errors import RamedgeError, WeightsError
from ramedge.files import atomic_path, file_digest
from ramedge.network.config import NetworkConfig
from ramedge.network.header import read_header
from ramedge.network.srram import SRRAM

FORMAT_VERSION = 1
METADATA_KEY = "ramedge"


@dataclass(frozen=True, slots=True)
class Weights:
    """A loaded network and what is known of it.

    Attributes:
        network: in evaluation mode, FP32, on the CPU.
        training: the settings it was trained with, empty where the file holds none.
        digest: SHA-256 of the file.
    """

    network: SRRAM
    digest: str
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> NetworkConfig:
        """The network's settings."""
        return self.network.config


def save_weights(network: SRRAM, path: Path, training: Mapping[str, Any] | None = None) -> None:
    """Write a network's FP32 weights and settings to a safetensors file, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    document = {
        "format": FORMAT_VERSION,
        "network": asdict(network.config),
        "training": dict(training or {}),
    }
    state = {name: tensor.detach().cpu().float() for name, tensor in network.state_dict().items()}
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(document, sort_keys=True)})


def load_weights(path: Path) -> Weights:
    """Load a network from a safetensors file written by `save_weights`.

    Raises:
        WeightsError: no such file, another format, or tensors that do not fit the network.
    """
    config, training = _read_metadata(path, read_header(path))
    tensors = load_file(path)
    network = SRRAM(config)
    _check_tensors(path, network, tensors)
    network.load_state_dict(tensors)
    network.eval()
    return Weights(network=network, digest=file_digest(path), training=training)


def _read_metadata(path: Path, metadata: Mapping[str, str]) -> tuple[NetworkConfig, dict[str, Any]]:
    try:
        document = json.loads(metadata[METADATA_KEY])
        settings = document["network"]
        config = NetworkConfig(
            blocks=int(settings["blocks"]),
            channels=int(settings["channels"]),
            scales=tuple(int(scale) for scale in settings["scales"]),
            reduction=int(settings["reduction"]),
            attention=str(settings["attention"]),
        )
        return config, dict(document.get("training", {}))
    except (KeyError, ValueError, TypeError, AttributeError, RamedgeError):
        raise WeightsError(
            f"{path} does not say which network it is for: "
            "use weights that ramedge train or ramedge.save_weights wrote."
        ) from None


def _check_tensors(path: Path, network: SRRAM, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = network.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        name = (missing or surplus)[0]
        raise WeightsError(
            f"{path} does not fit {network.config.name}: "
            f"{len(missing)} tensors missing, {len(surplus)} unknown, for example {name}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{path} does not fit {network.config.name}: {name} has shape "
                f"{tuple(tensor.shape)} instead of {tuple(expected[name].shape)}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path} is damaged: {name} holds NaN or infinity.")
