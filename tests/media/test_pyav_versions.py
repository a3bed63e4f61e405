"""What PyAV's versions do differently; the tests need none of them in particular."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from ramedge.errors import UsageError
from ramedge.media import video_encoding
from ramedge.media.pyav import tag_options
from ramedge.media.video import EncodingSettings, VideoReader, VideoWriter
from ramedge.media.video_reader import open_input
from ramedge.samples import sample_clip

pytestmark = pytest.mark.base

LATIN = b"Caf\xe9 Latin"


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("16.1.0", {"metadata_errors": "surrogateescape"}),
        ("18.1.0", {"metadata_errors": "surrogateescape"}),
        ("19.0.2", {}),
        ("20.1.0rc1", {}),
    ],
)
def test_an_option_is_given_only_to_versions_that_have_it(
    monkeypatch: pytest.MonkeyPatch, version: str, options: dict[str, str]
) -> None:
    monkeypatch.setattr(av, "__version__", version)
    assert tag_options() == options


def clip_with_a_latin_title(folder: Path) -> Path:
    """Copy the sample clip, and put a byte into its title that is not UTF-8."""
    path = folder / "latin.mp4"
    with av.open(str(sample_clip())) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        target.metadata["title"] = "x" * len(LATIN)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    data = path.read_bytes()
    assert data.count(b"x" * len(LATIN)) == 1
    path.write_bytes(data.replace(b"x" * len(LATIN), LATIN))
    return path


def test_a_tag_that_is_not_utf_8_passes_through_byte_for_byte(tmp_path: Path) -> None:
    source, target = clip_with_a_latin_title(tmp_path), tmp_path / "out.mp4"
    settings = EncodingSettings(options=(("preset", "ultrafast"),))
    with (
        VideoReader(source, frames=1) as reader,
        VideoWriter(target, reader, 1, settings) as writer,
    ):
        for frame in reader:
            writer.write(frame, frame.pixels)
        writer.finish()
    assert LATIN in target.read_bytes()


def test_files_open_with_the_arguments_of_the_newest_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV 19 takes these and no others."""
    real = av.open

    def as_in_19(
        file: Any,
        mode: str | None = None,
        format: str | None = None,  # noqa: A002
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        buffer_size: int = 32768,
    ) -> Any:
        return real(file, mode, format, options, container_options or {}, buffer_size=buffer_size)

    monkeypatch.setattr(av, "open", as_in_19)
    monkeypatch.setattr(av, "__version__", "19.0.2")
    source = Path(shutil.copy(sample_clip(), tmp_path / "in.mp4"))
    open_input(source).close()
    with (
        VideoReader(source, frames=1) as reader,
        VideoWriter(tmp_path / "out.mp4", reader, 1, EncodingSettings()) as writer,
    ):
        for frame in reader:
            writer.write(frame, frame.pixels)
        writer.finish()
    assert (tmp_path / "out.mp4").stat().st_size


class RefusedContext:
    """A codec context as PyAV 19's: one that could not be opened must not be asked for its name."""

    pix_fmt, width, height = "yuv420p", 64, 48

    def __init__(self) -> None:
        self.refused = False

    @property
    def name(self) -> str:
        assert not self.refused, "PyAV 19 ends the process here"
        return "libx264"

    def open(self) -> None:
        self.refused = True
        raise ValueError("Invalid argument")


def test_an_encoder_that_cannot_be_opened_is_not_asked_again() -> None:
    stream: Any = SimpleNamespace(codec_context=RefusedContext())
    settings = EncodingSettings(options=(("crf", "many"),))
    with pytest.raises(UsageError, match=r"libx264 does not take yuv420p at 64x48 with crf=many"):
        video_encoding._open(stream, settings)
