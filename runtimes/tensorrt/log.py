"""What TensorRT says, kept so that the reason of a failure fits into one line."""

from __future__ import annotations

from typing import Any


def make_logger(trt: Any) -> Any:
    """An `ILogger` of this module that prints nothing; `reason()` is the first error it heard."""
    base: Any = trt.ILogger
    severity: Any = trt.ILogger.Severity
    errors = (severity.INTERNAL_ERROR, severity.ERROR)

    class Logger(base):  # type: ignore[misc]  # its base is known only when it runs
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity_of: Any, text: str) -> None:
            line = " ".join(str(text).split())
            if severity_of in errors:
                self.errors.append(line)
            elif severity_of == severity.WARNING:
                self.warnings.append(line)

        def reason(self) -> str:
            return self.errors[0] if self.errors else "no reason is given"

    return Logger()
