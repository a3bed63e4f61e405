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
    """What runs the network."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class PrecisionChoice(str, Enum):
    """The arithmetic it runs in."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


Scale = Annotated[
    int | None, typer.Option("--scale", "-s", help="Enlargement. Default: the model's, ×2.")
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "--weights",
        "-m",
        help="Exported folder or safetensors weights. Default: the shipped model.",
    ),
]
RuntimeOption = Annotated[RuntimeChoice, typer.Option("--runtime", help="What runs the network.")]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option(
        "--precision",
        "-p",
        help="auto: the faster of fp32 and fp16 on the device; int8 is faster still.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="CPU, GPU, cuda:0 … or auto.")]
TileText = Annotated[
    str,
    typer.Option("--tile", help="auto, 0 (whole frame) or the side of a tile in source pixels."),
]

Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="Mean over the 8 flips and quarter turns of each picture: somewhat better, and "
        "8 times as slow.",
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


Json = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON.")]


def exit_code(unexpected: Iterable[bool]) -> int:
    """What the process ends with where files failed: for each, whether that was a bug."""
    return UnexpectedError.exit_code if any(unexpected) else RamedgeError.exit_code
