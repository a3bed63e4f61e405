from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ramedge.errors import CancelledError, InputError, OutputError, TrainingError, UsageError
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.training.folder import LOCK_NAME
from ramedge.training.loop import train
from ramedge.training.memory import least_bytes
from ramedge.training.photos import load_photos
from ramedge.training.progress import Observer
from ramedge.training.recipe import FAST, PAPER
from ramedge.training.run_files import CHECKPOINT_NAME
from ramedge.training.sampler import PatchSampler
from ramedge.training.settings import TrainingSettings
from ramedge.training.step import TrainingStep

SMALL = NetworkConfig(blocks=1, channels=16, reduction=4)
QUICK = dataclasses.replace(FAST, patch=16, batch=2, compile=False, warmup=2, bf16=False)


@pytest.fixture
def settings(photo_folder: Path, tmp_path: Path) -> TrainingSettings:
    return TrainingSettings(
        data=photo_folder,
        output=tmp_path / "run",
        network=SMALL,
        recipe=QUICK,
        steps=12,
        device="cpu",
        validate_every=6,
        checkpoint_every=4,
    )


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path).network.state_dict()


def assert_same(first: Path, second: Path) -> None:
    one, two = state(first), state(second)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def stop_after(step: int) -> Observer:
    def on_step(progress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    return Observer(on_step=on_step)


def test_training_lowers_the_loss_and_stores_its_settings(settings: TrainingSettings) -> None:
    losses: list[float] = []
    longer = dataclasses.replace(settings, steps=60)
    result = train(longer, Observer(on_step=lambda p: losses.append(p.loss)))
    assert losses[-1] < losses[10]
    assert result.step == 60
    stored = load_weights(result.weights)
    assert stored.training["recipe"]["name"] == "fast"
    assert stored.training["step"] == 60
    log = json.loads((settings.output / "run.json").read_text())
    assert [entry["step"] for entry in log["history"]] == list(range(6, 61, 6))
    assert 0 < log["throughput"]["flops"] < log["throughput"]["roofline"]
    assert {path.name for path in settings.output.iterdir()} == {
        "checkpoint.pt", "weights.safetensors", "run.json", "curves.png", "validation_x2.png",
    }  # fmt: skip


@pytest.mark.parametrize("recipe", [QUICK, dataclasses.replace(PAPER, patch=16, batch=2)])
@pytest.mark.parametrize("scales", [(2,), (2, 3, 4)])
def test_a_stopped_and_resumed_run_ends_as_an_uninterrupted_one(
    settings: TrainingSettings, tmp_path: Path, recipe, scales: tuple[int, ...]
) -> None:
    network = dataclasses.replace(SMALL, scales=scales)
    base = dataclasses.replace(settings, recipe=recipe, network=network)
    whole = train(dataclasses.replace(base, output=tmp_path / "whole"))
    with pytest.raises(CancelledError, match="step 7 of 12"):
        train(base, stop_after(6))
    resumed = train(dataclasses.replace(base, resume=True))
    assert_same(whole.weights, resumed.weights)
    assert whole.psnr == resumed.psnr
    logs = [json.loads((run.weights.parent / "run.json").read_text()) for run in (whole, resumed)]
    assert logs[0]["history"] == logs[1]["history"]


def test_the_same_settings_give_the_same_weights(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    first = train(settings)
    second = train(dataclasses.replace(settings, output=tmp_path / "again"))
    assert_same(first.weights, second.weights)


def test_a_run_is_not_overwritten(settings: TrainingSettings) -> None:
    train(settings)
    with pytest.raises(TrainingError, match="--resume"):
        train(settings)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 3}, "seed 0, not 3"),
        ({"recipe": dataclasses.replace(PAPER, patch=16, batch=2)}, "recipe fast, not paper"),
        ({"recipe": dataclasses.replace(QUICK, batch=4)}, "batch 2, not 4"),
        ({"recipe": dataclasses.replace(QUICK, reduced=(0.5,))}, "reduced none, not 0.5"),
        ({"network": dataclasses.replace(SMALL, blocks=2)}, "blocks 1, not 2"),
        ({"network": dataclasses.replace(SMALL, scales=(2, 4))}, "scales 2, not 2,4"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    settings: TrainingSettings, change: dict, difference: str
) -> None:
    train(settings)
    with pytest.raises(TrainingError, match=f"started with {difference}: use the same"):
        train(dataclasses.replace(settings, resume=True, **change))


def test_resuming_a_finished_run_says_so(settings: TrainingSettings) -> None:
    train(settings)
    with pytest.raises(TrainingError, match="step 12 already"):
        train(dataclasses.replace(settings, resume=True, steps=6))


def test_resuming_nothing_starts_anew_and_says_so(settings: TrainingSettings) -> None:
    result = train(dataclasses.replace(settings, resume=True))
    assert "starting at step 0" in result.notices[0]


