"""Small inputs under the names that the documents use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from bench_fixtures import MACHINE, make_row
from PIL import Image
from small_networks import make_network

from ramedge.bench.result import BenchResult
from ramedge.export.model import ExportSettings, export_model
from ramedge.network.config import NetworkConfig
from ramedge.network.weights import save_weights
from ramedge.samples import PHOTOS, sample_photo
from ramedge.weights import WEIGHTS

READ = {
    "inputs", "folders", "models", "model", "weights", "data", "evaluate", "source", "compare",
    "calibration", "start_from", "figures_only", "teacher",
}  # fmt: skip
"""Parameters of the commands that name what is read."""
WRITTEN = {"output", "json_file", "html_file", "markdown", "report"}
"""Parameters of the commands that name what is written."""

SMALL = NetworkConfig(blocks=2, channels=16, reduction=4)


def crop(index: int, width: int, height: int) -> Image.Image:
    """A part of a real photo, another one for each index."""
    with Image.open(sample_photo(PHOTOS[index % len(PHOTOS)])) as opened:
        photo = opened.convert("RGB")
    left = 37 * index % (photo.width - width)
    top = 23 * index % (photo.height - height)
    return photo.crop((left, top, left + width, top + height))


def photo(width: int = 64, height: int = 48) -> Callable[[Path], None]:
    return lambda path: crop(0, width, height).save(path)


def photos(first: int, count: int, side: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        for index in range(first, first + count):
            crop(index, side, side).save(path / f"{index:03d}.png")

    return make


def film(width: int, height: int, frames: int, rate: Fraction) -> Callable[[Path], None]:
    """A view that moves over a photo, without sound."""

    def make(path: Path) -> None:
        pixels = np.asarray(crop(0, width + frames, height))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(frames):
                view = np.ascontiguousarray(pixels[:, index : index + width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
            container.mux(stream.encode())

    return make


def holiday(path: Path) -> None:
    path.mkdir()
    crop(1, 48, 64).save(path / "beach.jpg")
    crop(2, 48, 48).save(path / "hills.png")
    film(32, 32, 3, Fraction(10))(path / "sea.mp4")
    (path / "notes.txt").write_text("neither an image nor a video\n", encoding="utf-8")


def weights(scales: tuple[int, ...]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        save_weights(make_network(replace(SMALL, scales=scales)), path)

    return make


def exported(runtime: str) -> Callable[[Path], None]:
    """An export of the same network as `weights((2,))`."""

    def make(path: Path) -> None:
        source = path.with_name(f"{path.name}_source.safetensors")
        weights((2,))(source)
        export_model(ExportSettings(path, runtime=runtime, weights=source))  # type: ignore[arg-type]
        source.unlink()

    return make


def bench_result(*rounds: float) -> Callable[[Path], None]:
    """A result of `ramedge bench` of the shipped network in PyTorch and OpenVINO.

    Of frames as small as those that the documented commands measure here.
    """

    def make(path: Path) -> None:
        rows = tuple(
            replace(row, combination=replace(row.combination, height=24, width=32))
            for row in (make_row(rounds=rounds), make_row("openvino", "fp32", rounds))
        )
        result = BenchResult(rows, (), "PyTorch fp32", (), True, MACHINE, "ramedge bench")
        path.write_text(json.dumps(result.as_dict()), encoding="utf-8")

    return make


def shipped_photo(path: Path) -> None:
    shutil.copyfile(sample_photo(path.name), path)


def shipped_weights(path: Path) -> None:
    """A teacher of all scales that is better than bicubic."""
    shutil.copyfile(WEIGHTS, path)


def first_frames(path: Path) -> None:
    """The first frames of a shipped clip."""
    with (
        av.open(str(sample_photo(path.name))) as source,
        av.open(str(path), "w") as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(source.streams.video[0])):
            if index == 4 or packet.dts is None:
                break
            packet.stream = stream
            container.mux(packet)


# Wider than the tiles of 256 pixels that the documents ask for, and 60 seconds and 24 frames long.
_FILM = film(264, 16, 56, Fraction(1, 2))

INPUTS: dict[str, Callable[[Path], None]] = {
    "photo.jpg": photo(),
    "photo.png": photo(320, 48),
    "huge.tif": photo(128, 96),
    "holiday": holiday,
    "film.mkv": _FILM,
    "film.mp4": _FILM,
    "video.mp4": film(64, 48, 4, Fraction(10)),
    "ramedge/samples/coffee.png": shipped_photo,
    "ramedge/samples/flower.mp4": first_frames,
    "PHOTOS": photos(0, 16, 64),
    "Set5": photos(20, 2, 48),
    "Set14": photos(30, 2, 48),
    "BSD100": photos(40, 2, 48),
    "weights.safetensors": weights((2,)),
    "my.safetensors": weights((2,)),
    "WEIGHTS": shipped_weights,
    "TEACHER.safetensors": shipped_weights,
    "my_export": exported("openvino"),
    "model": exported("onnx"),
    "runs/x2/weights.safetensors": weights((2,)),
    "runs/multi/weights.safetensors": weights((2, 3, 4)),
    "yesterday.json": bench_result(1.0, 1.1, 1.2),
    "before.json": bench_result(1.0, 1.1, 1.2),
    "after.json": bench_result(0.7, 0.8, 0.7),
}
"""What the documents read, and how it is made."""

FOLDERS = ("REPOSITORY/benchmarks/results", "benchmarks/results")
"""Folders that the documents write into, and that are there already."""


def provide(values: Sequence[tuple[str, Any]], folder: Path) -> None:
    """Make the inputs that parameters name, those that an earlier command made excepted.

    Fails where this module does not know a name.

    Args:
        values: names and values of a command's parameters.
        folder: where the command runs.
    """
    for name, value in values:
        several = value if isinstance(value, (list, tuple)) else (value,)
        for one in several:
            if name in READ and one is not None:
                _provide(str(one), folder)
            elif isinstance(one, Path):
                assert name in WRITTEN, f"Does {name} name what is read or what is written?"
                _prepare(one, folder)


def _provide(name: str, folder: Path) -> None:
    name = name.rstrip("/")
    path = folder / name
    if path.exists():
        return
    if name not in INPUTS:
        pytest.fail(f"{name} is no known input: add it to INPUTS in {Path(__file__).name}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    INPUTS[name](path)


def _prepare(output: Path, folder: Path) -> None:
    """Make the folder of an output where the documents say that it is there."""
    if output.parent.as_posix() in FOLDERS:
        (folder / output.parent).mkdir(parents=True, exist_ok=True)
    elif any(part.isupper() for part in output.parts):
        pytest.fail(f"{output} is no known output: add it to FOLDERS in {Path(__file__).name}.")
