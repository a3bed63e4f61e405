from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ramedge.errors import OutputError, UsageError
from ramedge.jobs.output_paths import Job, expand, plan
from ramedge.jobs.pipeline import UpscaleObserver, UpscaleSettings, upscale_files
from ramedge.quality.metrics import psnr
from ramedge.samples import sample_clip, sample_photo
from ramedge.tiling.options import TilingOptions
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler

MADE_BY = "_srram_r10c64_x2"


@pytest.fixture
def crop(tmp_path: Path) -> Image.Image:
    with Image.open(sample_photo("chelsea.png")) as opened:
        return opened.convert("RGB").crop((120, 80, 168, 112))


def upscale_one(source: Path, target: Path) -> list[str]:
    (result,) = upscale_files([str(source)], UpscaleSettings(output=target))
    assert result.status == "done", result.error
    return result.notes


@pytest.mark.base
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_every_format_and_mode(crop: Image.Image, tmp_path: Path, suffix: str, mode: str) -> None:
    source = tmp_path / f"in{suffix}"
    saved = crop.convert(mode)
    if suffix == ".jpg" and mode in {"RGBA", "P"}:
        saved = saved.convert("RGB")
    saved.save(source)
    target = tmp_path / f"out{suffix}"
    upscale_one(source, target)
    with Image.open(target) as opened:
        assert opened.size == (96, 64)
        result = np.asarray(opened.convert("L"), dtype=np.float64)
    cubic = np.asarray(
        saved.convert("L").resize((96, 64), Image.Resampling.BICUBIC), dtype=np.float64
    )
    # Not the same picture, but surely a picture of the same thing.
    assert psnr(result, cubic) > 20


