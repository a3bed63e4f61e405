from __future__ import annotations

import dataclasses
import json
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from external_data import external
from PIL import Image
from safetensors.torch import save_file
from small_networks import make_network, sharpening_network

from ramedge.errors import (
    CancelledError,
    MissingExtraError,
    OutputError,
    TrainingError,
    UsageError,
    WeightsError,
)
from ramedge.network.config import NetworkConfig
from ramedge.network.weights import load_weights, save_weights
from ramedge.quality.metrics import psnr_y
from ramedge.quality.photos import downscale
from ramedge.training.batches import (
    DeviceBatches,
    HostBatches,
    Patches,
    make_batches,
    to_image,
)
from ramedge.training.distributed import Processes
from ramedge.training.loop import train
from ramedge.training.photos import load_photos
from ramedge.training.progress import Observer
from ramedge.training.recipe import FAST
from ramedge.training.sampler import PatchSampler
from ramedge.training.settings import TrainingSettings
from ramedge.training.teachers import cache, check
from ramedge.training.teachers.group import Teachers, load_teachers
from ramedge.training.teachers.model import Teacher, load_teacher
from ramedge.training.teachers.settings import Distillation
from ramedge.training.teachers.smfanet import SMFANetPlus

CPU = torch.device("cpu")
ALONE = Processes(rank=0, world=1, device=CPU)
SMALL = NetworkConfig(blocks=1, channels=16, reduction=4)
QUICK = dataclasses.replace(FAST, patch=16, batch=2, compile=False, warmup=2, bf16=False)


def image_of(pixels: np.ndarray) -> torch.Tensor:
    return to_image(torch.from_numpy(np.array(pixels)[None]), channels_last=False)


