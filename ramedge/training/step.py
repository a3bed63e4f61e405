"""One optimisation step: the loss, its gradient, the update, and the moving average."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ramedge.network.collapse import RIM, CollapsedNetwork
from ramedge.network.srram import SRRAM
from ramedge.training.acceleration import Acceleration
from ramedge.training.batches import Patches
from ramedge.training.distributed import Processes
from ramedge.training.losses import LOSSES
from ramedge.training.recipe import Recipe
from ramedge.training.settings import TrainingSettings
from ramedge.training.state import TrainingState
from ramedge.training.teachers.group import Teachers


class TrainingStep:
    """Optimisation steps of a run; each changes its state, except for the count of steps."""

    def __init__(
        self,
        settings: TrainingSettings,
        state: TrainingState,
        acceleration: Acceleration,
        group: Processes,
        teachers: Teachers | None,
    ) -> None:
        self._settings = settings
        self._recipe = settings.recipe
        self._state = state
        self._bf16 = acceleration.bf16
        self._device = group.device
        self._teachers = teachers
        self._loss = LOSSES[settings.recipe.loss]
        self._trainable = trainable_network(state.network, settings.recipe, acceleration, group)

    def __call__(self, step: int, batch: Patches) -> Tensor:
        """Do step `step` (from 0) on a batch; returns its loss, a scalar on the device."""
        target = None if self._teachers is None else self._teachers.target(batch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            loss = self._compute_loss(step, batch, target)
        loss.backward()  # type: ignore[no-untyped-call]
        state = self._state
        state.optimizer.step(self._recipe.learning_rate_at(step, self._settings.steps))
        if state.ema is not None:
            update_average(state.ema, state.network, self._recipe.ema_decay_at(step))
        return loss.detach()

    def _compute_loss(self, step: int, batch: Patches, target: Tensor | None) -> Tensor:
        """(1 - W)·loss(output, truth) + W·loss(output, teacher's output); W = 0 without one."""
        scale = batch.scale
        inside = slice(None)
        if self._recipe.rim_at(step):
            output = self._trainable(batch.low, scale)
        else:
            output = self._trainable(batch.low, scale, False)
            inside = slice(RIM * scale, -RIM * scale)
        high = batch.high[..., inside, inside]
        distillation = self._settings.distillation
        if target is None or distillation is None:
            return self._loss(output, high)
        weight = distillation.weight
        loss = weight * self._loss(output, target[..., inside, inside])
        return loss if weight == 1.0 else loss + (1.0 - weight) * self._loss(output, high)


def trainable_network(
    network: SRRAM, recipe: Recipe, acceleration: Acceleration, group: Processes
) -> nn.Module:
    """The network as it is called in a step: with a collapsed tail, compiled, distributed.

    It shares its parameters with `network`.
    """
    trainable: nn.Module = network
    if recipe.collapse:
        trainable = CollapsedNetwork(network)
    if acceleration.compile:
        # A graph for each scale: torch would make the second one's scale a symbol.
        trainable = torch.compile(trainable, dynamic=False)  # type: ignore[assignment]
    if not group.several:
        return trainable
    on_gpu = group.device.type == "cuda"
    return DistributedDataParallel(
        trainable,
        device_ids=[group.device.index] if on_gpu else None,
        # Each step uses the tail of one scale only.
        find_unused_parameters=len(network.config.scales) > 1,
    )


@torch.no_grad()
def update_average(average: SRRAM, network: SRRAM, decay: float) -> None:
    """Move the averaged weights towards the network's by a share of 1 - `decay`."""
    targets = [p.detach() for p in average.parameters()]
    sources = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(targets, sources, 1.0 - decay)
