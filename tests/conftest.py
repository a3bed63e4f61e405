from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bench_fixtures import pictures, result, row  # noqa: F401  # fixtures
from external_data import FOLDER, external
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image
from traced_graphs import trace_once

from ramedge.cli.entry import main
from ramedge.network.config import NetworkConfig
from ramedge.samples import PHOTOS, sample_photo

if TYPE_CHECKING:
    from ramedge.network.srram import SRRAM

# Examples take as long as a shared machine lets them.
settings.register_profile("ramedge", deadline=None, max_examples=60)
settings.load_profile("ramedge")


@pytest.fixture(scope="session")
def graph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where traced graphs are kept, the same for all workers of xdist."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "traced_graphs"


@pytest.fixture(scope="session", autouse=True)
def _traced_once(graph_folder: Path) -> None:
    """From the first fixture of a test module on."""
    trace_once(graph_folder)


@pytest.fixture(autouse=True)
def _traced_once_when_imported_late(graph_folder: Path) -> None:
    trace_once(graph_folder)


@pytest.fixture(scope="session")
def small_config() -> NetworkConfig:
    return NetworkConfig(blocks=2, channels=16, reduction=4)


@pytest.fixture(scope="session")
def small_network(small_config: NetworkConfig) -> SRRAM:
    from small_networks import make_network

    return make_network(small_config)


@pytest.fixture(scope="session")
def small_weights(small_network: SRRAM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ramedge.network.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(small_network, path)
    return path


@pytest.fixture(scope="session")
def multi_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of three scales."""
    from small_networks import make_network

    from ramedge.network.weights import save_weights

    config = NetworkConfig(blocks=2, channels=16, reduction=4, scales=(2, 3, 4))
    path = tmp_path_factory.mktemp("weights") / "multi.safetensors"
    save_weights(make_network(config), path)
    return path


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A real photo, 64×72."""
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        return np.asarray(opened.convert("RGB"))[100:164, 100:172].copy()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real photos to train on."""
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        with Image.open(sample_photo(name)) as opened:
            image = opened.convert("RGB").crop((50, 50, 370, 290))
        image.save(folder / f"{name}.png")
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder of the external data, with its benchmark sets."""
    external("data/eval")
    return FOLDER


@pytest.fixture
def benchmark_sets() -> Path:
    """The folder that holds Set5, Set14 and BSD100."""
    return external("data/eval")


@pytest.fixture
def paper_text() -> str:
    """The paper as plain text."""
    return external("paper/ram_1811.12043.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong; no traceback beside it."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def ramedge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs the command line in this process."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ramedge", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        captured = capsys.readouterr()
        plain = re.sub(r"\x1b\[[0-9;]*m", "", captured.err)
        return Ended(code, captured.out, plain)

    return run
