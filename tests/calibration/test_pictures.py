from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ramedge.calibration.benchmarks import benchmark_name
from ramedge.calibration.pictures import CalibrationSettings, collect_frames
from ramedge.errors import InputError, UsageError
from ramedge.samples import sample_clip, sample_photo

pytestmark = pytest.mark.base


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(sample_photo("chelsea.png")) as opened:
        for index in range(12):
            left = 10 * index
            opened.convert("RGB").crop((left, 0, left + 150, 130)).save(folder / f"{index:02}.png")
    return folder


def settings(*sources: Path, frames: int = 8, side: int = 64) -> CalibrationSettings:
    return CalibrationSettings(sources, frames=frames, side=side, minimum=4)


def test_photos_are_spread_cropped_and_told_by_hash(photos: Path) -> None:
    found = collect_frames(settings(photos, frames=6))
    assert [frame.name for frame in found.frames] == [f"{i:02}.png" for i in range(0, 12, 2)]
    for frame in found.frames:
        assert frame.pixels.shape == (64, 64, 3)
        with Image.open(photos / frame.name) as opened:
            np.testing.assert_array_equal(frame.pixels, np.asarray(opened)[33:97, 43:107])
        assert frame.image.shape == (1, 3, 64, 64)
        assert 0 <= frame.image.min() < frame.image.max() <= 1
    again = collect_frames(settings(photos, frames=6))
    assert again.as_dict() == found.as_dict()
    assert len(found.as_dict()["frames"]) == 6


def test_a_list_names_photos_relative_to_itself(photos: Path, tmp_path: Path) -> None:
    lines = ["# chosen by hand", *(f"photos/{i:02}.png" for i in range(5)), ""]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = collect_frames(settings(tmp_path / "list.txt"))
    assert len(found.frames) == 5
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    assert collect_frames(settings(tmp_path / "list.txt")).as_dict() == found.as_dict()
    (tmp_path / "wrong.txt").write_text("photos/00.png\nphotos/absent.png\n")
    with pytest.raises(InputError, match=r"wrong\.txt, line 2: No such .*absent\.png"):
        collect_frames(settings(tmp_path / "wrong.txt"))
    (tmp_path / "more.txt").write_text("list.txt\n")
    with pytest.raises(InputError, match="another list"):
        collect_frames(settings(tmp_path / "more.txt"))


def test_a_video_gives_frames_spread_over_its_length() -> None:
    found = collect_frames(settings(sample_clip(), frames=6))
    indices = sorted(int(frame.name.split("#")[1]) for frame in found.frames)
    assert len(set(indices)) == 6
    assert indices[0] < 10
    assert indices[-1] > 20


def test_every_shot_of_a_video_is_seen(tmp_path: Path) -> None:
    """Two scenes, 20 frames and 4: both are there, and a black stretch is not."""
    import av

    path = tmp_path / "cut.mkv"
    pictures = []
    for name in ("chelsea.png", "coffee.png"):
        with Image.open(sample_photo(name)) as opened:
            pictures.append(np.asarray(opened.convert("RGB").resize((96, 64))))
    scenes = [pictures[0]] * 20 + [np.zeros_like(pictures[0])] * 6 + [pictures[1][::-1]] * 4
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for index, picture in enumerate(scenes):
            moved = np.roll(picture, index, axis=1)  # no two frames are the same
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = collect_frames(settings(path, frames=6, side=48))
    indices = [int(frame.name.split("#")[1]) for frame in found.frames]
    assert sum(index < 20 for index in indices) == 3
    assert sum(index >= 26 for index in indices) == 3


def test_photos_and_videos_share(photos: Path) -> None:
    found = collect_frames(settings(photos, sample_clip(), frames=8))
    videos = [frame for frame in found.frames if "#" in frame.name]
    assert len(found.frames) == 8
    assert len(videos) == 4


def test_too_few_are_refused(photos: Path) -> None:
    with pytest.raises(InputError, match="1 different pictures are too few"):
        collect_frames(settings(photos / "00.png"))


