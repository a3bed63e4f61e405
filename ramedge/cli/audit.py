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
    models: Annotated[list[Path], typer.Argument(help="ONNX files, from here or elsewhere.")],
) -> None:
    """Say what in quantized ONNX models would make an engine wrong: one line for each fault.

    A file that cannot be read is reported, and the others are audited. The exit code is 0 where
    nothing was found. Engines are audited before they are built, too.
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
