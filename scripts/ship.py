"""Make the shipped weights and ONNX artifacts from a training run.

    python scripts/ship.py RUN_FOLDER CALIBRATION_PHOTOS

The run's weights file is shipped as it is; the graphs of each scale read their weights from it. The
model cards are written by hand.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ramedge.artifacts.artifact import Artifact, load_artifact, write_manifest
from ramedge.artifacts.model_files import Precision
from ramedge.artifacts.storage import external_files, read_graph, save_graphs
from ramedge.calibration.pictures import CalibrationSettings
from ramedge.errors import GateError
from ramedge.export.int8 import Int8Settings
from ramedge.export.model import ExportSettings, export_model
from ramedge.files import file_digest
from ramedge.network.weights import load_weights
from ramedge.weights import (
    DERIVED_NAME,
    EXCITATION_NAME,
    FOLDER,
    NETWORK,
    WEIGHTS,
    artifact_name,
)

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
"""FP16 is made from FP32 where it is wanted."""


def main(run: Path, photos: Path) -> None:
    """Replace the shipped files by those of a run; INT8 is calibrated on `photos`."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = export_all(run / "weights.safetensors", photos, Path(folder))
        pack(artifacts, run / "weights.safetensors", FOLDER)


def export_all(weights: Path, photos: Path, folder: Path) -> list[Artifact]:
    """Every scale in every precision, each in a folder of its own."""
    artifacts = []
    for scale in load_weights(weights).config.scales:
        int8 = Int8Settings(CalibrationSettings((photos,)))
        for precision in PRECISIONS:
            settings = ExportSettings(
                output=folder / artifact_name(scale, precision),
                scale=scale,
                precision=precision,
                runtime="onnx",
                weights=weights,
                strict=True,
                int8=int8,
            )
            try:
                artifacts.append(export_model(settings))
            except GateError as refused:
                if precision != "int8":
                    raise
                print(f"No INT8 for ×{scale}: {refused}", flush=True)
                continue
            psnr = artifacts[-1].manifest.gate["psnr"]
            print(f"{artifacts[-1].folder.name}: {psnr} dB", flush=True)
    return artifacts


def pack(artifacts: Sequence[Artifact], weights: Path, folder: Path) -> None:
    """Write artifacts of one network into one folder, each weight once.

    Args:
        artifacts: one folder each, named as `artifact_name` does.
        weights: what they were made from.
        folder: artifacts that are there already, of former weights, are removed.
    """
    for old in (*folder.glob("*.onnx"), *folder.glob(f"{NETWORK}_x*.json")):
        old.unlink()
    shutil.copyfile(weights, folder / WEIGHTS.name)
    graphs = {}
    for artifact in artifacts:
        name = artifact.folder.name
        graphs[f"{name}.onnx"] = read_graph(artifact.model)
        assert artifact.tile is not None
        assert artifact.excitation is not None
        graphs[f"{name}_tile.onnx"] = read_graph(artifact.tile)
        shutil.copyfile(artifact.excitation, folder / EXCITATION_NAME)
    save_graphs(graphs, folder, DERIVED_NAME, [folder / WEIGHTS.name])
    for artifact in artifacts:
        name = artifact.folder.name
        model, tile = folder / f"{name}.onnx", folder / f"{name}_tile.onnx"
        files = {model, tile, folder / EXCITATION_NAME}
        files.update(external_files(model), external_files(tile))
        manifest = replace(
            artifact.manifest,
            model=model.name,
            tile=tile.name,
            excitation=EXCITATION_NAME,
            weights=file_digest(folder / WEIGHTS.name),
            files={file.name: file_digest(file) for file in sorted(files)},
        )
        write_manifest(folder / f"{name}.json", manifest)
        load_artifact(folder / f"{name}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