@pytest.fixture(scope="session")
def teacher_files(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Weights that beat bicubic, by scale."""
    folder = tmp_path_factory.mktemp("teachers")
    photos = load_photos(photo_folder, (2, 3), patch=16).training
    files = {}
    for scale in (2, 3):
        pairs = [(image_of(photo.low[scale]), image_of(photo.high(scale))) for photo in photos[:3]]
        files[scale] = folder / f"teacher_x{scale}.safetensors"
        save_weights(sharpening_network(scale, pairs), files[scale])
    return files


@pytest.fixture
def settings(
    photo_folder: Path, teacher_files: dict[int, Path], tmp_path: Path
) -> TrainingSettings:
    return TrainingSettings(
        data=photo_folder,
        output=tmp_path / "run",
        network=SMALL,
        recipe=QUICK,
        steps=8,
        device="cpu",
        validate_every=8,
        checkpoint_every=4,
        distillation=Distillation((teacher_files[2],), cache=tmp_path / "cache"),
    )


def changed(settings: TrainingSettings, **fields: object) -> TrainingSettings:
    """The settings with other fields of their distillation."""
    assert settings.distillation is not None
    return dataclasses.replace(
        settings, distillation=dataclasses.replace(settings.distillation, **fields)
    )


def stop_after(step: int) -> Observer:
    def on_step(progress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    return Observer(on_step=on_step)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_loss_mixes_truth_and_teacher(
    settings: TrainingSettings, tmp_path: Path, weight: float
) -> None:
    """The losses of a network that stands still, computed here from the patches themselves."""
    start = tmp_path / "start.safetensors"
    save_weights(make_network(SMALL), start)
    recipe = dataclasses.replace(
        QUICK, learning_rate=1e-12, rim_every=2, patterns=0.0, ema=0.0, candidates=1
    )
    losses: list[float] = []
    still = dataclasses.replace(
        changed(settings, weight=weight), steps=2, recipe=recipe, start_from=start
    )
    train(still, Observer(on_step=lambda progress: losses.append(progress.loss)))
    network = load_weights(start).network
    teacher = load_teacher(settings.distillation.teachers[0], CPU)
    photos = load_photos(settings.data, (2,), recipe.patch)
    sampler = PatchSampler(photos.training, (2,), recipe.patch, recipe.batch, seed=0)
    expected = 0.0
    for step, batch in make_batches(sampler, CPU, channels_last=False).stream(0, 2):
        inside = slice(4, -4) if step == 1 else slice(None)
        with torch.no_grad():
            output = network(batch.low)
        for target, share in ((batch.high, 1 - weight), (teacher(batch.low, 2), weight)):
            expected += share * (output - target)[..., inside, inside].abs().mean().item()
    assert losses[-1] == pytest.approx(expected / 2, rel=1e-4)


def test_cached_outputs_are_the_teachers_in_8_bits(
    settings: TrainingSettings, teacher_files: dict[int, Path]
) -> None:
    """But for the border of a patch, where the cached ones saw more of the photo."""
    teacher = load_teacher(teacher_files[2], CPU)
    photos = load_photos(settings.data, (2,), 16, reduced=(0.5,)).training
    cached = cache.add_outputs(
        photos,
        Teachers({2: teacher}),
        settings.distillation.cache_folder,
        ALONE,
        lambda done, total: None,
    )
    sampler = PatchSampler(cached, (2,), patch=16, batch=4, seed=0)
    for _, batch in make_batches(sampler, CPU, channels_last=False).stream(0, 3):
        difference = (teacher(batch.low, 2) - batch.teacher_output)[..., 4:-4, 4:-4]
        assert difference.abs().max() < 0.51 / 255


def test_patches_with_patterns_learn_from_the_truth_alone(teacher_files: dict[int, Path]) -> None:
    teachers = Teachers({2: load_teacher(teacher_files[2], CPU)})
    low, high = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    target = teachers.target(Patches(2, low, high, patterned=(1,)))
    assert torch.equal(target[1], high[1])
    assert torch.equal(target[0], teachers(low, 2)[0])
    assert not torch.allclose(target[0], high[0], atol=0.1)


@pytest.mark.parametrize("outputs", ["patch", "cached"])
def test_a_stopped_and_resumed_run_ends_as_an_uninterrupted_one(
    settings: TrainingSettings, teacher_files: dict[int, Path], tmp_path: Path, outputs: str
) -> None:
    base = dataclasses.replace(
        changed(settings, outputs=outputs, teachers=tuple(teacher_files.values())),
        network=dataclasses.replace(SMALL, scales=(2, 3)),
    )
    whole = train(dataclasses.replace(base, output=tmp_path / "whole"))
    with pytest.raises(CancelledError, match="step 4 of 8"):
        train(base, stop_after(3))
    resumed = train(dataclasses.replace(base, resume=True))
    one, two = (load_weights(run.weights).network.state_dict() for run in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_was_learned_from_is_recorded(
    settings: TrainingSettings, teacher_files: dict[int, Path]
) -> None:
    result = train(changed(settings, license="CC0-1.0", weight=0.75))
    log = json.loads((settings.output / "run.json").read_text())
    for recorded in (load_weights(result.weights).training, log["settings"]):
        teacher = load_teacher(teacher_files[2], CPU).card
        assert recorded["distillation"] == {
            "weight": 0.75,
            "outputs": "patch",
            "teachers": [
                {
                    "file": "teacher_x2.safetensors",
                    "sha256": teacher.sha256,
                    "architecture": "srram_r1c32",
                    "scales": [2],
                    "license": "CC0-1.0",
                }
            ],
        }


def test_resuming_with_another_teacher_is_refused(
    settings: TrainingSettings, teacher_files: dict[int, Path], tmp_path: Path
) -> None:
    train(settings)
    longer = dataclasses.replace(settings, resume=True, steps=9)
    other = tmp_path / "other.safetensors"
    network = load_weights(teacher_files[2]).network
    with torch.no_grad():
        network.body.bias.add_(1e-3)
    save_weights(network, other)
    with pytest.raises(TrainingError, match="started with other teachers: use the same"):
        train(changed(longer, teachers=(other,)))
    with pytest.raises(TrainingError, match=r"started with weight 0\.5, not 0\.75"):
        train(changed(longer, weight=0.75))
    with pytest.raises(TrainingError, match="started with distillation given, not none"):
        train(dataclasses.replace(longer, distillation=None))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(teacher_files[2].read_bytes())
    assert train(changed(longer, teachers=(moved,), license="CC0-1.0")).step == 9


def test_a_teacher_cannot_join_a_run_later(settings: TrainingSettings) -> None:
    train(dataclasses.replace(settings, distillation=None))
    with pytest.raises(TrainingError, match="started with distillation none, not given"):
        train(dataclasses.replace(settings, resume=True, steps=9))


@pytest.mark.parametrize(
    ("scales", "teachers", "message"),
    [
        ((2,), (3,), r"teacher \S+teacher_x3\.safetensors is for ×3, not for ×2\."),
        ((2, 3), (2,), "no teacher for ×3: give --teacher once for each scale"),
        ((2, 3), (2, 3, "copy"), r"Both \S+ and \S+copy\.safetensors are teachers for ×2"),
    ],
)
def test_each_scale_has_one_teacher(
    teacher_files: dict[int, Path], tmp_path: Path, scales, teachers, message: str
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(teacher_files[2].read_bytes())
    files = tuple({**teacher_files, "copy": copy}[each] for each in teachers)
    with pytest.raises(UsageError, match=message):
        load_teachers(Distillation(files), scales, CPU)


def test_a_teacher_of_several_scales_serves_them_all(multi_weights: Path) -> None:
    teachers = load_teachers(Distillation((multi_weights,)), (2, 4), CPU)
    assert list(teachers.by_scale) == [2, 4]
    assert len(teachers.as_list()) == 1
    expected = load_weights(multi_weights).network(torch.full((1, 3, 20, 16), 0.5), 4)
    found = teachers(torch.full((1, 3, 20, 16), 0.5), 4)
    torch.testing.assert_close(found, expected.detach().clamp(0, 1), atol=1e-4, rtol=0)


def swap_colors(network) -> None:
    network.tails["x2"].reconstruction.weight.copy_(
        network.tails["x2"].reconstruction.weight.flip(0)
    )


def other_range(network) -> None:
    """The same for images in [0, 255]: its output, read as [0, 1], is white nearly everywhere."""
    network.tails["x2"].reconstruction.weight.mul_(255.0)


@pytest.mark.parametrize("change", [swap_colors, other_range])
def test_a_teacher_that_does_not_beat_bicubic_is_refused_before_the_training(
    settings: TrainingSettings,
    teacher_files: dict[int, Path],
    tmp_path: Path,
    change: Callable[[object], None],
) -> None:
    network = load_weights(teacher_files[2]).network
    with torch.no_grad():
        change(network)
    path = tmp_path / "wrong.safetensors"
    save_weights(network, path)
    steps: list[int] = []
    with pytest.raises(UsageError, match=r"wrong\.safetensors does not beat bicubic at ×2"):
        train(
            changed(settings, teachers=(path,)),
            Observer(on_step=lambda progress: steps.append(progress.step)),
        )
    assert not steps
    assert not settings.output.exists()


def test_a_teacher_for_bgr_is_refused(teacher_files: dict[int, Path]) -> None:
    teacher = load_teacher(teacher_files[2], CPU)
    check.check_trial(teacher, 2, check.Trial(teacher=30.0, swapped=30.1, bicubic=29.0))
    with pytest.raises(UsageError, match="expects BGR"):
        check.check_trial(teacher, 2, check.Trial(teacher=30.0, swapped=31.0, bicubic=29.0))


def test_the_trial_measures_as_numpy_does(photo_folder: Path, teacher_files: dict[int, Path]):
    """Against Pillow and numpy on the same crops."""
    photos = load_photos(photo_folder, (2,), patch=16).training[:2]
    trial = check.try_teacher(load_teacher(teacher_files[2], CPU), photos, 2, CPU)
    assert trial.teacher > trial.bicubic + 0.3
    errors = []
    for photo in photos:
        low, high = check.centre_crop(photo, 2)
        assert low.shape[:2] == (96, 96)
        enlarged = Image.fromarray(low).resize((192, 192), Image.Resampling.BICUBIC)
        errors.append(((np.asarray(enlarged, float) - high) / 255) ** 2)
    assert trial.bicubic == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-3)


def test_a_network_that_makes_another_shape_is_refused(teacher_files: dict[int, Path]) -> None:
    card = load_teacher(teacher_files[2], CPU).card
    grey = Teacher(card, teacher_files[2], {2: lambda low: low[:, :1]}, compiles=False)
    with pytest.raises(UsageError, match=r"makes \(1, 1, 8, 8\) where \(1, 3, 16, 16\) is needed"):
        grey(torch.zeros(1, 3, 8, 8), 2)


def test_a_teacher_runs_in_fp32_without_gradients(teacher_files: dict[int, Path]) -> None:
    teacher = load_teacher(teacher_files[2], CPU)
    low = torch.rand(1, 3, 12, 12)
    plain = teacher(low, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(low, 2), plain)
    assert not plain.requires_grad
    assert plain.min() >= 0.0
    assert plain.max() <= 1.0


class TestCache:
    def count(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        calls: list[int] = []
        real = cache.enlarge

        def counted(teacher, low, scale, device):
            calls.append(scale)
            return real(teacher, low, scale, device)

        monkeypatch.setattr(cache, "enlarge", counted)
        return calls

    def test_tiles_are_the_whole_image(
        self, teacher_files: dict[int, Path], photo_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A teacher that sees its neighbours only: tiles with an overlap change nothing."""
        teacher = load_teacher(teacher_files[2], CPU)
        low = load_photos(photo_folder, (2,), patch=16).training[0].low[2]
        whole = teacher(image_of(low), 2)[0].mul(255).round().permute(1, 2, 0).numpy()
        monkeypatch.setattr(cache, "TILE", 50)
        monkeypatch.setattr(cache, "OVERLAP", 6)
        tiled = cache.enlarge(teacher, low, 2, CPU)
        assert tiled.dtype == np.uint8
        # Rounding where the whole image and a tile differ in the last bit.
        assert np.abs(tiled - whole).max() <= 1
        assert np.mean(tiled != whole) < 1e-3

    @pytest.mark.parametrize(("size", "starts"), [(10, [0]), (128, [0]), (300, [0, 128, 256])])
    def test_tiles_cover_a_side_once(self, size: int, starts: list[int]) -> None:
        kept: list[int] = []
        for start in starts:
            read, inner = cache.tile_span(start, size)
            assert read.start >= 0
            assert read.stop <= size
            assert read.stop - read.start == min(size, cache.TILE + 2 * cache.OVERLAP)
            kept.extend(range(read.start + inner.start, read.start + inner.stop))
        assert kept == list(range(size))

    def test_outputs_are_computed_once(
        self,
        teacher_files: dict[int, Path],
        photo_folder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        photos = load_photos(photo_folder, (2, 3), patch=16, reduced=(0.5,)).training
        teachers = load_teachers(Distillation(tuple(teacher_files.values())), (2, 3), CPU)
        calls = self.count(monkeypatch)
        seen: list[tuple[int, int]] = []

        def add(stop_after: int | None = None):
            def on_output(done: int, total: int) -> None:
                seen.append((done, total))
                if done == stop_after:
                    raise KeyboardInterrupt

            return cache.add_outputs(photos, teachers, tmp_path / "cache", ALONE, on_output)

        total = 2 * len(photos)
        with pytest.raises(KeyboardInterrupt):
            add(stop_after=3)
        assert len(calls) == 3
        with_outputs = add()
        assert len(calls) == total
        assert seen[-1] == (total, total)
        add()
        assert len(calls) == total
        for photo in with_outputs:
            for scale in (2, 3):
                assert photo.teacher_outputs[scale].shape == photo.high(scale).shape
                assert not photo.teacher_outputs[scale].flags.writeable
        assert not list((tmp_path / "cache").glob("*.partial"))

    def test_processes_share_the_work(
        self, teacher_files: dict[int, Path], photo_folder: Path, tmp_path: Path, monkeypatch
    ) -> None:
        photos = load_photos(photo_folder, (2,), patch=16, reduced=(0.5, 0.75)).training
        teachers = load_teachers(Distillation((teacher_files[2],)), (2,), CPU)
        calls = self.count(monkeypatch)
        both = threading.Barrier(2, timeout=60)
        monkeypatch.setattr(Processes, "barrier", lambda self: both.wait())
        shares: dict[int, int] = {}

        def run(rank: int):
            def count(done: int, total: int) -> None:
                shares[rank] = total

            group = Processes(rank=rank, world=2, device=CPU)
            return cache.add_outputs(photos, teachers, tmp_path, group, count)

        with ThreadPoolExecutor(max_workers=2) as pool:
            one, two = pool.map(run, (0, 1))
        assert sum(shares.values()) == len(calls) == len(photos)
        assert shares[1] == len(photos) // 2
        for first, second in zip(one, two, strict=True):
            assert np.array_equal(first.teacher_outputs[2], second.teacher_outputs[2])

    def test_other_input_has_outputs_of_its_own(
        self, teacher_files: dict[int, Path], small_weights: Path, tmp_path: Path
    ) -> None:
        low = np.zeros((16, 16, 3), np.uint8)
        one, two = (load_teacher(path, CPU) for path in (teacher_files[2], small_weights))
        names = {
            cache.output_path(tmp_path, low, one, 2),
            cache.output_path(tmp_path, low, two, 2),
            cache.output_path(tmp_path, low, one, 3),
            cache.output_path(tmp_path, low.reshape(8, 32, 3), one, 2),
            cache.output_path(tmp_path, low + 1, one, 2),
        }
        assert len(names) == 5

    def test_a_disk_that_is_too_small_is_said_before_the_work(
        self, teacher_files: dict[int, Path], photo_folder: Path, tmp_path: Path, monkeypatch
    ) -> None:
        photos = load_photos(photo_folder, (2,), patch=16).training
        teachers = load_teachers(Distillation((teacher_files[2],)), (2,), CPU)
        calls = self.count(monkeypatch)
        usage = cache.shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OutputError, match=r"GiB.*choose another --teacher-cache"):
            cache.add_outputs(photos, teachers, tmp_path / "a" / "b", ALONE, lambda *_: None)
        assert not calls

    def test_a_damaged_output_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.npy").write_bytes(b"damaged")
        with pytest.raises(OutputError, match=r"x\.npy: delete it"):
            cache.read_output(tmp_path / "x.npy")


@pytest.mark.parametrize("on_device", [False, True])
def test_cached_outputs_are_cut_like_the_truth(photo_folder: Path, on_device: bool) -> None:
    """With the truth itself as the teacher's output, every patch has it twice."""
    photos = [
        dataclasses.replace(photo, teacher_outputs={scale: photo.high(scale) for scale in (2, 3)})
        for photo in load_photos(photo_folder, (2, 3), patch=16).training
    ]
    sampler = PatchSampler(photos, (2, 3), patch=16, batch=6, seed=1)
    kind = DeviceBatches if on_device else HostBatches
    for _, batch in kind(sampler, CPU, channels_last=False).stream(0, 6):
        assert torch.equal(batch.teacher_output, batch.high)


def test_smfanet_plus_is_read_from_its_state(tmp_path: Path) -> None:
    network = SMFANetPlus(width=16, blocks=2, scale=3).eval()
    path = tmp_path / "smfanet.pth"
    torch.save({"params": network.state_dict()}, path)
    teacher = load_teacher(path, CPU, "Apache-2.0")
    assert teacher.card.architecture == "SMFANet+"
    assert teacher.card.scales == (3,)
    assert teacher.card.license == "Apache-2.0"
    low = torch.rand(2, 3, 17, 24)
    with torch.no_grad():
        torch.testing.assert_close(teacher(low, 3), network(low).clamp(0, 1))
    state = network.state_dict()
    del state["feats.1.pcfn.conv_1.bias"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"does not fit SMFANet\+"):
        load_teacher(path, CPU)


def test_smfanet_plus_has_the_published_quality(benchmark_sets: Path) -> None:
    """Its paper: 32.51 dB on Set5 ×4."""
    path = external("data/teachers/SMFANet_plus_DF2K_100w_x4SR.pth")
    teacher = load_teacher(path, CPU)
    values = []
    for name in sorted((benchmark_sets / "Set5").glob("*.png")):
        low, high = downscale(Image.open(name).convert("RGB"), 4)
        output = cache.to_pixels(teacher(image_of(low), 4)[0])
        values.append(psnr_y(output, np.asarray(high), 4))
    assert len(values) == 5
    assert sum(values) / 5 == pytest.approx(32.51, abs=0.01)


def test_the_licence_is_read_from_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    state = SMFANetPlus(width=16, blocks=1, scale=2).state_dict()
    save_file(state, path, metadata={"modelspec.license": "MIT"})
    assert load_teacher(path, CPU).card.license == "MIT"
    assert load_teacher(path, CPU, "CC0-1.0").card.license == "CC0-1.0"


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content", [b"", b"text", pickle.dumps({"params": Harmful()}), pickle.dumps([1, 2])]
)
def test_what_is_no_state_dict_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "teacher.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"teacher\.pth is not a state dict"):
        load_teacher(path, CPU)
    assert not Path("harm").exists()


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such teacher"):
        load_teacher(tmp_path / "none.pth", CPU)


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "unknown.pth"
    torch.save({"layer.weight": torch.zeros(3, 3)}, path)
    return path


