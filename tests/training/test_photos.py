from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ramedge.errors import InputError
from ramedge.quality.photos import downscale, find_photos
from ramedge.training.photos import Photo, load_photos, validation_pairs
from ramedge.training.sampler import PatchSampler, prepare_ahead


def test_low_resolution_is_pillows_bicubic_of_the_cropped_photo(photo_folder: Path) -> None:
    photos = load_photos(photo_folder, (2, 3), patch=16)
    path = find_photos(photo_folder)[0]
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    cropped = image.crop((0, 0, image.width // 3 * 3, image.height // 3 * 3))
    size = (cropped.width // 3, cropped.height // 3)
    expected = np.asarray(cropped.resize(size, Image.Resampling.BICUBIC))
    held_out = photos.validation[0]
    np.testing.assert_array_equal(held_out.low[3], expected)
    np.testing.assert_array_equal(held_out.high(3), np.asarray(cropped))


def test_training_photos_come_reduced_as_well_and_held_out_ones_do_not(photo_folder: Path) -> None:
    plain = load_photos(photo_folder, (2,), patch=8)
    both = load_photos(photo_folder, (2,), patch=8, reduced=(0.5,))
    assert len(both.validation) == len(plain.validation)
    assert len(both.training) == 2 * len(plain.training)
    assert both.digest == plain.digest
    for own, half in zip(both.training[::2], both.training[1::2], strict=True):
        height, width = own.pixels.shape[:2]
        size = (round(width / 2), round(height / 2))
        expected = Image.fromarray(own.pixels).resize(size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(half.pixels, np.asarray(expected))
        np.testing.assert_array_equal(half.low[2], np.asarray(downscale(expected, 2)[0]))


@pytest.mark.parametrize("reduced", [(0.01,), (0.5, 0.01)])
def test_a_size_too_small_for_any_patch_is_refused(
    photo_folder: Path, reduced: tuple[float, ...]
) -> None:
    with pytest.raises(InputError, match=r"reduced to 0\.01, at least 16×16"):
        load_photos(photo_folder, (2,), patch=8, reduced=reduced)


def test_patches_are_aligned(photo_folder: Path) -> None:
    """Downscaling a drawn HR patch gives the drawn LR patch, away from its borders."""
    photos = load_photos(photo_folder, (2, 4), patch=24)
    sampler = PatchSampler(photos.training, (2, 4), patch=24, batch=3, seed=5)
    scales = set()
    for step in range(6):
        batch = sampler.cut(step)
        scales.add(batch.scale)
        side = 24 * batch.scale
        assert batch.low.shape == (3, 24, 24, 3)
        assert batch.high.shape == (3, side, side, 3)
        for low, high in zip(batch.low, batch.high, strict=True):
            small = np.asarray(downscale(Image.fromarray(high), batch.scale)[0])
            inner = (slice(3, -3), slice(3, -3))
            np.testing.assert_allclose(small[inner].astype(int), low[inner].astype(int), atol=1)
    assert scales == {2, 4}


def test_scales_are_drawn_by_their_shares(photo_folder: Path) -> None:
    photos = load_photos(photo_folder, (2, 3, 4), patch=16)
    sampler = PatchSampler(
        photos.training, (2, 3, 4), patch=16, batch=1, seed=0, shares=(1.0, 2.0, 5.0)
    )
    drawn = [sampler.draw(step).scale for step in range(1600)]
    for scale, expected in ((2, 200), (3, 400), (4, 1000)):
        assert abs(drawn.count(scale) - expected) < 4 * expected**0.5


def test_a_step_is_the_same_whenever_it_is_drawn(photo_folder: Path) -> None:
    photos = load_photos(photo_folder, (2,), patch=16)
    sampler = PatchSampler(photos.training, (2,), patch=16, batch=2, seed=1)
    late = list(prepare_ahead(sampler.cut, 3, 6))
    for batch in late:
        np.testing.assert_array_equal(batch.low, sampler.cut(batch.step).low)
    assert [batch.step for batch in late] == [3, 4, 5]
    assert not np.array_equal(late[0].low, late[1].low)


def test_processes_share_a_batch(photo_folder: Path) -> None:
    photos = load_photos(photo_folder, (2,), patch=16)

    def draw(rank: int, world: int) -> np.ndarray:
        sampler = PatchSampler(photos.training, (2,), 16, 4, seed=1, rank=rank, world=world)
        return sampler.cut(9).low

    whole = draw(0, 1)
    np.testing.assert_array_equal(whole[0::2], draw(0, 2))
    np.testing.assert_array_equal(whole[1::2], draw(1, 2))


def test_of_several_places_that_with_most_detail_is_taken() -> None:
    """A photo that is plain but for a corner: by chance a patch rarely lies there."""
    pixels = np.full((200, 200, 3), 90, np.uint8)
    pixels[:60, :60] = np.random.default_rng(0).integers(0, 256, (60, 60, 3))
    photo = Photo(pixels, {2: np.ascontiguousarray(pixels[::2, ::2])})

    def textured(candidates: int) -> float:
        sampler = PatchSampler([photo], (2,), 10, 4, seed=2, candidates=candidates)
        batches = [sampler.cut(step) for step in range(20)]
        for batch in batches:
            np.testing.assert_array_equal(batch.high.shape, (4, 20, 20, 3))
        return float(np.mean([[patch.std() > 0 for patch in b.low] for b in batches]))

    assert textured(1) < 0.3
    assert textured(64) == 1.0


def test_validation_crops_are_centred_and_aligned(photo_folder: Path) -> None:
    photos = load_photos(photo_folder, (3,), patch=16)
    for low, high in validation_pairs(photos.validation, 3):
        assert high.shape[:2] == (low.shape[0] * 3, low.shape[1] * 3)


def test_small_photos_are_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="at least 96×96"):
        load_photos(tmp_path, (2,), patch=48)


def test_what_is_left_out_or_not_held_out_is_said(photo_folder: Path, tmp_path: Path) -> None:
    photos = sorted(photo_folder.iterdir())
    assert load_photos(photo_folder, (2,), 16).notices == ()
    assert load_photos(photo_folder, (2,), 16).held_out
    (tmp_path / "only.png").write_bytes(photos[0].read_bytes())
    alone = load_photos(tmp_path, (2,), 16)
    assert "none is held out" in alone.notices[0]
    assert not alone.held_out
    Image.new("RGB", (20, 20)).save(tmp_path / "a_small.png")  # the first is held out
    both = load_photos(tmp_path, (2,), 16)
    assert "left out: a_small.png." in both.notices[0]
    assert "not measured" in both.notices[1]


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a photo")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        load_photos(tmp_path, (2,), patch=16)


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_photos_is_named(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match="data"):
        load_photos(folder, (2,), patch=16)


def test_a_photo_smaller_than_the_scale_is_left_out(photo_folder: Path, tmp_path: Path) -> None:
    for path in photo_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (17, 1), "red").save(tmp_path / "line.png")
    found = load_photos(tmp_path, (2, 4), 16)
    assert len(found.training) + len(found.validation) == 2
