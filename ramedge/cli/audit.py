"""`ramedge audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ramedge.cli import console
from ramedge.cli.options import exit_code
from ramedge.errors import MissingExtraError, RamedgeError, UnexpectedError
from ramedge.failures import as_failure


def audit(
    models: Annotated[
        list[Path], typer.Argument(help="ONNX files, made by ramedge or by other tools.")
    ],
) -> None:
    """Find quantization faults in ONNX models that would give wrong engines.

    Prints one line for each fault. The exit code is 0 if there is none. Engine builds run the same
    audit first.
    """
    try:
        from ramedge.artifacts import audit as auditor
    except ModuleNotFoundError as missing:
        raise MissingExtraError(missing.name or "onnx", "export", "The audit") from None
    faults = 0
    failures: list[RamedgeError] = []
    for path in models:
        try:
            model = auditor.read_model(path)
            found = auditor.audit(model)
        except Exception as error:
            failures.append(as_failure(error, f"auditing {path}"))
            continue
        faults += len(found)
        for finding in found:
            console.stdout.print(f"{path}: {finding}", markup=False, soft_wrap=True)
        if not found:
            kind = "no fault" if auditor.is_quantized(model) else "not quantized, no fault"
            console.stdout.print(f"{path}: {kind}", markup=False, soft_wrap=True)
    for failure in failures:
        console.error(str(failure))
    if faults or failures:
        raise typer.Exit(exit_code(isinstance(one, UnexpectedError) for one in failures))
