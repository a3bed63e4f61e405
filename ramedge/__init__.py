"""ramedge: SRRAM super-resolution from training to the edge.

The public API, loaded when first used so that `import ramedge` is light and needs no torch:

- `Upscaler`, `RuntimeSettings`, `TilingOptions`: upscale pixels.
- `upscale_files`, `UpscaleSettings`: upscale image and video files.
- `evaluate`, `evaluate_sets`: PSNR-Y and SSIM-Y on a folder, or on several at several scales.
- `load_weights`, `save_weights`, `SRRAM`, `NetworkConfig`: the network in PyTorch.
- `export_model`, `ExportSettings`: weights to a checked ONNX or OpenVINO artifact.
- `train`, `TrainingSettings`: training.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ramedge.errors import RamedgeError
    from ramedge.export.model import ExportSettings, export_model
    from ramedge.jobs.pipeline import UpscaleSettings, upscale_files
    from ramedge.network.config import NetworkConfig
    from ramedge.network.srram import SRRAM
    from ramedge.network.weights import Weights, load_weights, save_weights
    from ramedge.quality.benchmark_sets import Comparison, evaluate_sets
    from ramedge.quality.evaluation import Evaluation, evaluate
    from ramedge.tiling.options import TilingOptions
    from ramedge.training.loop import train
    from ramedge.training.settings import TrainingSettings
    from ramedge.upscaling.open_model import RuntimeSettings
    from ramedge.upscaling.upscaler import Upscaler

_HOMES = {
    "Comparison": "ramedge.quality.benchmark_sets",
    "Evaluation": "ramedge.quality.evaluation",
    "ExportSettings": "ramedge.export.model",
    "NetworkConfig": "ramedge.network.config",
    "RamedgeError": "ramedge.errors",
    "RuntimeSettings": "ramedge.upscaling.open_model",
    "SRRAM": "ramedge.network.srram",
    "TilingOptions": "ramedge.tiling.options",
    "TrainingSettings": "ramedge.training.settings",
    "UpscaleSettings": "ramedge.jobs.pipeline",
    "Upscaler": "ramedge.upscaling.upscaler",
    "Weights": "ramedge.network.weights",
    "evaluate": "ramedge.quality.evaluation",
    "evaluate_sets": "ramedge.quality.benchmark_sets",
    "export_model": "ramedge.export.model",
    "load_weights": "ramedge.network.weights",
    "save_weights": "ramedge.network.weights",
    "train": "ramedge.training.loop",
    "upscale_files": "ramedge.jobs.pipeline",
}

__all__ = [
    "SRRAM",
    "Comparison",
    "Evaluation",
    "ExportSettings",
    "NetworkConfig",
    "RamedgeError",
    "RuntimeSettings",
    "TilingOptions",
    "TrainingSettings",
    "UpscaleSettings",
    "Upscaler",
    "Weights",
    "evaluate",
    "evaluate_sets",
    "export_model",
    "load_weights",
    "save_weights",
    "train",
    "upscale_files",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ramedge' has no attribute {name!r}")
    try:
        module = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "ramedge":
            raise
        from ramedge.errors import MissingExtraError

        raise MissingExtraError(missing.name or "torch", "export", f"ramedge.{name}") from None
    return getattr(module, name)
