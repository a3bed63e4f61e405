"""Video in and out, checked with a demux and decode of PyAV that is not ramedge's."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from external_data import external

from ramedge.errors import InputError, OutputError, UsageError
from ramedge.files import partial_path
from ramedge.media.video import EncodingSettings, VideoReader, VideoWriter, output_suffix

pytestmark = pytest.mark.base

FAST = EncodingSettings(options=(("preset", "ultrafast"),))
VFR_PTS = [0, 3000, 6000, 7001, 12000, 15000, 15500, 21000, 24000, 30000]


def synthesize(  # noqa: PLR0915
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    pts: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: str | None = "aac",
    subtitles: bool = False,
    chapters: bool = False,
    cover: bool = False,
    rotation: int = 0,
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
    fmt: str | None = None,
) -> Path:
    pts = VFR_PTS if pts is None else pts
    with av.open(str(path), "w", format=fmt) as out:
        if cover:
            picture: Any = out.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic.value
        video: Any = out.add_stream(codec, rate=30, options=options or {})
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.time_base = video.time_base = Fraction(1, 90000)
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if rotation:
            video.set_display_rotation(rotation)
        sound: Any = None
        if audio:
            sound = out.add_stream(audio, rate=8000)
            sound.layout = "mono"
            sound.metadata["language"] = "deu"
        text: Any = None
        if subtitles:
            text = out.add_stream("srt" if path.suffix == ".mkv" else "mov_text")
            text.codec_context.time_base = text.time_base = Fraction(1, 1000)
            text.codec_context.subtitle_header = b"[Script Info]\n\n[Events]\n"
            text.metadata["language"] = "fra"
        out.metadata["title"] = "a clip"
        if chapters:
            unit = Fraction(1, 1000)
            out.set_chapters(
                [
                    {
                        "id": 1,
                        "start": 0,
                        "end": 100,
                        "time_base": unit,
                        "metadata": {"title": "A"},
                    },
                    {"id": 2, "start": 100, "end": 300, "time_base": unit, "metadata": {}},
                ]
            )
        if cover:
            still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            for packet in picture.encode(still.reformat(format="yuvj420p")):
                out.mux(packet)
        ramp = np.linspace(20, 200, size[0])[None, :, None] * np.ones((size[1], 1, 3))
        for index, stamp in enumerate(pts):
            pixels = (ramp + np.array([index * 3, 10, 40])).clip(0, 255).astype(np.uint8)
            pixels[: size[1] // 4, : size[0] // 4] = [230, 30, 30]  # which corner is which
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format=pix_fmt, dst_colorspace=tags[0] if tags[0] != 2 else None
            )
            frame.pts, frame.time_base = stamp, Fraction(1, 90000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            planes = (np.sin(np.arange(4000) / 20) * 8000).astype(np.int16)
            kind = "fltp" if audio == "aac" else "s16"
            data = planes[None] if kind == "s16" else (planes[None] / 32768).astype(np.float32)
            chunk = av.AudioFrame.from_ndarray(data, kind, "mono")
            chunk.sample_rate, chunk.pts = 8000, 0
            out.mux(sound.encode(chunk))
            out.mux(sound.encode(None))
        if text is not None:
            packet = av.Packet(b"hello" if path.suffix == ".mkv" else b"\x00\x05hello")
            packet.pts = packet.dts = 50
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), text
            out.mux(packet)
    return path


def packets(path: Path) -> dict[int, list[tuple[Any, ...]]]:
    """(pts, dts, duration in seconds, bytes) of every packet by stream."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None:
                unit = packet.time_base
                times = (packet.pts * unit, packet.dts * unit, packet.duration * unit)
                found.setdefault(packet.stream.index, []).append((*times, bytes(packet)))
    return found


def video_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [f.pts * f.time_base for f in container.decode(video=0)]