def test_a_damaged_checkpoint_is_named(settings: TrainingSettings) -> None:
    train(settings)
    (settings.output / CHECKPOINT_NAME).write_bytes(b"PK damaged")
    with pytest.raises(TrainingError, match="Cannot read the checkpoint"):
        train(dataclasses.replace(settings, resume=True))


def test_a_checkpoint_whose_bytes_changed_is_refused(settings: TrainingSettings) -> None:
    """torch itself loads it: the weights are others, without a word."""
    train(settings)
    path = settings.output / CHECKPOINT_NAME
    network = torch.load(path, weights_only=True)["network"]
    weight = network["blocks.0.conv1.weight"].numpy().tobytes()
    data = bytearray(path.read_bytes())
    at = bytes(data).index(weight)
    data[at : at + 400] = bytes(255 - byte for byte in data[at : at + 400])
    path.write_bytes(data)
    assert not torch.equal(
        torch.load(path, weights_only=True)["network"]["blocks.0.conv1.weight"],
        network["blocks.0.conv1.weight"],
    )
    with pytest.raises(TrainingError, match="it is damaged"):
        train(dataclasses.replace(settings, resume=True))


def test_a_checkpoint_of_a_version_without_losses_is_resumed(settings: TrainingSettings) -> None:
    train(settings)
    path = settings.output / CHECKPOINT_NAME
    document = torch.load(path, weights_only=True)
    del document["losses"]
    torch.save(document, path)
    assert train(dataclasses.replace(settings, resume=True, steps=14)).step == 14


def test_one_folder_takes_one_training_at_a_time(settings: TrainingSettings) -> None:
    def begin_another(progress) -> None:
        if progress.step == 1:
            with pytest.raises(TrainingError, match="Another training runs"):
                train(settings)

    assert train(settings, Observer(on_step=begin_another)).step == 12
    assert not (settings.output / LOCK_NAME).exists()


def test_what_a_killed_run_left_unfinished_is_removed(settings: TrainingSettings) -> None:
    train(settings)
    left = settings.output / "weights.safetensors.123.partial"
    left.write_bytes(b"half")
    other = settings.output / "film.mp4.123.partial"
    other.write_bytes(b"being written by someone else")
    train(dataclasses.replace(settings, resume=True, steps=13))
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("folder", [".", "runs/x2"])
def test_a_run_among_the_photos_is_refused(settings: TrainingSettings, folder: str) -> None:
    with pytest.raises(UsageError, match="lies in the folder of photos"):
        dataclasses.replace(settings, output=settings.data / folder)


