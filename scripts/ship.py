"""Make the shipped weights and ONNX artifacts from a training run.

    python scripts/ship.py RUN_FOLDER CALIBRATION_PHOTOS

Each scale is taken out of the run's network. The model cards are written by hand.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ramedge.calibration.frames import CalibrationSettings
from ramedge.errors import GateError
from ramedge.export.int8 import Int8Settings
from ramedge.export.model import ExportSettings, Precision, export_model
from ramedge.network.weights import load_weights, save_weights
from ramedge.weights import FOLDER, NETWORK

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def main(run: Path, photos: Path) -> None:
    """Replace the shipped files by those of a run; INT8 is calibrated on `photos`."""
    loaded = load_weights(run / "weights.safetensors")
    for scale in loaded.config.scales:
        name = f"{NETWORK}_x{scale}"
        path = FOLDER / f"{name}.safetensors"
        int8 = Int8Settings(CalibrationSettings((photos,)))
        save_weights(loaded.network.take(scale), path, loaded.training)
        for precision in PRECISIONS:
            try:
                artifact = export_model(
                    ExportSettings(
                        output=FOLDER / f"{name}_{precision}",
                        scale=scale,
                        precision=precision,
                        runtime="onnx",
                        weights=path,
                        strict=True,
                        overwrite=True,
                        int8=int8,
                    )
                )
            except GateError as refused:
                if precision != "int8":
                    raise
                # One of the former weights must not stay.
                shutil.rmtree(FOLDER / f"{name}_{precision}", ignore_errors=True)
                print(f"No INT8 for ×{scale}: {refused}", flush=True)
                continue
            print(f"{artifact.folder.name}: {artifact.manifest.gate['psnr']:.1f} dB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
