"""Settings of a training run, as data. Free of torch, so that the command line may read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramedge.errors import UsageError
from ramedge.network.config import NetworkConfig
from ramedge.training.folder import check_apart
from ramedge.training.recipe import Recipe
from ramedge.training.teachers.settings import Distillation

if TYPE_CHECKING:
    from ramedge.network.weights import Weights
    from ramedge.training.photos import PhotoSet
    from ramedge.training.teachers.group import Teachers

SEEDS = 2**63
"""Upper bound of seeds, exclusive: torch takes signed 64-bit integers."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """One training run.

    Attributes:
        data: folder of photos.
        output: folder of the run: checkpoint, weights and log.
        steps: total optimisation steps, including those before a resume.
        seed: seed of initial weights and patches, in [0, 2⁶³).
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints; a crash loses at most these.
        start_from: weights to fine-tune. Scales that they lack start from random weights.
        distillation: teachers to learn from as well.

    Raises:
        UsageError: a number out of its range, a list of shares that does not match the scales, or
            an output inside the folder of photos.
    """

    data: Path
    output: Path
    network: NetworkConfig
    recipe: Recipe
    steps: int
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    validate_every: int = 500
    checkpoint_every: int = 250
    start_from: Path | None = None
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.checkpoint_every) < 1:
            raise UsageError("Steps and intervals must be at least 1.")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"The seed must lie between 0 and {SEEDS - 1}.")
        check_apart(self.data, self.output)
        scales, shares = self.network.scales, self.recipe.shares
        if shares and len(shares) != len(scales):
            raise UsageError(f"--shares takes one number for each scale, {len(scales)} here.")


def fixed_settings(
    settings: TrainingSettings, photos: PhotoSet, start: Weights | None, teachers: Teachers | None
) -> dict[str, Any]:
    """Settings that must not change when a run is resumed, as plain values.

    The number of steps is not among them: the end of the schedule moves with it.

    Args:
        settings: of the run.
        photos: decoded from `settings.data`.
        start: loaded from `settings.start_from`.
        teachers: loaded from `settings.distillation`.
    """
    network = asdict(settings.network)
    network["scales"] = list(settings.network.scales)
    distillation = None
    if teachers is not None and settings.distillation is not None:
        distillation = {
            "weight": settings.distillation.weight,
            "outputs": settings.distillation.outputs,
            "teachers": teachers.as_list(),
        }
    return {
        "network": network,
        "recipe": settings.recipe.as_dict(),
        "seed": settings.seed,
        "start": None if start is None else start.digest,
        "distillation": distillation,
        "photos": photos.digest,
        "training_photos": len(photos.training),
        "validation_photos": len(photos.validation),
    }
