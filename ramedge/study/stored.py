"""What earlier calls left in a study's folder: runs that need no training, scores no measuring.

The training's own `run.json` says what was trained and how far; `study.json` is only read for
scores that need not be measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ramedge.errors import TrainingError
from ramedge.files import file_digest
from ramedge.network.config import ATTENTION_NAMES
from ramedge.study.result import RESULT_NAME, Photos, Row, finite
from ramedge.study.settings import SCALE, StudySettings
from ramedge.training.run_files import CHECKPOINT_NAME, LOG_NAME, WEIGHTS_NAME


@dataclass(frozen=True, slots=True)
class StoredRun:
    """The run of one variant as its log tells.

    Attributes:
        finished: whether it did all its steps.
        held_out: PSNR-Y in dB of the last validation; `None` without held-out photos.
    """

    weights: Path
    finished: bool
    photos: Photos
    held_out: float | None
    notices: tuple[str, ...]


def holds_study(settings: StudySettings) -> bool:
    """Whether the output folder holds anything of a study."""
    checkpoints = [settings.folder(name) / CHECKPOINT_NAME for name in ATTENTION_NAMES]
    return any(path.exists() for path in (settings.output / RESULT_NAME, *checkpoints))


def stored_run(settings: StudySettings, attention: str) -> StoredRun | None:
    """The run of a variant, `None` where none was begun.

    Raises:
        TrainingError: its log is damaged, or it was begun with other settings.
    """
    folder = settings.folder(attention)
    path, weights = folder / LOG_NAME, folder / WEIGHTS_NAME
    if not path.exists() or not weights.exists():
        return None
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
        found = log["settings"]
        _check_settings(settings, attention, found)
        last = log["history"][-1] if log["history"] else {}
        finished = found["step"] == settings.steps
        return StoredRun(
            weights=weights,
            finished=finished,
            photos=Photos(found["photos"], found["training_photos"], found["validation_photos"]),
            held_out=finite(last[f"psnr_x{SCALE}"]) if last.get("step") == found["step"] else None,
            notices=tuple(found["notices"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"Cannot read {path} ({error!r}): remove the folder {folder} and resume."
        ) from None


def _check_settings(settings: StudySettings, attention: str, found: dict[str, Any]) -> None:
    network = asdict(settings.network(attention))
    network["scales"] = list(network["scales"])
    wanted = {
        "network": network,
        "recipe": settings.recipe.as_dict(),
        "seed": settings.seed,
        "steps": settings.steps,
    }
    before = _flat({key: found[key] for key in wanted})
    for name, value in _flat(wanted).items():
        if before.get(name) != value:
            raise TrainingError(
                f"The study in {settings.output} was begun with {name} {before.get(name)}, not "
                f"{value}: use the same, or another folder with -o."
            )


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a document two levels deep by their own key."""
    inner = [value.items() if isinstance(value, dict) else () for value in document.values()]
    plain = {key: value for key, value in document.items() if not isinstance(value, dict)}
    return plain | {key: value for items in inner for key, value in items}


def stored_rows(settings: StudySettings) -> dict[str, Row]:
    """Rows of an earlier call by attention, with those scores that this one asks for.

    Left out where the weights are not those that were measured. A results file that cannot be
    read costs no more than measuring again.
    """
    path = settings.output / RESULT_NAME
    try:
        rows = [Row.from_dict(row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {row.attention: _wanted(settings, row) for row in rows if _is_current(settings, row)}


def _is_current(settings: StudySettings, row: Row) -> bool:
    weights = settings.output / row.weights
    return weights.is_file() and file_digest(weights) == row.digest


def _wanted(settings: StudySettings, row: Row) -> Row:
    folders = {str(folder.resolve()) for folder in settings.sets}
    return replace(row, sets=tuple(score for score in row.sets if score.folder in folders))
