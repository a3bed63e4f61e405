"""The registry of backends, and what is chosen from it."""

from __future__ import annotations

from typing import get_args

import pytest

from ramedge.cli.options import RuntimeChoice
from ramedge.errors import RuntimeUnavailableError, UsageError
from ramedge.runtimes import registry
from ramedge.runtimes.backend import RuntimeName
from ramedge.runtimes.registry import BACKENDS, best, choose


def test_the_command_line_offers_every_backend() -> None:
    assert {choice.value for choice in RuntimeChoice} == set(get_args(RuntimeName))
    assert {"auto", *BACKENDS} == set(get_args(RuntimeName))


def test_openvino_is_taken_where_nothing_better_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt-rtx"):
        backend = BACKENDS[name]  # type: ignore[index]
        monkeypatch.setattr(backend, "automatic", lambda name=name: (False, f"no {name}"))
    assert best() == (BACKENDS["openvino"], "no tensorrt-rtx")
    assert choose("auto", "auto")[0].name == "openvino"
    with pytest.raises(RuntimeUnavailableError, match="no tensorrt-rtx"):
        choose("auto", "cuda")


def test_a_gpu_and_its_library_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.TENSORRT, "automatic", lambda: (True, "there is an NVIDIA GPU"))
    assert best() == (BACKENDS["tensorrt"], "there is an NVIDIA GPU")
    assert choose("auto", "cuda")[0].name == "tensorrt"
    assert choose("auto", "CPU")[0].name == "openvino"


@pytest.mark.parametrize(
    ("name", "device"),
    [("openvino", "cuda"), ("tensorrt", "cpu"), ("tensorrt-rtx", "GPU"), ("onnxruntime", "NPU")],
)
def test_a_device_that_a_backend_never_runs_on_is_refused(name: str, device: str) -> None:
    with pytest.raises(UsageError, match=device):
        choose(name, device)  # type: ignore[arg-type]
