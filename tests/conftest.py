from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bench_fixtures import pictures, result, row  # noqa: F401  # fixtures
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from ramedge.cli.entry import main
from ramedge.network.config import NetworkConfig
from ramedge.samples import PHOTOS, sample_photo

if TYPE_CHECKING:
    from ramedge.network.srram import SRRAM

# Examples take as long as a shared machine lets them.
settings.register_profile("ramedge", deadline=None, max_examples=60)
settings.load_profile("ramedge")

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
    if not SHARED.is_dir():
        pytest.skip(f"no evaluation data: {SHARED} is absent")
    return SHARED


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
