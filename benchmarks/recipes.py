"""Short trainings that differ in one thing each: how `fast` was chosen.

The results are in docs/research/training_log.md.

    python benchmarks/recipes.py PHOTOS results.json [--steps 400] [--only NAME]...

Same network, seed and photos for all; every third photo is used. What is measured is PSNR-Y of
the shipped (averaged) weights on held-out photos, and the seconds it took.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from pathlib import Path

from ramedge.network.config import NetworkConfig
from ramedge.system import describe_machine
from ramedge.training.loop import train
from ramedge.training.recipe import FAST, Recipe
from ramedge.training.settings import TrainingSettings

BASE = dataclasses.replace(
    FAST,
    batch=8,
    patch=32,
    warmup=50,
    ema=0.99,
    patterns=0.0,
    gradient_limit=0.0,
    candidates=1,
    rim_every=1,
)


def variants(steps: int) -> dict[str, tuple[Recipe, int]]:
    """Name → recipe and number of steps, all of about the same number of pixels."""

    def change(**fields: object) -> tuple[Recipe, int]:
        return dataclasses.replace(BASE, **fields), steps  # type: ignore[arg-type]

    return {
        "Muon 0.3 (as `fast`)": change(),
        "Adam": change(optimizer="adam"),
        "Muon 0.6": change(muon_rms=0.6),
        "Muon 1.2": change(muon_rms=1.2),
        "Charbonnier": change(loss="charbonnier"),
        "L1 and spectrum": change(loss="frequency"),
        "no EMA": change(ema=0.0),
        "the most detail of 8 places": change(candidates=8),
        "decay from the start": change(decay_fraction=1.0),
        "the rim in one step of 4": change(rim_every=4),
        "14 patches of 24×24": change(batch=14, patch=24),
        "4 patches of 48×48": change(batch=4, patch=48),
        "4 patches, twice the steps": (dataclasses.replace(BASE, batch=4), 2 * steps),
    }


def copy_photos(photos: Path, temporary: Path) -> Path:
    """Every third photo, by name, in a folder of its own."""
    folder = temporary / "photos"
    folder.mkdir()
    for path in sorted(photos.iterdir())[::3]:
        shutil.copy(path, folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", action="append", default=[], help="variants to run; default all")
    arguments = parser.parse_args()
    rows = []
    if arguments.only and arguments.result.exists():
        rows = json.loads(arguments.result.read_text())["rows"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_photos(arguments.photos, Path(temporary))
        for index, (name, (recipe, steps)) in enumerate(variants(arguments.steps).items()):
            if arguments.only and name not in arguments.only:
                continue
            started = time.perf_counter()
            result = train(
                TrainingSettings(
                    data=folder,
                    output=Path(temporary) / str(index),
                    network=NetworkConfig(),
                    recipe=recipe,
                    steps=steps,
                    validate_every=steps,
                    checkpoint_every=steps,
                )
            )
            seconds = time.perf_counter() - started
            rows.append({"name": name, "steps": steps, "psnr": result.psnr[2], "seconds": seconds})
            print(f"{name:30} {steps} steps {result.psnr[2]:.3f} dB {seconds:.0f} s", flush=True)
            record = {"machine": describe_machine(), "base": dataclasses.asdict(BASE), "rows": rows}
            arguments.result.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
