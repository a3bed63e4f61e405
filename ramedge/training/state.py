"""The state of a run that changes with every step and that a checkpoint stores."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ramedge.errors import TrainingError
from ramedge.network.srram import SRRAM
from ramedge.training.checkpoint import Checkpoint
from ramedge.training.optimizer import Optimizer
from ramedge.training.settings import TrainingSettings

LOSS_WINDOW = 50
"""Steps that the reported loss is the mean of."""


class RunningLoss:
    """Mean loss of the last `LOSS_WINDOW` steps.

    Losses stay on the device until `read`, so that a GPU does not wait for the host in every step.
    """

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=LOSS_WINDOW)
        self._pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Keep the loss of a step, a scalar tensor."""
        self._pending.append(loss)

    def read(self) -> bool:
        """Bring pending losses to the host; false if one is NaN or infinite."""
        values = torch.stack(self._pending).tolist() if self._pending else []
        self._pending.clear()
        if not all(math.isfinite(value) for value in values):
            return False
        self.values.extend(values)
        return True

    @property
    def mean(self) -> float:
        """Mean of the losses read so far; NaN before the first."""
        return sum(self.values) / len(self.values) if self.values else math.nan


@dataclass(slots=True)
class TrainingState:
    """State after `step` steps.

    Attributes:
        network: weights being trained.
        ema: their moving average, `None` where the recipe keeps none.
        history: one entry for each validation: `step`, `loss` and `psnr_x{scale}`.
    """

    network: SRRAM
    ema: SRRAM | None
    optimizer: Optimizer
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: RunningLoss = field(default_factory=RunningLoss)

    @property
    def evaluated(self) -> SRRAM:
        """The network that is validated and saved as weights."""
        return self.network if self.ema is None else self.ema

    def psnr(self) -> dict[int, float]:
        """PSNR-Y of the last validation by scale, in dB; empty before the first."""
        if not self.history:
            return {}
        return {scale: self.history[-1][f"psnr_x{scale}"] for scale in self.network.config.scales}

    def checkpoint(self, fixed: dict[str, Any]) -> Checkpoint:
        """The state as a checkpoint of a run with these fixed settings."""
        return Checkpoint(
            settings=fixed,
            step=self.step,
            network=self.network.state_dict(),
            ema=self.ema.state_dict() if self.ema is not None else None,
            optimizer=self.optimizer.state_dict(),
            history=self.history,
            losses=list(self.losses.values),
        )

    def restore(
        self, checkpoint: Checkpoint, settings: TrainingSettings, fixed: dict[str, Any]
    ) -> None:
        """Continue from a checkpoint.

        Raises:
            TrainingError: its run had other fixed settings, or more steps.
        """
        if difference := checkpoint.difference(fixed):
            raise TrainingError(
                f"The run in {settings.output} was started with {difference}: "
                "use the same, or another folder with -o."
            )
        if checkpoint.step > settings.steps:
            raise TrainingError(
                f"The run in {settings.output} is at step {checkpoint.step} already: "
                "ask for more with --steps."
            )
        self.network.load_state_dict(checkpoint.network)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step = checkpoint.step
        self.history = list(checkpoint.history)
        self.losses.values.extend(checkpoint.losses)
