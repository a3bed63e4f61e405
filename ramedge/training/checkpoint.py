"""Checkpoints: everything that a run needs to continue as if it had never stopped."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ramedge.errors import TrainingError
from ramedge.files import atomic_path

FORMAT_VERSION = 1
_DIGESTS = {"start": "weights to start from", "photos": "photos", "teachers": "teachers"}
"""Settings that are hashes, which a message does not show."""
_DAMAGED = (
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    IndexError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)
_FIELDS = ("settings", "step", "network", "ema", "optimizer", "history")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `step` steps.

    Attributes:
        settings: those that must not change when the run is resumed.
        network: weights being trained.
        ema: their moving average, `None` where the recipe keeps none.
        optimizer: state of each optimizer part.
        history: see `ramedge.training.state.TrainingState`.
        losses: of the last steps, see `ramedge.training.state.RunningLoss`.
    """

    settings: dict[str, Any]
    step: int
    network: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor] | None
    optimizer: list[dict[str, Any]]
    history: list[dict[str, float]]
    losses: list[float]

    def difference(self, settings: dict[str, Any]) -> str | None:
        """The first difference between the run's settings and these, in words; `None` if equal."""
        return _difference(self.settings, settings)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically: a crash at any moment leaves the previous one.

    Raises:
        OutputError: the file cannot be written.
    """
    document = {name: getattr(checkpoint, name) for name in (*_FIELDS, "losses")}
    with atomic_path(path) as partial:
        torch.save({"format": FORMAT_VERSION, **document}, partial)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are loaded, never code.

    Raises:
        TrainingError: the file is damaged or was not written by `save_checkpoint`.
    """
    try:
        _verify_checksums(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
        fields = {name: document[name] for name in _FIELDS}
        return Checkpoint(**fields, losses=document.get("losses", []))  # absent in old files
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"Cannot read the checkpoint {path}: {reason}.") from None
    except _DAMAGED:
        raise TrainingError(
            f"Cannot read the checkpoint {path}: it is damaged, or from another program or "
            "version. Delete it to start again."
        ) from None


def _verify_checksums(path: Path) -> None:
    """Verify the checksums in the file, which torch does not."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    for name in stored | wanted:
        found, value = stored.get(name), wanted.get(name)
        if name == "teachers":  # the same files under other names or licences
            found, value = ([each.get("sha256") for each in side or ()] for side in (found, value))
        if found == value:
            continue
        if isinstance(found, dict) and isinstance(value, dict):
            if found.get("name") != value.get("name"):  # a recipe's
                return f"{name} {found.get('name')}, not {value.get('name')}"
            return _difference(found, value)
        if name in _DIGESTS:
            return f"other {_DIGESTS[name]}"
        return f"{name.replace('_', ' ')} {_text(found)}, not {_text(value)}"
    return None


def _text(value: object) -> str:
    if value is None or isinstance(value, dict):  # an optional part of the settings
        return "none" if value is None else "given"
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
