"""Make the shipped weights and ONNX artifacts from a training run.

    python scripts/ship.py RUN_FOLDER

Each scale is taken out of the run's network. The model cards are written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ramedge.export.model import ExportSettings, export_model
from ramedge.network.weights import load_weights, save_weights
from ramedge.weights import FOLDER, NETWORK


def main(run: Path) -> None:
    """Replace the shipped files by those of a run."""
    loaded = load_weights(run / "weights.safetensors")
    for scale in loaded.config.scales:
        name = f"{NETWORK}_x{scale}"
        path = FOLDER / f"{name}.safetensors"
        save_weights(loaded.network.take(scale), path, loaded.training)
        for precision in ("fp32", "fp16"):
            artifact = export_model(
                ExportSettings(
                    output=FOLDER / f"{name}_{precision}",
                    scale=scale,
                    precision=precision,
                    runtime="onnx",
                    weights=path,
                    strict=True,
                    overwrite=True,
                )
            )
            print(f"{artifact.folder.name}: {artifact.manifest.gate['psnr']:.1f} dB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
