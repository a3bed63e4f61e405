"""A teacher loaded from a file: one call, whatever network is behind it.

The contract of `Teacher.__call__`: RGB in [0, 1], `[N, 3, H, W]` float32 on the training device →
`[N, 3, s·H, s·W]` float32, clipped to [0, 1], computed in FP32 and without gradients.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ramedge.errors import MissingExtraError, TrainingError, UsageError, WeightsError
from ramedge.files import file_digest
from ramedge.network.collapse import collapse
from ramedge.network.header import read_header
from ramedge.network.weights import METADATA_KEY, load_weights
from ramedge.training.teachers import smfanet

Upscale = Callable[[Tensor], Tensor]
_LICENSE_KEYS = ("license", "modelspec.license")
"""Metadata keys of the licence in safetensors files."""
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict")
"""Keys under which training programs store a state dict."""
_UNREADABLE = (
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class TeacherCard:
    """A teacher as recorded in checkpoints and weights.

    Attributes:
        file: name of its file, without the folder.
        sha256: of the file.
        architecture: name of the network.
        scales: scales that it upscales by.
        license: `None` where neither the user nor the file gives one.
    """

    file: str
    sha256: str
    architecture: str
    scales: tuple[int, ...]
    license: str | None

    def as_dict(self) -> dict[str, Any]:
        """As plain values that survive JSON unchanged."""
        return {**asdict(self), "scales": list(self.scales)}


class Teacher:
    """A network to learn from; see the module for the contract of its call."""

    def __init__(
        self, card: TeacherCard, path: Path, networks: Mapping[int, Upscale], compiles: bool
    ) -> None:
        """Take one network for each scale of the card.

        Args:
            card: its record.
            path: its file, for messages.
            networks: by scale; each is called with `[N, 3, H, W]` in [0, 1].
            compiles: whether torch.compile is known to work on these networks.
        """
        self.card = card
        self.path = path
        self._networks = dict(networks)
        self._compiles = compiles

    def compile(self) -> None:
        """Compile the networks for patches of one size, where they are known to compile."""
        if self._compiles:
            for scale, network in self._networks.items():
                self._networks[scale] = torch.compile(network, dynamic=False)

    @torch.no_grad()
    def __call__(self, low: Tensor, scale: int) -> Tensor:
        """Upscale; see the module for the contract.

        Raises:
            UsageError: the output has another shape than the scale implies.
        """
        with torch.autocast(low.device.type, enabled=False):
            output = self._networks[scale](low)
        height, width = low.shape[-2:]
        wanted = (low.shape[0], 3, scale * height, scale * width)
        if tuple(output.shape) != wanted:
            raise UsageError(
                f"The teacher {self.path} makes {tuple(output.shape)} where {wanted} is needed "
                f"for ×{scale}: use another --teacher."
            )
        # Some networks return an inference tensor, which a loss cannot keep: copy it.
        return output.float().clamp(0.0, 1.0).clone()


def load_teacher(path: Path, device: torch.device, license_name: str | None = None) -> Teacher:
    """Load a teacher: own weights, SMFANet+, or any network that spandrel knows.

    Only tensors and plain values are read from the file, never code.

    Args:
        path: safetensors, or a pickled state dict (.pt, .pth, .ckpt).
        device: device to run on.
        license_name: given by the user; otherwise it is read from the metadata of the file.

    Raises:
        WeightsError: no such file, or none of those formats.
        UsageError: the network does not upscale RGB to RGB.
        MissingExtraError: spandrel is needed and not installed.
        TrainingError: spandrel is installed but cannot be imported.
    """
    if not path.is_file():
        raise WeightsError(f"No such teacher: {path}.")
    metadata = _metadata(path)
    license_name = license_name or next(
        (metadata[key] for key in _LICENSE_KEYS if metadata.get(key)), None
    )
    if METADATA_KEY in metadata:
        architecture, networks = _own(path, device)
        compiles = True
    else:
        state = _read_state(path)
        compiles = smfanet.is_smfanet_plus(state)
        architecture, networks = (
            _smfanet(path, state, device) if compiles else _by_spandrel(path, state, device)
        )
    card = TeacherCard(
        file=path.name,
        sha256=file_digest(path),
        architecture=architecture,
        scales=tuple(networks),
        license=license_name,
    )
    return Teacher(card, path, networks, compiles)


def _metadata(path: Path) -> Mapping[str, str]:
    return read_header(path) if path.suffix == ".safetensors" else {}


def _own(path: Path, device: torch.device) -> tuple[str, dict[int, Upscale]]:
    network = load_weights(path).network
    scales = network.config.scales
    return network.config.name, {
        scale: collapse(network.take(scale)).to(device) for scale in scales
    }


def _smfanet(
    path: Path, state: Mapping[str, Tensor], device: torch.device
) -> tuple[str, dict[int, Upscale]]:
    try:
        network = smfanet.load_smfanet_plus(state).to(device)
    except (RuntimeError, ValueError):
        raise WeightsError(f"{path} does not fit {smfanet.NAME}: use another --teacher.") from None
    return smfanet.NAME, {network.scale: network}


def _by_spandrel(
    path: Path, state: Mapping[str, Tensor], device: torch.device
) -> tuple[str, dict[int, Upscale]]:
    try:
        import spandrel
    except ModuleNotFoundError as missing:
        name = missing.name or "spandrel"
        raise MissingExtraError(name, "distill", f"The teacher {path}") from None
    except (ImportError, RuntimeError) as error:  # mostly a torchvision built for another torch
        raise TrainingError(
            f"spandrel, which the teacher {path} needs, cannot be imported: {error}. Install the "
            f"torchvision that matches torch {torch.__version__}."
        ) from None
    try:
        model = spandrel.ModelLoader(device).load_from_state_dict(dict(state))
    except (spandrel.UnsupportedModelError, *_UNREADABLE):
        raise WeightsError(
            f"{path} holds no network that spandrel {spandrel.__version__} knows: use another "
            "--teacher."
        ) from None
    name = model.architecture.name
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.purpose != "SR":
        raise UsageError(f"{path} holds {name}, which does not upscale: use another --teacher.")
    if (model.input_channels, model.output_channels) != (3, 3):
        raise UsageError(
            f"{path} holds {name} for {model.input_channels} channels: a --teacher maps RGB to RGB."
        )
    if isinstance(model.model, nn.Module):
        model.eval()
    return name, {model.scale: model}


def _read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, without the wrappers of training programs."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
        for key in _WRAPPERS:
            if isinstance(document.get(key), Mapping):
                document = document[key]
        state = {name.removeprefix("module."): value for name, value in document.items()}
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError
        return state
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (SafetensorError, *_UNREADABLE):
        raise WeightsError(
            f"{path} is not a state dict that can be read without running code: use another "
            "--teacher."
        ) from None
