"""Settings of distillation, as data. Free of torch, so that the command line may read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from ramedge.errors import UsageError

OutputsMode = Literal["patch", "cached"]


@dataclass(frozen=True, slots=True)
class Distillation:
    """Teachers and the weight of their outputs in the loss.

    Attributes:
        teachers: weights files, which together hold one network for each scale of the run.
        weight: W of the loss (1 - W)·loss(output, truth) + W·loss(output, teacher's output), in
            (0, 1].
        outputs: `patch` runs the teacher on the patches of every step; `cached` runs it once on
            every training photo and keeps its 8-bit outputs on disk.
        license: licence of the teachers, if given by the user.
        cache: folder of `cached` outputs; `None` is the user's cache folder.

    Raises:
        UsageError: no teacher, one given twice, or a weight outside (0, 1].
    """

    teachers: tuple[Path, ...]
    weight: float = 0.5
    outputs: OutputsMode = "patch"
    license: str | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not self.teachers:
            raise UsageError("Distillation needs a --teacher.")
        if len(set(self.teachers)) != len(self.teachers):
            raise UsageError("Give each --teacher once.")
        if not (math.isfinite(self.weight) and 0.0 < self.weight <= 1.0):
            raise UsageError("The weight of the teacher must lie in (0, 1].")

    @property
    def cache_folder(self) -> Path:
        """Folder of the cached outputs."""
        return self.cache or Path(platformdirs.user_cache_dir("ramedge")) / "teachers"
