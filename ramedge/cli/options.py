"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ramedge.errors import OutputError, RamedgeError, UnexpectedError, UsageError


class RuntimeChoice(str, Enum):
    """Inference backends."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class PrecisionChoice(str, Enum):
    """Arithmetic of the network."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        "-s",
        help="Upscaling factor: 2, 3 or 4. Default: the model's own, 2 for the shipped one.",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "--weights",
        "-m",
        help="Folder made by ramedge export (not for PyTorch), or a .safetensors file of weights "
        "(PyTorch only). "
        "Default: the shipped SRRAM_R10C64.",
    ),
]
RuntimeOption = Annotated[
    RuntimeChoice,
    typer.Option(
        "--runtime",
        help="Inference backend. auto: TensorRT if it is installed and finds a GPU, otherwise "
        "OpenVINO; PyTorch for .safetensors weights.",
    ),
]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option(
        "--precision",
        "-p",
        help="Arithmetic. auto: the faster of fp32 and fp16 on this device. fp16: FP16 or "
        "bfloat16. int8: the shipped INT8 model, fastest on most CPUs.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Device, by the backend's name: CPU or GPU (OpenVINO), cpu or cuda (ONNX Runtime, "
        "PyTorch). auto: the backend chooses.",
    ),
]
TileText = Annotated[
    str,
    typer.Option(
        "--tile",
        help="Side of a tile in input pixels without its halo, at least 16; whole or 0: never "
        "tiles. auto: tiles only where "
        "a whole frame does not fit into memory.",
    ),
]

Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="Self-ensemble: average over 8 flips and rotations. Slightly better, 8 times slower.",
    ),
]


def check_json_output(path: Path) -> None:
    """Refuse, before any work, a `--json` that cannot be written or would hit another file.

    Raises:
        UsageError: the name does not end with .json.
        OutputError: the folder does not exist or may not be written to.
    """
    check_text_output("--json", path, ".json")


def check_text_output(option: str, path: Path, suffix: str) -> None:
    """Refuse, before any work, an output that cannot be written or would hit another file.

    Raises:
        UsageError: the name does not end with `suffix`.
        OutputError: the folder does not exist or may not be written to.
    """
    if path.suffix.lower() != suffix:
        raise UsageError(f"{option} {path}: the name must end with {suffix}.")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"Cannot write {path}: there is no such folder, or it is read-only.")


Json = Annotated[
    Path | None, typer.Option("--json", help="Also write the results to this .json file.")
]


def exit_code(unexpected: Iterable[bool]) -> int:
    """What the process ends with where files failed: for each, whether that was a bug."""
    return UnexpectedError.exit_code if any(unexpected) else RamedgeError.exit_code
