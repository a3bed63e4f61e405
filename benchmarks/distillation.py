"""Does a short training gain by the answers of the larger R64C64 (docs/research/training_log.md)?

    python benchmarks/distillation.py PHOTOS results.json [--steps 400] [--teacher-steps 800]

Same base, photos and measure as `recipes.py`. The student's loss is the mean of its L1 from the
truth and its L1 from what the teacher makes of the same patch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

from recipes import BASE, copy_photos

from ramedge.network.config import NetworkConfig
from ramedge.system import describe_machine
from ramedge.training.loop import train
from ramedge.training.progress import TrainingResult
from ramedge.training.settings import TrainingSettings
from ramedge.training.teachers.settings import Distillation

BLOCKS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--teacher-steps", type=int, default=800)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_photos(arguments.photos, Path(temporary))

        def settings(name: str, blocks: int, steps: int) -> TrainingSettings:
            return TrainingSettings(
                data=folder,
                output=Path(temporary) / name,
                network=NetworkConfig(blocks=blocks),
                recipe=BASE,
                steps=steps,
                validate_every=steps,
                checkpoint_every=steps,
            )

        def record(name: str, steps: int, started: float, result: TrainingResult) -> None:
            seconds = time.perf_counter() - started
            rows.append({"name": name, "steps": steps, "psnr": result.psnr[2], "seconds": seconds})
            print(f"{name:10} {steps} steps {result.psnr[2]:.3f} dB {seconds:.0f} s", flush=True)
            found = {"machine": describe_machine(), "base": dataclasses.asdict(BASE), "rows": rows}
            arguments.result.write_text(json.dumps(found, indent=2) + "\n")

        started = time.perf_counter()
        student = NetworkConfig().blocks
        alone = train(settings("alone", student, arguments.steps))
        record("alone", arguments.steps, started, alone)
        started = time.perf_counter()
        teacher = train(settings("teacher", BLOCKS, arguments.teacher_steps))
        record("teacher", arguments.teacher_steps, started, teacher)
        started = time.perf_counter()
        distilled = train(
            dataclasses.replace(
                settings("distilled", student, arguments.steps),
                distillation=Distillation((teacher.weights,), weight=0.5),
            )
        )
        record("distilled", arguments.steps, started, distilled)


if __name__ == "__main__":
    main()
