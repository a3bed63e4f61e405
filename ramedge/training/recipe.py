"""Recipes, the hyperparameters of a training run: the paper's, and a faster one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from ramedge.errors import UsageError

Schedule = Literal["halving", "trapezoid"]
OptimizerName = Literal["adam", "muon"]
LossName = Literal["l1", "l2", "psnr", "charbonnier", "frequency"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Optimisation settings of a run.

    Attributes:
        patch: side of a training patch, in low-resolution pixels.
        batch: patches per step, over all processes.
        learning_rate: the peak.
        schedule: `halving` halves every `halve_every` steps; `trapezoid` warms up for
            `warmup` steps, stays constant, and falls linearly to zero over the last
            `decay_fraction` of the steps.
        loss: `l1` (the paper's), or one of `ramedge.training.losses`.
        muon_rms: root mean square of a Muon update at learning rate 1.
        squeeze_init: factor on the initial weights of the layer after the variance pooling.
        squeeze_rate: factor on the learning rate of that layer. Its inputs are variances of
            0–255 features, in the thousands: at the common rate a few steps saturate the
            attention, and the loss becomes unstable.
        gradient_limit: adaptive clipping: largest norm of a parameter's gradient, as a multiple
            of its running average; 0 sets no limit.
        ema: decay of the exponential moving average of the weights, which is validated and
            saved; 0 keeps none.
        patterns: share of the patches that get a synthetic pattern, see
            `ramedge.training.patterns`.
        shares: relative frequency of each scale; empty draws them uniformly.
        reduced: factors in (0, 1) by which training photos are reduced, besides full size.
        candidates: random patches drawn for each that is kept, the one with the most detail.
        bf16: autocast to bfloat16 where the device computes in it.
        compile: torch.compile where it works.
        channels_last: memory layout of weights and activations.
        collapse: compute the tail as the one convolution that it is (`ramedge.network.collapse`).
        rim_every: with `collapse`, the pixels of the two outermost features are in the loss of one
            step in `rim_every`. They are an eighth of a 64×64 patch, but a fiftieth of an image,
            and cost a sixth of a step.

    Raises:
        UsageError: a value outside its range.
    """

    name: str
    patch: int
    batch: int
    learning_rate: float
    optimizer: OptimizerName
    schedule: Schedule
    loss: LossName = "l1"
    halve_every: int = 200_000
    warmup: int = 0
    decay_fraction: float = 0.0
    muon_rms: float = 0.3
    squeeze_init: float = 1.0
    squeeze_rate: float = 1.0
    gradient_limit: float = 0.0
    ema: float = 0.0
    patterns: float = 0.0
    shares: tuple[float, ...] = ()
    reduced: tuple[float, ...] = ()
    candidates: int = 1
    bf16: bool = False
    compile: bool = False
    channels_last: bool = False
    collapse: bool = False
    rim_every: int = 1

    def __post_init__(self) -> None:
        if min(self.patch, self.batch, self.candidates, self.rim_every) < 1:
            raise UsageError("Patch, batch size, candidates and rim_every must be at least 1.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError("The learning rate must be a positive number.")
        if min(self.muon_rms, self.squeeze_init, self.squeeze_rate) <= 0:
            raise UsageError("muon_rms and the squeeze factors must be positive.")
        if not 0.0 <= self.decay_fraction <= 1.0:
            raise UsageError("The decay must be a share of the steps in [0, 1].")
        if self.gradient_limit < 0:
            raise UsageError("The gradient limit must not be negative.")
        if not 0.0 <= self.ema < 1.0:
            raise UsageError("The EMA decay must lie in [0, 1).")
        if not all(math.isfinite(share) and share > 0 for share in self.shares):
            raise UsageError("The share of each scale must be a positive number.")
        if not all(0.0 < size < 1.0 for size in self.reduced):
            raise UsageError("Reduced sizes must lie between 0 and 1.")
        if not 0.0 <= self.patterns <= 1.0:
            raise UsageError("The share of patterns must lie in [0, 1].")

    def as_dict(self) -> dict[str, Any]:
        """As plain values that survive JSON unchanged."""
        return {**asdict(self), "shares": list(self.shares), "reduced": list(self.reduced)}

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of `steps`."""
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (step // self.halve_every)
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        decay_steps = max(1.0, self.decay_fraction * steps)
        return self.learning_rate * min(warm, (steps - step) / decay_steps, 1.0)

    def rim_at(self, step: int) -> bool:
        """Whether the outermost pixels of the patches are in the loss of step `step` (from 0)."""
        # Patches of four features have nothing inside the rim.
        return not self.collapse or self.patch <= 4 or step % self.rim_every == 0

    def ema_decay_at(self, step: int) -> float:
        """EMA decay of step `step` (from 0): small at first, so that the initial weights fade."""
        return min(self.ema, (1 + step) / (10 + step))


PAPER = Recipe(
    name="paper",
    patch=48,
    batch=16,
    learning_rate=1e-4,
    optimizer="adam",
    schedule="halving",
    halve_every=200_000,
)
"""Section 4.2 of the paper and the authors' code: Adam 1e-4 (β 0.9, 0.999, ε 1e-8), halved
every 200,000 steps, 16 patches of 48×48, L1, flips and rotations, FP32. The multi-scale
network of Table 4 is trained on 64×64 patches: `paper_patch`."""

FAST = Recipe(
    name="fast",
    patch=48,
    batch=16,
    learning_rate=1e-3,
    optimizer="muon",
    schedule="trapezoid",
    warmup=100,
    decay_fraction=0.5,
    squeeze_init=1e-2,
    squeeze_rate=1e-3,
    gradient_limit=2.0,
    ema=0.999,
    patterns=0.02,
    candidates=8,
    bf16=True,
    compile=True,
    channels_last=True,
    collapse=True,
    rim_every=4,
)
"""For short trainings: Muon for the wide convolutions, a trapezoidal schedule whose end may be
moved when a run is resumed, EMA, patches with much detail, and some synthetic patterns."""

RECIPES = MappingProxyType({"paper": PAPER, "fast": FAST})


def paper_patch(scales: tuple[int, ...]) -> int:
    """The paper's LR patch size: 48 for one scale, 64 for the multi-scale network."""
    return 64 if len(scales) > 1 else 48
