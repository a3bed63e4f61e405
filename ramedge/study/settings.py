"""What a study is: the settings that its eleven networks share. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramedge.errors import UsageError
from ramedge.network.config import ATTENTION_NAMES, NetworkConfig
from ramedge.quality.photos import find_photos
from ramedge.training.recipe import Recipe

SCALE = 2
"""Table 2 of the paper is ×2."""


@dataclass(frozen=True, slots=True)
class StudySettings:
    """One study.

    Attributes:
        data: folder of photos to train on.
        output: folder of the results; each network has its run folder below it.
        blocks, channels: R and C of all networks.
        steps: optimisation steps of each network.
        seed: of weights and patches, the same for all.
        sets: folders of high-resolution images to measure on; one given twice counts once.
        resume: go on with the study in `output`.

    Raises:
        UsageError: no such network, no steps, or two sets of the same name.
    """

    data: Path
    output: Path
    recipe: Recipe
    steps: int
    blocks: int = 4
    channels: int = 32
    seed: int = 0
    sets: tuple[Path, ...] = ()
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("A study needs at least one step.")
        self.network(ATTENTION_NAMES[0])
        self.named_sets()

    def network(self, attention: str) -> NetworkConfig:
        """The network of one variant."""
        return NetworkConfig(
            blocks=self.blocks, channels=self.channels, scales=(SCALE,), attention=attention
        )

    def folder(self, attention: str) -> Path:
        """The run folder of one variant."""
        return self.output / attention

    def named_sets(self) -> dict[str, Path]:
        """The sets by name, which is their folder's, in the order given."""
        found: dict[str, Path] = {}
        for folder in self.sets:
            name = folder.resolve().name
            if found.setdefault(name, folder).resolve() != folder.resolve():
                raise UsageError(f"Two sets are named {name}: rename one of the folders.")
        return found

    def check_folders(self) -> None:
        """Say what is missing before hours are spent.

        Raises:
            InputError: a folder does not exist or holds no photo.
        """
        for folder in (self.data, *self.sets):
            find_photos(folder)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what decides the result, and the photos' folder."""
        return {
            "scale": SCALE,
            "blocks": self.blocks,
            "channels": self.channels,
            "reduction": self.network(ATTENTION_NAMES[0]).reduction,
            "recipe": self.recipe.as_dict(),
            "steps": self.steps,
            "seed": self.seed,
            "data": str(self.data),
            "device": self.device,
        }