def upscale(
    source: Path,
    output: Path,
    *,
    scale: int = 2,
    settings: EncodingSettings = FAST,
    start: float | None = None,
    frames: int | None = None,
) -> list[str]:
    with (
        VideoReader(source, start, frames) as reader,
        VideoWriter(output, reader, scale, settings) as writer,
    ):
        for frame in reader:
            writer.write(frame, frame.pixels.repeat(scale, 0).repeat(scale, 1))
        writer.finish()
    assert not partial_path(output).exists()
    return writer.notes


def test_timestamps_sound_subtitles_chapters_and_tags_pass_through(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4", subtitles=True, chapters=True)
    upscale(source, tmp_path / "out.mp4")

    assert video_times(tmp_path / "out.mp4") == [Fraction(p, 90000) for p in VFR_PTS]
    before, after = packets(source), packets(tmp_path / "out.mp4")
    assert before[1] == after[1]
    # The muxer puts empty texts into the gaps, some of them of no duration.
    assert [p for p in before[2] if len(p[3]) > 2] == [p for p in after[2] if len(p[3]) > 2]
    with av.open(str(tmp_path / "out.mp4")) as out, av.open(str(source)) as old:
        assert out.streams.video[0].time_base == Fraction(1, 90000)
        assert (out.streams.video[0].width, out.streams.video[0].height) == (128, 96)
        assert [s.language for s in out.streams][1:3] == ["deu", "fra"]
        assert out.metadata["title"] == "a clip"
        assert len(out.chapters()) == 2
        assert out.chapters()[0]["metadata"]["title"] == "A"
        one_frame = 3000 / 90000 * 1_000_000
        assert out.duration is not None
        assert old.duration is not None
        assert abs(out.duration - old.duration) <= one_frame


def test_attachment_goes_into_matroska(tmp_path: Path) -> None:
    plain = synthesize(tmp_path / "plain.mkv", subtitles=True)
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        targets = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        new.add_attachment("font.ttf", "application/x-truetype-font", b"not quite a font")
        for packet in old.demux():
            if packet.size:
                packet.stream = targets[packet.stream.index]
                new.mux(packet)
    upscale(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as out:
        (attached,) = out.streams.attachments
        assert (attached.name, attached.data) == ("font.ttf", b"not quite a font")
        assert len(out.streams.subtitles) == 1
    notes = upscale(source, tmp_path / "out.mp4")
    assert any("attachment" in note and "left out" in note for note in notes)


@pytest.mark.parametrize(("before", "after", "text"), [
    ("in.mp4", "out.mkv", b"hello"),
    ("in.mkv", "out.mp4", b"\x00\x05hello"),
])  # fmt: skip
def test_subtitle_is_converted_where_the_container_needs_it(
    tmp_path: Path, before: str, after: str, text: bytes
) -> None:
    source = synthesize(tmp_path / before, subtitles=True)
    notes = upscale(source, tmp_path / after)
    assert any("converted" in note for note in notes)
    with av.open(str(tmp_path / after)) as out:
        found = [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in out.demux(out.streams.subtitles[0])
            if p.pts is not None and bytes(p).strip(b"\x00")
        ]
    assert len(found) == 1
    assert text in found[0][2]  # maybe with its style in tags
    assert abs(found[0][1] - Fraction(1, 10)) <= Fraction(1, 1000)


def test_matroska_keeps_sync_and_rounds_to_milliseconds(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4")
    notes = upscale(source, tmp_path / "out.mkv")
    assert any("milliseconds" in note for note in notes)
    before, after = packets(source), packets(tmp_path / "out.mkv")
    assert [p[3] for p in before[1]] == [p[3] for p in after[1]]
    shift = after[1][0][0] - before[1][0][0]  # Matroska has no negative times: all move alike
    for new, old in zip(video_times(tmp_path / "out.mkv"), VFR_PTS, strict=True):
        assert abs(new - shift - Fraction(old, 90000)) <= Fraction(2, 1000)


def test_trimming_cuts_all_streams_alike(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4", subtitles=True)
    upscale(source, tmp_path / "out.mp4", start=0.07, frames=4)
    kept = VFR_PTS[3:7]
    assert video_times(tmp_path / "out.mp4") == [Fraction(p - kept[0], 90000) for p in kept]
    begin, end = Fraction(kept[0], 90000), Fraction(VFR_PTS[7], 90000)
    before, after = packets(source), packets(tmp_path / "out.mp4")
    expected = [p[3] for p in before[1] if begin <= p[0] < end]
    assert [p[3] for p in after[1]] == expected
    assert all(0 <= p[0] < end - begin for p in after[1])


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4", cover=True)
    with VideoReader(source) as reader:
        assert (reader.info.width, reader.info.height) == (64, 48)
        assert len(list(reader)) == len(VFR_PTS)
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        pictures = [s for s in out.streams.video if s.disposition & s.disposition.attached_pic]
        assert [(p.width, p.height) for p in pictures] == [(32, 32)]


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"),
    reason="this PyAV cannot write a rotation to test with",
)
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotated_video_comes_upright(tmp_path: Path, rotation: int) -> None:
    source = synthesize(tmp_path / "in.mp4", rotation=rotation, audio=None)
    with av.open(str(source)) as container:
        stored = next(container.decode(video=0))
        assert stored.rotation in (rotation, -180)
        expected = np.rot90(stored.to_ndarray(format="rgb24"), rotation // 90)
    with VideoReader(source) as reader:
        frame = next(iter(reader))
        assert frame.pixels.shape == (reader.info.height, reader.info.width, 3)
        assert frame.pixels.flags.c_contiguous
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 2
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert next(out.decode(video=0)).rotation == 0


@pytest.mark.parametrize(
    ("pix_fmt", "tags"),
    [
        ("yuv420p", (6, 1, 6, 6)),
        ("yuv420p", (1, 2, 1, 1)),
        ("yuv444p", (5, 2, 5, 6)),
        ("yuv422p10le", (9, 1, 9, 16)),
        ("yuv444p10le", (9, 2, 9, 18)),
    ],
)
def test_colour_survives_a_lossless_round_trip(
    tmp_path: Path, pix_fmt: str, tags: tuple[int, int, int, int]
) -> None:
    source = synthesize(
        tmp_path / "in.mkv", pix_fmt=pix_fmt, tags=tags, audio=None, options={"qp": "0"}
    )
    settings = EncodingSettings("ffv1", (), pix_fmt)
    upscale(source, tmp_path / "out.mkv", settings=settings)
    with av.open(str(source)) as old, av.open(str(tmp_path / "out.mkv")) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            context = new.streams.video[0].codec_context
            meta = (after.colorspace, after.color_range, context.color_primaries, context.color_trc)
            assert meta == tags
            step = 4 if "10" in pix_fmt else 1
            for plane, again in zip(plane_means(before), plane_means(after), strict=True):
                assert abs(plane - again) / step < 0.5


def plane_means(frame: av.VideoFrame) -> list[float]:
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [
        float(np.frombuffer(p, kind).reshape(p.height, -1)[:, : p.width].mean())
        for p in frame.planes
    ]


def test_rgb_equals_the_standards_own_formula(tmp_path: Path) -> None:
    source = synthesize(
        tmp_path / "in.mkv", pix_fmt="yuv444p", tags=(1, 1, 1, 1), options={"qp": "0"}, audio=None
    )
    with av.open(str(source)) as container:
        planes = next(container.decode(video=0)).to_ndarray().astype(float)
    y, u, v = (planes[0] - 16) / 219, (planes[1] - 128) / 224, (planes[2] - 128) / 224
    r, b = y + 1.5748 * v, y + 1.8556 * u
    g = (y - 0.2126 * r - 0.0722 * b) / 0.7152
    expected = np.rint(np.clip(np.stack([r, g, b], -1), 0, 1) * 255)
    with VideoReader(source) as reader:
        pixels = next(iter(reader)).pixels
    assert np.abs(pixels - expected).max() <= 1


def test_untagged_colour_is_guessed_said_and_written(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4", tags=(2, 0, 2, 2), audio=None)
    with VideoReader(source) as reader:
        assert reader.info.color.guessed
        assert reader.info.color.matrix_name == "BT.601"
        assert any("BT.601 assumed" in note for note in reader.info.notes)
    upscale(source, tmp_path / "out.mp4")  # else a larger picture would be taken for BT.709
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.video[0].codec_context.colorspace == 6


def test_ten_bits_stay_ten_bits_with_hdr_metadata(tmp_path: Path) -> None:
    mastering = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
    params = f"log-level=error:{mastering}L(10000000,50):max-cll=1000,400"
    source = synthesize(
        tmp_path / "in.mp4", codec="libx265", pix_fmt="yuv420p10le", tags=(9, 1, 9, 16),
        options={"x265-params": params}, audio=None,
    )  # fmt: skip
    with VideoReader(source) as reader:
        assert reader.info.bit_depth == 10
        assert next(iter(reader)).pixels.dtype == np.uint16
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out, av.open(str(source)) as old:
        assert out.streams.video[0].codec_context.codec_tag == "hvc1"
        new, before = next(out.decode(video=0)), next(old.decode(video=0))
        assert new.format.name == "yuv420p10le"
        assert (new.colorspace, out.streams.video[0].codec_context.color_trc) == (9, 16)
        for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
            assert bytes(new.side_data[kind]) == bytes(before.side_data[kind])


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mkv", size=(51, 37), pix_fmt="yuv444p", audio=None)
    notes = upscale(source, tmp_path / "out.mp4", scale=3)
    with av.open(str(tmp_path / "out.mp4")) as out:
        frame = next(out.decode(video=0))
        assert (frame.width, frame.height, frame.format.name) == (153, 111, "yuv444p")
    vp9 = synthesize(tmp_path / "vp9.webm", size=(51, 37), codec="libvpx-vp9", audio=None)
    notes = upscale(vp9, tmp_path / "odd.mp4", scale=1)
    assert any("odd size" in note for note in notes)
    assert video_times(tmp_path / "odd.mp4")


def test_playlists_and_addresses_are_refused(tmp_path: Path) -> None:
    real = synthesize(tmp_path / "real.mp4", audio=None)
    listing = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{real}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(listing)
    (tmp_path / "hidden.mp4").write_text(f"ffconcat version 1.0\nfile '{real.name}'\n")
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{real.name}'\n")
    for name in ("list.m3u8", "hidden.mp4", "list.ffconcat"):
        with pytest.raises(InputError, match="playlist"):
            VideoReader(tmp_path / name)
    for name in ("http://example.org/a.mp4", "concat:a.mp4|b.mp4", "pipe:0", f"file:{real}"):
        with pytest.raises(InputError, match="not a local file"):
            VideoReader(name)


def test_a_name_is_never_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(synthesize(tmp_path / "a.mp4"), tmp_path / "concat:a.mp4")
    upscale(Path("concat:a.mp4"), Path("pipe:1.mp4"))
    assert video_times(tmp_path / "pipe:1.mp4" if os.sep == "/" else tmp_path / "a.mp4")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    good = synthesize(tmp_path / "good.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("Just some words.\n" * 100)
    (tmp_path / "no_moov.mp4").write_bytes(good[: len(good) // 3])
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), "fltp", "mono")
        stream.layout, frame.sample_rate = "mono", 8000  # type: ignore[union-attr]
        out.mux(stream.encode(frame))  # type: ignore[union-attr]
        out.mux(stream.encode(None))  # type: ignore[union-attr]
    for name, words in (
        ("missing.mp4", "does not exist"),
        ("empty.mp4", "empty"),
        ("text.mp4", "not a readable video"),
        ("no_moov.mp4", "not a readable video"),
        ("sound.mp4", "no video stream"),
        (".", "not a regular file"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            VideoReader(tmp_path / name)
        assert "\n" not in str(caught.value)


def spoil(tmp_path: Path) -> Path:
    """An mp4 whose second half of the media is zeros; the sample table is whole."""
    source = synthesize(
        tmp_path / "whole.mp4", pts=[i * 3000 for i in range(50)], audio=None, options={"g": "10"}
    )
    with av.open(str(source)) as old:
        spans = [(p.pos, p.size) for p in old.demux() if p.pos is not None]
    begin, end = spans[25][0], max(pos + size for pos, size in spans)
    data = source.read_bytes()
    path = tmp_path / "spoilt.mp4"
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    return path


def test_damage_in_the_middle_gives_what_came_before_and_then_fails(tmp_path: Path) -> None:
    with VideoReader(spoil(tmp_path)) as reader:
        given = []
        with pytest.raises(InputError, match=r"damaged|cut off"):
            given.extend(frame.pts for frame in reader)  # list.extend keeps what it got
    assert 15 <= len(given) < 50
    assert given == [i * 3000 for i in range(len(given))]


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_file_cut_short_of_its_header_fails(tmp_path: Path, keep: float) -> None:
    source = synthesize(tmp_path / "in.mp4", pts=[i * 3000 for i in range(50)], audio=None)
    front = tmp_path / "front.mp4"
    with av.open(str(source)) as old:
        options = {"movflags": "faststart"}
        with av.open(str(front), "w", container_options=options) as new:
            target = new.add_stream_from_template(old.streams.video[0], opaque=True)
            for packet in old.demux():
                if packet.dts is not None:
                    packet.stream = target
                    new.mux(packet)
    with av.open(str(front)) as table:
        places = [p.pos for p in table.demux() if p.pos is not None]
    (tmp_path / "short.mp4").write_bytes(front.read_bytes()[: places[int(50 * keep)] + 7])
    for keep_going in (False, True):
        given = []
        with VideoReader(tmp_path / "short.mp4", keep_going=keep_going) as reader:
            output = tmp_path / f"out{keep_going}.mp4"
            with VideoWriter(output, reader, 1, FAST) as writer:
                with pytest.raises(InputError, match=r"cut off|damaged"):  # noqa: PT012
                    for frame in reader:
                        writer.write(frame, frame.pixels)
                        given.append(frame.pts)
                writer.finish(keep_going=True)
        assert 0 < len(given) < 50
        assert len(video_times(output)) == len(given)


def test_truncated_matroska_fails(tmp_path: Path) -> None:
    data = synthesize(
        tmp_path / "in.mkv", pts=[i * 3000 for i in range(90)], audio=None
    ).read_bytes()
    (tmp_path / "short.mkv").write_bytes(data[: len(data) // 2])
    with VideoReader(tmp_path / "short.mkv") as reader, pytest.raises(InputError):
        list(reader)


def test_matroska_that_lacks_its_last_frames_is_a_doubt(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mkv", pts=[i * 3000 for i in range(90)], audio=None)
    with av.open(str(source)) as whole:
        places = [packet.pos for packet in whole.demux() if packet.pos is not None]
    with VideoReader(source) as reader:
        assert len(list(reader)) == 90
        assert reader.doubts == []
    for missing in (5, 10):  # at 30 a second less than the half second that is an error
        (tmp_path / "short.mkv").write_bytes(source.read_bytes()[: places[90 - missing] - 12])
        with VideoReader(tmp_path / "short.mkv") as reader:
            assert 90 - missing - 1 <= len(list(reader)) <= 90 - missing
            assert "may be cut off" in reader.doubts[0]
            list(reader)
            assert len(reader.doubts) == 1


def test_start_and_frames_are_checked(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4")
    for start, frames in ((-1.0, None), (float("nan"), None), (None, 0)):
        with pytest.raises(UsageError):
            VideoReader(source, start, frames)
    with VideoReader(source, 1000) as reader, pytest.raises(UsageError, match="past the end"):
        list(reader)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("out.xyz", FAST, r"\.mp4 .*\.mkv"),
        ("out.mp4", EncodingSettings("libx246"), "libx264"),
        ("out.mp4", EncodingSettings("aac"), "not a video encoder"),
        ("out.mp4", EncodingSettings(options=(("crff", "3"),)), "no option crff"),
        ("out.mp4", EncodingSettings(options=(("crf", "many"),)), "crf=many"),
        ("out.mp4", EncodingSettings(pixel_format="yuv999"), "not a pixel format"),
        ("out.mp4", EncodingSettings("libx264", (), "rgb48le"), "yuv420p10le"),
        ("out.webm", EncodingSettings("libx264"), "libx264|aac"),
        ("out.webm", EncodingSettings(), r"aac does not fit into \.webm"),
    ],
)
def test_wrong_requests_fail_before_the_first_frame(
    tmp_path: Path, name: str, settings: EncodingSettings, words: str
) -> None:
    source = synthesize(tmp_path / "in.mp4")
    with VideoReader(source) as reader, pytest.raises(UsageError, match=words) as caught:
        VideoWriter(tmp_path / name, reader, 2, settings).__enter__()
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, OSError])
def test_nothing_is_left_of_an_unfinished_file(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    source = synthesize(tmp_path / "in.mp4")
    output = tmp_path / "out.mp4"
    output.write_bytes(b"an older file")

    def run() -> None:
        with VideoReader(source) as reader, VideoWriter(output, reader, 1, FAST) as writer:
            for frame in reader:
                writer.write(frame, frame.pixels)
                if frame.index == 5:
                    raise failure

    with pytest.raises(failure):
        run()
    assert output.read_bytes() == b"an older file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4")
    output = tmp_path / "out.mkv"
    partial_path(output).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        upscale(source, output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


def test_an_output_folder_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    source = synthesize(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match=r"in\.mp4"):
        upscale(source, source / "out.mp4")


def test_output_suffix_keeps_what_can_be_written() -> None:
    assert output_suffix(Path("a.MP4")) == ".mp4"
    assert output_suffix(Path("a.avi")) == ".mkv"


@pytest.mark.parametrize("name", ["flower.mp4", "vfr.mp4"])
def test_real_clip_keeps_every_time_and_every_sound_packet(tmp_path: Path, name: str) -> None:
    source = external(f"data/video/{name}")
    upscale(source, tmp_path / "out.mp4", scale=1)
    assert video_times(tmp_path / "out.mp4") == video_times(source)
    assert packets(tmp_path / "out.mp4")[1] == packets(source)[1]


@pytest.mark.parametrize(
    "name",
    ["nasa.mp4", "pancake.mkv", "anamorphic_vp9.mp4", "h264_10bit.mp4", "mjpeg422.avi",
     "rotated90.mov", "bikes.mp4"],
)  # fmt: skip
def test_real_clip_has_its_streams_and_shape(tmp_path: Path, name: str) -> None:
    source = external(f"data/video/{name}")
    output = tmp_path / f"out{output_suffix(source)}"
    upscale(source, output, frames=8)
    with av.open(str(source)) as old, av.open(str(output)) as new:
        turned = name == "rotated90.mov"
        before, after = old.streams.video[0], new.streams.video[0]
        size = (before.height, before.width) if turned else (before.width, before.height)
        assert (after.width, after.height) == (2 * size[0], 2 * size[1])
        assert (after.sample_aspect_ratio or 1) == (before.sample_aspect_ratio or 1)
        for kind in ("audio", "subtitles"):
            assert len(getattr(old.streams, kind)) == len(getattr(new.streams, kind))
        pix_fmt = (before.pix_fmt or "").replace("yuvj", "yuv")
        assert (after.pix_fmt or "").replace("yuvj", "yuv") == pix_fmt
    count = min(8, len(video_times(source)))
    assert len(video_times(output)) == count


@pytest.mark.parametrize("seconds", [1, 5])
def test_a_complete_matroska_film_of_few_frames_is_not_cut_off(
    tmp_path: Path, seconds: int
) -> None:
    """FFmpeg finds no start time at opening, and one that is too late while it decodes."""
    path = tmp_path / "slides.mkv"
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=Fraction(1, seconds))
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        for level in range(38):
            pixels = np.full((32, 32, 3), 3 * level, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(video.encode(None))
    with VideoReader(path) as reader:
        assert len(list(reader)) == 38
        assert reader.doubts == []
