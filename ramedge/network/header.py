"""The header of a weights file, read without PyTorch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ramedge.errors import WeightsError


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, empty where it has none.

    Raises:
        WeightsError: no such file, or another format.
    """
    if not path.is_file():
        raise WeightsError(f"No such weights file: {path}.")
    try:
        with safe_open(path, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}). ramedge reads safetensors only; "
            "pickled checkpoints (.pt, .pth) can run code and are refused."
        ) from None
