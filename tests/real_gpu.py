"""Tests that need an NVIDIA GPU say why they skip; RAMEDGE_REQUIRE_GPU=1 makes that a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def no_gpu(reason: str) -> NoReturn:
    """Skip the test, or fail it where a GPU is required."""
    if os.environ.get("RAMEDGE_REQUIRE_GPU") == "1":
        pytest.fail(f"RAMEDGE_REQUIRE_GPU=1, but: {reason}")
    pytest.skip(reason)
