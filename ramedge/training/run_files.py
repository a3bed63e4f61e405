"""Files of a run: checkpoint, weights, log and pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ramedge.errors import TrainingError
from ramedge.files import write_text
from ramedge.network.weights import save_weights
from ramedge.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ramedge.training.progress import Notices
from ramedge.training.settings import TrainingSettings
from ramedge.training.state import TrainingState
from ramedge.training.throughput import Throughput

CHECKPOINT_NAME = "checkpoint.pt"
WEIGHTS_NAME = "weights.safetensors"
LOG_NAME = "run.json"
CURVES_NAME = "curves.png"
RUN_FILES = (CHECKPOINT_NAME, WEIGHTS_NAME, LOG_NAME, CURVES_NAME, "validation_x*.png")
"""Patterns of the names of all of them."""


def find_checkpoint(settings: TrainingSettings, notices: Notices) -> Checkpoint | None:
    """The checkpoint to resume from, `None` for a run that starts.

    Raises:
        TrainingError: there is one and the run is not to be resumed, or it cannot be read.
    """
    path = settings.output / CHECKPOINT_NAME
    if not path.exists():
        if settings.resume:
            notices.add(f"No checkpoint in {settings.output} yet: starting at step 0.")
        return None
    if not settings.resume:
        raise TrainingError(
            f"{settings.output} holds a run already: "
            "continue it with --resume or choose another folder with -o."
        )
    return load_checkpoint(path)


def save_run(
    state: TrainingState,
    settings: TrainingSettings,
    fixed: dict[str, Any],
    notices: Notices,
    throughput: Throughput | None,
) -> None:
    """Write checkpoint, weights and log, each atomically.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = settings.output
    save_checkpoint(state.checkpoint(fixed), folder / CHECKPOINT_NAME)
    training = {**fixed, "step": state.step, "steps": settings.steps, "notices": notices.texts}
    save_weights(state.evaluated, folder / WEIGHTS_NAME, training)
    log: dict[str, Any] = {"settings": training, "history": state.history}
    if throughput is not None:
        log["throughput"] = asdict(throughput)
    write_text(folder / LOG_NAME, json.dumps(log, indent=2) + "\n")
