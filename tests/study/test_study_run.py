from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from ramedge.errors import CancelledError, InputError, TrainingError, UsageError
from ramedge.network.config import ATTENTION_NAMES
from ramedge.network.srram import SRRAM
from ramedge.network.weights import load_weights
from ramedge.quality.evaluation import evaluate
from ramedge.study import run
from ramedge.study.result import Study
from ramedge.study.run import StudyObserver, run_study
from ramedge.study.settings import StudySettings
from ramedge.training.recipe import PAPER
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler

QUICK = dataclasses.replace(PAPER, patch=16, batch=1)


def settings_for(data: Path, output: Path, **changes: object) -> StudySettings:
    quick = StudySettings(
        data=data, output=output, recipe=QUICK, steps=3, blocks=1, channels=16,
        sets=(data,), device="cpu",
    )  # fmt: skip
    return dataclasses.replace(quick, **changes)


@pytest.fixture(scope="module")
def whole(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that ran through."""
    return run_study(settings_for(photo_folder, tmp_path_factory.mktemp("study") / "whole"))


@pytest.fixture
def copied(whole: Study, tmp_path: Path) -> StudySettings:
    """The same, resumed, in a folder that a test may change."""
    shutil.copytree(whole.settings.output, tmp_path / "copy")
    return dataclasses.replace(whole.settings, output=tmp_path / "copy", resume=True)


def document(settings: StudySettings) -> dict:
    return json.loads((settings.output / "study.json").read_text(encoding="utf-8"))


def untrained(monkeypatch: pytest.MonkeyPatch, allowed: set[str]) -> list[str]:
    """Fail on the training of another variant than the allowed ones."""
    trained: list[str] = []
    real = run.train

    def guarded(settings, observer):
        trained.append(settings.network.attention)
        assert trained[-1] in allowed
        return real(settings, observer)

    monkeypatch.setattr(run, "train", guarded)
    return trained


def test_every_variant_is_trained_and_measured(whole: Study) -> None:
    assert whole.complete
    assert [row.attention for row in whole.rows] == list(ATTENTION_NAMES)
    for row in whole.rows:
        config = whole.settings.network(row.attention)
        assert row.parameters == SRRAM(config).parameter_count()
        stored = load_weights(whole.settings.output / row.weights)
        assert stored.config == config
        assert stored.digest == row.digest
        assert stored.training["seed"] == 0
        assert row.held_out is not None
        assert [score.images for score in row.sets] == [2]


def test_the_scores_are_those_of_eval(whole: Study, photo_folder: Path) -> None:
    row = whole.row("ram")
    assert row is not None
    weights = whole.settings.output / row.weights
    with Upscaler(RuntimeSettings(runtime="torch", precision="fp32", model=weights)) as upscaler:
        expected = evaluate(photo_folder, upscaler).mean
    assert row.sets[0].psnr == expected.psnr
    assert row.sets[0].ssim == expected.ssim
    assert row.sets[0].bicubic_psnr == expected.bicubic_psnr


def test_one_network_under_two_names_ends_alike(whole: Study) -> None:
    """The paper: CSAR only with CA is RCAB."""
    folder = whole.settings.output
    one, two = (
        load_weights(folder / name / "weights.safetensors").network.state_dict()
        for name in ("rcab", "csar-ca")
    )
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_the_results_say_how_they_were_made(whole: Study) -> None:
    found = document(whole.settings)
    assert found["complete"] is True
    assert found["settings"]["steps"] == 3
    assert found["settings"]["recipe"]["patch"] == 16
    assert found["machine"]["cores"] >= 1
    assert found["photos"]["training"] + found["photos"]["validation"] == 2
    assert len(found["rows"]) == 11


def test_a_finished_study_is_neither_trained_nor_measured_again(
    copied: StudySettings, whole: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(monkeypatch, set())
    monkeypatch.setattr(run, "evaluate", None)
    assert run_study(copied).rows == whole.rows


def test_a_new_set_is_measured_without_training(
    copied: StudySettings, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(monkeypatch, set())
    shutil.copytree(photo_folder, tmp_path / "Set5")
    more = dataclasses.replace(copied, sets=(tmp_path / "Set5", photo_folder))
    for row in run_study(more).rows:
        assert [score.name for score in row.sets] == ["Set5", photo_folder.name]
        assert row.sets[0].psnr == row.sets[1].psnr


def test_other_weights_are_measured_again(copied: StudySettings, whole: Study) -> None:
    """A score belongs to the weights it was measured with."""
    ram, rcab = (copied.folder(name) / "weights.safetensors" for name in ("ram-sa", "none"))
    shutil.copy(rcab, ram)
    row = run_study(copied).row("ram-sa")
    none = whole.row("none")
    assert row is not None
    assert none is not None
    assert row.sets == none.sets


def test_a_stopped_and_resumed_study_ends_as_a_whole_one(
    whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(whole.settings, output=tmp_path / "stopped")

    def stop(done: int, _progress: object) -> None:
        if done == 7:  # the first step of the third variant; the second takes notice
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(CancelledError, match=r"RAM SA \(3 of 11\): Stopped at step 2 of 3"):
        run_study(settings, StudyObserver(on_step=stop))
    partial = document(settings)
    assert partial["complete"] is False
    assert [row["attention"] for row in partial["rows"]] == ["none", "ram-ca"]
    assert "2 of 11 are done" in (settings.output / "study.md").read_text(encoding="utf-8")

    trained = untrained(monkeypatch, set(ATTENTION_NAMES[2:]))
    steps: list[int] = []
    watching = StudyObserver(on_step=lambda done, _progress: steps.append(done))
    resumed = run_study(dataclasses.replace(settings, resume=True), watching)
    assert trained == list(ATTENTION_NAMES[2:])
    assert steps == list(range(9, 34))
    for one, two in zip(resumed.rows, whole.rows, strict=True):
        assert (one.attention, one.held_out, one.sets) == (two.attention, two.held_out, two.sets)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"steps": 4}, "steps 3, not 4"),
        ({"seed": 1}, "seed 0"),
        ({"blocks": 2}, "blocks 1"),
        ({"recipe": dataclasses.replace(QUICK, batch=2)}, "batch 1, not 2"),
    ],
)
def test_another_study_in_the_folder_is_refused(
    copied: StudySettings, change: dict, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(monkeypatch, set())
    with pytest.raises(TrainingError, match=f"begun with {key}"):
        run_study(dataclasses.replace(copied, **change))


def test_a_loss_that_becomes_nan_names_the_variant(photo_folder: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"none \(1 of 11\): The loss became NaN"):
        run_study(settings_for(photo_folder, tmp_path / "out", recipe=wild, steps=20))


def test_a_study_is_not_overwritten(copied: StudySettings) -> None:
    with pytest.raises(TrainingError, match="--resume"):
        run_study(dataclasses.replace(copied, resume=False))


def test_other_photos_than_the_first_variants_are_refused(
    copied: StudySettings, photo_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(photo_folder, tmp_path / "other")
    shutil.copy(photo_folder / "coffee.png.png", tmp_path / "other" / "one_more.png")
    shutil.rmtree(copied.folder("csar"))
    with pytest.raises(TrainingError, match="csar was not trained on the photos"):
        run_study(dataclasses.replace(copied, data=tmp_path / "other"))


def test_a_damaged_log_is_named(copied: StudySettings) -> None:
    (copied.folder("ram") / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"Cannot read .*run\.json"):
        run_study(copied)


def test_damaged_results_only_cost_measuring_again(copied: StudySettings, whole: Study) -> None:
    (copied.output / "study.json").write_text('{"rows": [{"sets": 3}]}', encoding="utf-8")
    assert run_study(copied).rows == whole.rows
    assert document(copied)["complete"] is True


def test_images_that_cannot_be_measured_are_said(
    copied: StudySettings, photo_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(photo_folder, tmp_path / "Set5")
    (tmp_path / "Set5" / "broken.png").write_bytes(b"no picture")
    notices: list[str] = []
    broken = dataclasses.replace(copied, sets=(tmp_path / "Set5",))
    study = run_study(broken, StudyObserver(on_notice=notices.append))
    assert [(score.images, score.failed) for score in study.rows[0].sets] == [(2, 1)]
    assert "broken.png" in notices[0]
    assert "Set5: 2 of 3 images" in (copied.output / "study.md").read_text(encoding="utf-8")


def test_what_is_missing_is_said_before_training(photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    nowhere = tmp_path / "nowhere"
    for settings in (
        settings_for(nowhere, output, sets=()),
        settings_for(photo_folder, output, sets=(nowhere,)),
    ):
        with pytest.raises(InputError, match="No such folder"):
            run_study(settings)
    with pytest.raises(UsageError, match="not available"):
        run_study(settings_for(photo_folder, output, device="nonsense"))
    assert not output.exists()


def test_several_processes_are_refused(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        run_study(settings_for(photo_folder, tmp_path / "out"))


def test_impossible_settings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one step"):
        settings_for(tmp_path, tmp_path, steps=0)
    with pytest.raises(UsageError, match="8 channels are too few"):
        settings_for(tmp_path, tmp_path, channels=8)
    with pytest.raises(UsageError, match="Two sets are named Set5"):
        settings_for(tmp_path, tmp_path, sets=(tmp_path / "a" / "Set5", tmp_path / "b" / "Set5"))
    twice = settings_for(tmp_path, tmp_path, sets=(tmp_path / "Set5", tmp_path / "Set5" / "."))
    assert list(twice.named_sets()) == ["Set5"]


def test_each_variant_is_compiled_afresh(
    copied: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch keeps eight versions of a function; without a reset the rest runs uncompiled."""
    calls: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: calls.append("reset"))
    monkeypatch.setattr(run, "train", lambda settings, observer: calls.append("train"))
    monkeypatch.setattr(run, "stored_run", lambda settings, attention: None)
    compiled = dataclasses.replace(copied, recipe=dataclasses.replace(QUICK, compile=True))
    with pytest.raises(AssertionError):  # the stand-in for training leaves no run
        run_study(compiled)
    assert calls == ["reset", "train"]