@pytest.mark.base
def test_alpha_is_upscaled_as_well(crop: Image.Image, tmp_path: Path) -> None:
    crop.putalpha(Image.linear_gradient("L").resize(crop.size))
    crop.save(tmp_path / "in.png")
    upscale_one(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.mode == "RGBA"
        alpha = np.asarray(opened.getchannel("A")).astype(int)
    expected = np.asarray(crop.getchannel("A").resize((96, 64), Image.Resampling.BICUBIC)).astype(
        int
    )
    assert np.abs(alpha - expected).mean() < 3


@pytest.mark.base
def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    """A ramp finer than 8 bits comes out with more than 256 levels, and close to the ramp."""
    ramp = np.linspace(20_000, 30_000, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    upscale_one(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.mode.startswith("I")
        result = np.asarray(opened).astype(int)
    assert len(np.unique(result)) > 1000
    assert abs(result.mean() - ramp.mean()) < 300


def test_grey_stays_grey(crop: Image.Image, tmp_path: Path) -> None:
    crop.convert("L").save(tmp_path / "in.png")
    upscale_one(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.mode == "L"


def test_exif_orientation_is_applied(crop: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    crop.save(tmp_path / "in.jpg", exif=exif)
    upscale_one(tmp_path / "in.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as opened:
        assert opened.size == (64, 96)
        assert opened.getexif().get(0x0112, 1) == 1


def test_tiles_cover_the_picture_and_say_what_they_cost(tmp_path: Path) -> None:
    with Image.open(sample_photo("chelsea.png")) as opened:
        opened.convert("RGB").crop((100, 80, 220, 190)).save(tmp_path / "in.png")
    upscale_one(tmp_path / "in.png", tmp_path / "whole.png")
    settings = UpscaleSettings(output=tmp_path / "tiles.png", tiling=TilingOptions(24, "fast"))
    (result,) = upscale_files([str(tmp_path / "in.png")], settings)
    assert any("Tiles of 24 pixels with a halo of" in note for note in result.notes)
    whole, tiles = (
        np.asarray(Image.open(tmp_path / name), dtype=np.float64)
        for name in ("whole.png", "tiles.png")
    )
    assert whole.shape == tiles.shape
    assert psnr(whole, tiles) > 40


def test_tiles_that_read_the_whole_picture_are_the_whole_picture(photo: np.ndarray) -> None:
    with Upscaler() as whole, Upscaler(tiling=TilingOptions(48)) as tiled:
        small = photo[:48, :48]
        np.testing.assert_array_equal(whole.upscale(small), tiled.upscale(small))
        assert not tiled.notes


def test_little_memory_means_tiles(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramedge.tiling.memory.available_bytes", lambda: 260 << 20)
    monkeypatch.setattr("ramedge.tiling.memory.resident_bytes", lambda: 0)
    with Upscaler() as upscaler:
        assert upscaler.upscale(np.tile(photo, (6, 6, 1))).shape == (768, 864, 3)
        assert any("does not fit" in note for note in upscaler.notes)


def demux(path: Path) -> dict[str, list[tuple]]:
    found: dict[str, list[tuple]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.dts is not None:
                entry = (packet.pts * packet.time_base, bytes(packet))
                found.setdefault(packet.stream.type, []).append(entry)
    return found


def rgb_means(frame: av.VideoFrame) -> np.ndarray:
    """Means of R, G and B of a limited-range BT.601 frame, by the standard's own matrix."""
    y, cb, cr = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].mean()
        for plane in frame.planes
    )
    y, cb, cr = (y - 16) * 255 / 219, (cb - 128) * 255 / 224, (cr - 128) * 255 / 224
    return np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])


def test_the_shipped_clip(tmp_path: Path) -> None:
    """Frames, times, sound and colours of a whole video, checked with PyAV."""
    target = tmp_path / "out.mp4"
    started: list[int | None] = []
    frames: list[int] = []
    observer = UpscaleObserver(
        on_start=lambda job, count: started.append(count), on_frame=frames.append
    )
    (result,) = upscale_files([str(sample_clip())], UpscaleSettings(output=target), observer)
    assert result.status == "done", result.error
    assert result.frames == 30
    assert started == [30]
    assert frames == list(range(1, 31))
    source, output = demux(sample_clip()), demux(target)
    assert sorted(t for t, _ in output["video"]) == sorted(t for t, _ in source["video"])
    assert output["audio"] == source["audio"]
    with av.open(str(sample_clip())) as one, av.open(str(target)) as two:
        assert abs(one.duration - two.duration) <= 1_000_000 / 29.97
        for before, after in zip(one.decode(video=0), two.decode(video=0), strict=True):
            assert (after.width, after.height) == (640, 360)
            assert np.abs(rgb_means(after) - rgb_means(before)).max() < 1


def test_start_and_frames(tmp_path: Path) -> None:
    settings = UpscaleSettings(output=tmp_path / "cut.mkv", start_seconds=0.5, frames=2)
    (result,) = upscale_files([str(sample_clip())], settings)
    assert result.frames == 2
    with av.open(str(tmp_path / "cut.mkv")) as container:
        assert len(list(container.decode(video=0))) == 2


@pytest.mark.base
def test_codec_and_options(tmp_path: Path) -> None:
    from ramedge.media.video import EncodingSettings

    encoding = EncodingSettings("ffv1", (("slices", "4"),), "yuv444p")
    settings = UpscaleSettings(output=tmp_path / "out.mkv", encoding=encoding, frames=1)
    (result,) = upscale_files([str(sample_clip())], settings)
    assert result.status == "done", result.error
    with av.open(str(tmp_path / "out.mkv")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("ffv1", "yuv444p")


def test_pytorch_and_openvino_give_the_same_picture(crop: Image.Image, tmp_path: Path) -> None:
    crop.save(tmp_path / "in.png")
    pictures = []
    for name in ("torch", "openvino"):
        settings = UpscaleSettings(
            output=tmp_path / f"{name}.png",
            runtime=RuntimeSettings(runtime=name, precision="fp32"),
        )
        upscale_files([str(tmp_path / "in.png")], settings)
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert (pictures[0] != pictures[1]).mean() < 0.001


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.base
def test_folders_give_their_media_and_not_their_results(tmp_path: Path) -> None:
    touch(
        *(tmp_path / n for n in ("b.PNG", "a.mp4", "notes.txt", ".hidden.png", "c.png.partial")),
        tmp_path / f"b{MADE_BY}.PNG",
        tmp_path / "sub" / "d.png",
    )
    found, failures = expand([str(tmp_path)], MADE_BY)
    assert [p.name for p in found] == ["a.mp4", "b.PNG"]
    assert not failures


@pytest.mark.base
def test_globs_and_names_that_look_like_globs(tmp_path: Path) -> None:
    touch(tmp_path / "1.png", tmp_path / "2.jpg", tmp_path / "weird[1].png")
    found, _ = expand([str(tmp_path / "*.png")], MADE_BY)
    assert [p.name for p in found] == ["1.png", "weird[1].png"]
    assert expand([str(tmp_path / "weird[1].png")], MADE_BY)[0] == [tmp_path / "weird[1].png"]
    _, failures = expand([str(tmp_path / "*.webp"), ""], MADE_BY)
    messages = [str(failure) for failure in failures.values()]
    assert "matches" in messages[0]
    assert "empty" in messages[1]


def test_kinds_are_told_by_name_then_by_content(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n")
    touch(tmp_path / "film.y4m", tmp_path / "still.gif")
    assert Job(tmp_path / "picture", tmp_path).is_image
    assert not Job(tmp_path / "film.y4m", tmp_path).is_image
    _, failures = expand([str(tmp_path / "still.gif")], MADE_BY)
    assert "convert it to PNG" in str(next(iter(failures.values())))


def test_a_file_named_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path / "1.png")
    assert len(expand([str(tmp_path / "1.png"), str(tmp_path)], MADE_BY)[0]) == 1


def test_default_names(tmp_path: Path) -> None:
    names = ["a.png", "b.jfif", "c.avi", "d.mp4"]
    touch(*(tmp_path / name for name in names))
    jobs, _ = plan([tmp_path / n for n in names], None, MADE_BY, "refuse")
    assert [job.target.name for job in jobs] == [
        f"a{MADE_BY}.png", f"b{MADE_BY}.png", f"c{MADE_BY}.mkv", f"d{MADE_BY}.mp4",
    ]  # fmt: skip
    assert [job.is_image for job in jobs] == [True, True, False, False]


def test_outputs_that_clash_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "1" / "a.png", tmp_path / "2" / "a.png", tmp_path / "plain")
    sources = [tmp_path / "1" / "a.png", tmp_path / "2" / "a.png"]
    with pytest.raises(UsageError, match="would both become"):
        plan(sources, tmp_path / "out", MADE_BY, "refuse")
    with pytest.raises(UsageError, match="cannot all become"):
        plan(sources, tmp_path / "out.png", MADE_BY, "refuse")
    with pytest.raises(OutputError, match="not a folder"):
        plan(sources, tmp_path / "plain", MADE_BY, "refuse")


def test_a_second_name_of_the_input_is_seen_through(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "c.png")
    with pytest.raises(UsageError, match="the input itself"):
        plan([tmp_path / "a.png"], tmp_path / "b.png", MADE_BY, "overwrite")
    jobs, _ = plan([tmp_path / "a.png"], tmp_path / "c.png", MADE_BY, "overwrite")
    assert len(jobs) == 1