def test_a_folder_that_cannot_be_made_is_said_before_the_photos_are_read(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    seen: list[int] = []
    with pytest.raises(OutputError, match="another folder with -o"):
        train(
            dataclasses.replace(settings, output=tmp_path / "file" / "run"),
            Observer(on_photo=lambda done, total: seen.append(done)),
        )
    assert not seen


def test_folders_made_for_a_run_that_does_not_start_are_removed(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        train(
            dataclasses.replace(
                settings, data=tmp_path / "none", output=tmp_path / "runs" / "deep" / "x2"
            )
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("change", [{"batch": 10**8}, {"patch": 10**7}])
def test_what_cannot_fit_into_memory_is_refused_before_it_starts(
    settings: TrainingSettings, change: dict
) -> None:
    recipe = dataclasses.replace(settings.recipe, **change)
    with pytest.raises(UsageError, match=r"GiB.*lower --batch"):
        train(dataclasses.replace(settings, recipe=recipe))
    wide = dataclasses.replace(SMALL, channels=10**8)
    with pytest.raises(UsageError, match=r"GiB.*--channels"):
        train(dataclasses.replace(settings, network=wide))
    assert not settings.output.exists()


def test_the_estimate_of_memory_is_below_what_a_step_keeps() -> None:
    """Counted by autograd: every tensor that the backward pass of the blocks holds."""
    network = NetworkConfig(blocks=2, channels=16, reduction=4)
    recipe = dataclasses.replace(PAPER, patch=16, batch=3)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = SRRAM(network)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.zeros(3, 3, 16, 16))
    weights = sum(p.nbytes for p in model.parameters())
    assert weights < least_bytes(network, recipe) < 3 * weights + sum(kept.values())
    del output


def test_nan_stops_the_run_and_writes_nothing_of_it(settings: TrainingSettings) -> None:
    wild = dataclasses.replace(QUICK, learning_rate=1e30, warmup=0)
    with pytest.raises(TrainingError, match=r"NaN or infinite .* Use a lower --learning-rate"):
        train(dataclasses.replace(settings, recipe=wild, steps=100, checkpoint_every=50))
    # It happened before the first checkpoint: only pictures are there.
    left = {path.name for path in settings.output.glob("*")}
    assert not left & {CHECKPOINT_NAME, "weights.safetensors"}


def test_nan_later_keeps_the_last_checkpoint(
    settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingStep.__call__

    def poisoned(training_step, step, batch):
        loss = real(training_step, step, batch)
        return loss * float("nan") if step >= 6 else loss

    monkeypatch.setattr(TrainingStep, "__call__", poisoned)
    with pytest.raises(TrainingError, match=r"NaN or infinite .* --start-from \S*weights"):
        train(settings)
    assert torch.load(settings.output / CHECKPOINT_NAME, weights_only=True)["step"] == 4
    monkeypatch.undo()
    assert train(dataclasses.replace(settings, resume=True)).step == 12


def test_a_killed_process_loses_at_most_the_steps_since_the_checkpoint(
    settings: TrainingSettings, photo_folder: Path, tmp_path: Path
) -> None:
    """kill -9 at a random moment: what is on disk can be resumed."""
    folder = tmp_path / "killed"
    command = [
        sys.executable, "-c",
        "import dataclasses, sys; from pathlib import Path\n"
        "from ramedge import TrainingSettings, train; from ramedge.training.recipe import FAST\n"
        "from ramedge.network.config import NetworkConfig\n"
        "train(TrainingSettings(data=Path(sys.argv[1]), output=Path(sys.argv[2]),\n"
        "  network=NetworkConfig(blocks=1, channels=16, reduction=4),\n"
        "  recipe=dataclasses.replace(FAST, patch=16, batch=2, compile=False, warmup=2, "
        "bf16=False),\n"
        "  steps=100000, device='cpu', checkpoint_every=1, validate_every=10**6))\n",
        str(photo_folder), str(folder),
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 120
        while not (folder / CHECKPOINT_NAME).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
    checkpoint = torch.load(folder / CHECKPOINT_NAME, weights_only=True)
    more = dataclasses.replace(
        settings, output=folder, resume=True, steps=checkpoint["step"] + 2,
        validate_every=10**6,
    )  # fmt: skip
    assert train(more).step == checkpoint["step"] + 2


@pytest.mark.parametrize("name", ["cuda:7", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_refused(settings: TrainingSettings, name: str) -> None:
    with pytest.raises(UsageError, match="not available"):
        train(dataclasses.replace(settings, device=name))


def test_the_rim_of_patches_counts_in_one_step_of_so_many(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    """The losses of a network that stands still, against those of its own layers."""
    start = train(dataclasses.replace(settings, steps=1)).weights
    recipe = dataclasses.replace(QUICK, learning_rate=1e-12, rim_every=2, patterns=0.0, ema=0.0)
    losses: list[float] = []
    still = dataclasses.replace(
        settings, output=tmp_path / "still", steps=3, recipe=recipe, start_from=start
    )
    train(still, Observer(on_step=lambda progress: losses.append(progress.loss)))
    network = load_weights(start).network
    photos = load_photos(settings.data, (2,), recipe.patch)
    sampler = PatchSampler(
        photos.training, (2,), recipe.patch, recipe.batch, seed=0, candidates=recipe.candidates
    )
    expected = []
    for step, side in ((0, slice(None)), (1, slice(4, -4)), (2, slice(None))):
        batch = sampler.cut(step)
        low, high = (
            torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 for pixels in (batch.low, batch.high)
        )
        with torch.no_grad():
            expected.append(float((network(low) - high)[..., side, side].abs().mean()))
    assert losses[-1] == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_training_starts_from_given_weights(settings: TrainingSettings, tmp_path: Path) -> None:
    first = train(settings)
    still = dataclasses.replace(QUICK, learning_rate=1e-12, ema=0.0)
    more = dataclasses.replace(
        settings,
        output=tmp_path / "more",
        steps=1,
        recipe=still,
        network=dataclasses.replace(SMALL, scales=(2, 3)),
        start_from=first.weights,
    )
    one, two = state(first.weights), state(train(more).weights)
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-9, rtol=0)
    assert any(name.startswith("tails.x3") for name in two)


def test_weights_of_another_network_are_no_start(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    first = train(settings)
    other = dataclasses.replace(
        settings,
        output=tmp_path / "other",
        network=dataclasses.replace(SMALL, blocks=2),
        start_from=first.weights,
    )
    with pytest.raises(TrainingError, match="does not fit srram_r2c16"):
        train(other)


def test_steps_must_be_positive(settings: TrainingSettings) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        dataclasses.replace(settings, steps=0)


@pytest.mark.slow
def test_two_processes_train_as_one(
    settings: TrainingSettings, photo_folder: Path, tmp_path: Path
) -> None:
    """DDP over gloo: the averaged gradient of two halves is the gradient of the whole batch."""
    options = [
        "train", "--data", str(photo_folder), "--steps", "3", "--blocks", "1", "--recipe", "paper",
        "--patch", "16", "--batch", "4", "--scales", "2,3", "--device", "cpu",
    ]  # fmt: skip
    single, double = tmp_path / "single", tmp_path / "double"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(command: list[str]) -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)

    run([sys.executable, "-m", "ramedge", *options, "-o", str(single)])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run([*launcher, "-m", "ramedge", *options, "-o", str(double)])
    one, two = state(single / "weights.safetensors"), state(double / "weights.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-6, rtol=1e-4)
