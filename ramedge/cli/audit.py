"""`ramedge audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ramedge.cli import console
from ramedge.errors import MissingExtraError


def audit(
    models: Annotated[list[Path], typer.Argument(help="ONNX files, from here or elsewhere.")],
) -> None:
    """Say what in quantized ONNX models would make an engine wrong: one line for each fault.

    The exit code is 0 where nothing was found. Engines are audited before they are built, too.
    """
    try:
        from ramedge.calibration import audit as auditor
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnx", "export", "The audit") from None
    faults = 0
    for path in models:
        model = auditor.read_model(path)
        found = auditor.audit(model)
        faults += len(found)
        for finding in found:
            console.stdout.print(f"{path}: {finding}", markup=False, soft_wrap=True)
        if not found:
            kind = "no fault" if auditor.is_quantized(model) else "not quantized, no fault"
            console.stdout.print(f"{path}: {kind}", markup=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)
