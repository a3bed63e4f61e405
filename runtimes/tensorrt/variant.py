"""TensorRT and TensorRT-RTX: one API under two module names, and which of them is meant."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from ramedge.errors import RuntimeUnavailableError

VariantName = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the two.

    Attributes:
        name: as the command line writes it.
        title: as NVIDIA writes it.
        module: what is imported.
        extra: of ramedge, that installs it.
        builds_without_gpu: whether engines can be built where no GPU is.
        captures_itself: whether it captures CUDA graphs by its own strategy.
    """

    name: VariantName
    title: str
    module: str
    extra: str
    builds_without_gpu: bool
    captures_itself: bool

    def load(self) -> Any:
        """The module.

        Raises:
            RuntimeUnavailableError: it is not installed, or does not load.
        """
        try:
            module = importlib.import_module(self.module)
            if hasattr(module, "__version__"):
                return module
            # A folder of that name, met as a namespace package, is not an installation.
            raise ModuleNotFoundError(name=self.module)
        except ModuleNotFoundError as missing:
            if missing.name != self.module:
                raise RuntimeUnavailableError(f"{self.title} needs {missing.name}.") from None
            raise RuntimeUnavailableError(
                f"{self.title} is not installed: pip install 'ramedge[{self.extra}]' "
                f"(in a source tree: pip install '.[{self.extra}]')."
            ) from None
        except (ImportError, OSError, RuntimeError) as error:  # its libraries do not load
            reason = str(error).strip().splitlines()[0]
            raise RuntimeUnavailableError(f"{self.title} does not load: {reason}") from None

    def version(self) -> str:
        """Version of the module; empty where it is not installed."""
        try:
            return str(self.load().__version__)
        except RuntimeUnavailableError:
            return ""

    def installed(self) -> bool:
        """Whether a package of it is there; nothing is loaded."""
        try:
            spec = importlib.util.find_spec(self.module)
            return spec is not None and spec.origin is not None
        except (ImportError, ValueError):
            return False


TENSORRT = Variant("tensorrt", "TensorRT", "tensorrt", "tensorrt", False, False)
RTX = Variant("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", "rtx", True, True)
VARIANTS: dict[VariantName, Variant] = {"tensorrt": TENSORRT, "tensorrt-rtx": RTX}
