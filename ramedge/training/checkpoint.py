"""Checkpoints: everything a run needs to go on as if it had never stopped."""

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
"""Settings that are hashes: no user knows one by sight."""
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
        settings: what must not change when the run is resumed.
        network: weights being trained.
        ema: their moving average, `None` where the recipe keeps none.
        optimizer: state of each optimizer part.
        history: what was logged, see `ramedge.training.loop`.
        losses: the last ones, of which the next log holds the mean.
    """

    settings: dict[str, Any]
    step: int
    network: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor] | None
    optimizer: list[dict[str, Any]]
    history: list[dict[str, float]]
    losses: list[float]

    def difference(self, settings: dict[str, Any]) -> str | None:
        """What these settings ask for otherwise than the run's own, in words; `None`: nothing."""
        return _difference(self.settings, settings)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically: a crash at any moment leaves the one before.

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
        _check_sums(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
        fields = {name: document[name] for name in _FIELDS}
        return Checkpoint(**fields, losses=document.get("losses", []))  # none in former files
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"Cannot read the checkpoint {path}: {reason}.") from None
    except _DAMAGED:
        raise TrainingError(
            f"Cannot read the checkpoint {path}: it is damaged, or from another program or "
            "version. Delete it to start again."
        ) from None


def _check_sums(path: Path) -> None:
    """Compare the sums that the file holds of its parts, which torch does not."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile


def _difference(former: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    for name in former | wanted:
        found, value = former.get(name), wanted.get(name)
        if name == "teachers":  # the same under other names, or of a licence said otherwise
            found, value = ([each.get("sha256") for each in side or ()] for side in (found, value))
        if found == value:
            continue
        if isinstance(found, dict) and isinstance(value, dict):
            if found.get("name") != value.get("name"):  # a recipe's
                return f"{name} {found.get('name')}, not {value.get('name')}"
            return _difference(found, value)
        if name in _DIGESTS:
            return f"other {_DIGESTS[name]}"
        return f"{name.replace('_', ' ')} {_said(found)}, not {_said(value)}"
    return None


def _said(value: object) -> str:
    if value is None or isinstance(value, dict):  # of what a run has or has not
        return "none" if value is None else "given"
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