def test_without_spandrel_the_extra_is_named(
    unknown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingExtraError, match=r"needs spandrel.*ramedge\[distill\]"):
        load_teacher(unknown, CPU)


def test_a_torchvision_of_another_torch_is_said(
    unknown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spandrel.py").write_text('raise RuntimeError("operator nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    with pytest.raises(TrainingError, match=r"nms does not exist\. Install the torchvision that"):
        load_teacher(unknown, CPU)


def test_cached_outputs_do_not_hide_that_nothing_is_held_out(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    path = next(settings.data.iterdir())
    (folder / path.name).write_bytes(path.read_bytes())
    cached = dataclasses.replace(changed(settings, outputs="cached"), data=folder, steps=1)
    assert not train(cached).held_out


class TestSpandrel:
    @pytest.fixture(autouse=True)
    def _needs_spandrel(self) -> None:
        pytest.importorskip("spandrel")

    def save(self, path: Path, **settings: object) -> Path:
        """A tiny network of an architecture that spandrel knows."""
        from spandrel.architectures.Compact import Compact

        network = Compact(num_feat=8, num_conv=1, **settings)
        torch.save({"params_ema": network.state_dict()}, path)
        return path

    def test_its_networks_are_teachers(self, tmp_path: Path) -> None:
        teacher = load_teacher(self.save(tmp_path / "compact.pth", upscale=3), CPU)
        assert teacher.card.architecture == "RealESRGAN Compact"
        assert teacher.card.scales == (3,)
        output = teacher(torch.rand(2, 3, 10, 12), 3)
        assert not output.is_inference()

    def test_those_for_grey_or_without_enlargement_are_refused(self, tmp_path: Path) -> None:
        grey = self.save(tmp_path / "grey.pth", upscale=2, num_in_ch=1, num_out_ch=1)
        with pytest.raises((UsageError, WeightsError), match=r"grey\.pth holds"):
            load_teacher(grey, CPU)
        same = self.save(tmp_path / "same.pth", upscale=1)
        with pytest.raises(UsageError, match="does not upscale"):
            load_teacher(same, CPU)

    def test_unknown_networks_are_refused(self, unknown: Path) -> None:
        with pytest.raises(WeightsError, match=r"holds no network that spandrel \S+ knows"):
            load_teacher(unknown, CPU)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teachers": ()}, "needs a --teacher"),
        ({"teachers": (Path("a"), Path("a"))}, "once"),
        ({"weight": 0.0}, r"\(0, 1\]"),
        ({"weight": float("nan")}, r"\(0, 1\]"),
        ({"weight": 1.5}, r"\(0, 1\]"),
    ],
)
def test_impossible_settings(fields: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(Distillation((Path("teacher.pth"),)), **fields)


def test_the_command_line(
    ramedge, photo_folder: Path, teacher_files: dict[int, Path], tmp_path: Path
) -> None:
    options = (
        "train", "--data", photo_folder, "--steps", 1, "--blocks", 1, "--channels", 16,
        "--patch", 16, "--batch", 2, "--recipe", "paper", "--device", "cpu", "-o", tmp_path / "run",
    )  # fmt: skip
    alone = ramedge(*options, "--teacher-weight", 0.3)
    assert alone.code == 2
    assert "need a --teacher" in alone.error
    teacher = ("--teacher", teacher_files[2])
    useless = ramedge(*options, *teacher, "--teacher-cache", tmp_path)
    assert "needs --teacher-outputs cached" in useless.error
    cached = ("--teacher-outputs", "cached", "--teacher-cache", tmp_path / "cache")
    ended = ramedge(*options, *teacher, *cached, "--teacher-weight", 0.3)
    assert ended.code == 0, ended.err
    assert "teacher outputs: " in ended.err
    recorded = load_weights(tmp_path / "run" / "weights.safetensors").training["distillation"]
    assert (recorded["weight"], recorded["outputs"]) == (0.3, "cached")