def test_no_picture_is_taken_twice(photos: Path, tmp_path: Path) -> None:
    """The gate keeps some for itself: what was calibrated on must not be among them."""
    found = collect_frames(settings(photos, photos, frames=12))
    assert len({frame.digest for frame in found.frames}) == len(found.frames) == 12
    copies = tmp_path / "copies"
    copies.mkdir()
    for index in range(6):
        (copies / f"{index}.png").write_bytes((photos / "00.png").read_bytes())
    with pytest.raises(InputError, match="1 different"):
        collect_frames(settings(copies))
    # A copy gives its place to a photo that would have been left out.
    (photos / "02.png").write_bytes((photos / "00.png").read_bytes())
    found = collect_frames(settings(photos, frames=6))
    assert [frame.name for frame in found.frames] == [
        "00.png", "04.png", "06.png", "08.png", "10.png", "01.png"
    ]  # fmt: skip


def test_photos_of_one_name_are_all_recorded(photos: Path) -> None:
    for index, folder in enumerate("abcd"):
        (photos / folder).mkdir()
        (photos / f"{index:02}.png").rename(photos / folder / "same.png")
    record = collect_frames(settings(photos, frames=12)).as_dict()["frames"]
    assert [entry["name"] for entry in record].count("same.png") == 4
    assert len({entry["sha256"] for entry in record}) == 12


def test_photos_take_what_a_short_video_leaves(photos: Path, tmp_path: Path) -> None:
    import av

    path = tmp_path / "short.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        with Image.open(sample_photo("coffee.png")) as opened:
            picture = np.asarray(opened.convert("RGB").resize((96, 64)))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    found = collect_frames(settings(photos, path, frames=10))
    assert len(found.frames) == 10
    assert sum("#" in frame.name for frame in found.frames) == 1


@pytest.mark.parametrize("size", [(400, 1), (1, 400), (15, 80)])
def test_a_picture_too_small_for_the_network_is_named(photos: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "03.png")
    with pytest.raises(InputError, match=r"03\.png is smaller than 16 pixels"):
        collect_frames(settings(photos, frames=12))


def test_16_bit_grey_is_read_as_it_is_shown(photos: Path) -> None:
    with Image.open(photos / "03.png") as opened:
        grey = np.asarray(opened.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(photos / "03.png")
    found = collect_frames(settings(photos, frames=12, side=150))
    frame = next(frame for frame in found.frames if frame.name == "03.png")
    np.testing.assert_array_equal(frame.pixels, np.repeat(grey[..., None], 3, axis=2))


def test_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calibration"):
        CalibrationSettings(())
    with pytest.raises(InputError, match="No photos"):
        collect_frames(settings(tmp_path))
    with pytest.raises(InputError, match="No such"):
        collect_frames(settings(tmp_path / "absent"))
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(InputError, match="neither"):
        collect_frames(settings(tmp_path / "notes.pdf"))


def test_a_constant_picture_is_refused(photos: Path) -> None:
    Image.new("RGB", (90, 90), (12, 200, 7)).save(photos / "03.png")
    with pytest.raises(InputError, match=r"03\.png shows nothing"):
        collect_frames(settings(photos, frames=12))


def test_a_benchmark_image_is_refused_in_any_file(photos: Path, benchmark_sets: Path) -> None:
    with Image.open(benchmark_sets / "Set5" / "bird.png") as opened:
        image = opened.convert("RGB")
    assert benchmark_name(np.asarray(image)) == "Set5/bird.png"
    image.save(photos / "05.png", compress_level=1)
    with pytest.raises(InputError, match=r"05\.png is Set5/bird\.png, a benchmark"):
        collect_frames(settings(photos, frames=12))


def test_too_few_or_too_small_settings_are_refused(photos: Path) -> None:
    with pytest.raises(UsageError, match="at least 16 pictures: raise --calibration-frames"):
        CalibrationSettings((photos,), frames=8)
    with pytest.raises(UsageError, match="16 pixels"):
        CalibrationSettings((photos,), side=8)
