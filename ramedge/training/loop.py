"""The training loop: steps, validation, checkpoints, and a clean stop."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ramedge.errors import CancelledError, TrainingError, UsageError
from ramedge.files import write_text
from ramedge.network.collapse import RIM, CollapsedNetwork
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.weights import Weights, load_weights, save_weights
from ramedge.training.acceleration import Accelerated, accelerate
from ramedge.training.batches import Patches, make_batches
from ramedge.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ramedge.training.distributed import Processes, processes
from ramedge.training.folder import check_apart, claim
from ramedge.training.losses import LOSSES
from ramedge.training.memory import check_memory
from ramedge.training.optimizer import Optimizer, squeeze_weights
from ramedge.training.patterns import Patterns
from ramedge.training.photos import PatchSampler, PhotoSet, load_photos
from ramedge.training.pictures import write_crops, write_curves
from ramedge.training.recipe import Recipe
from ramedge.training.teachers.cache import add_outputs
from ramedge.training.teachers.check import check_teachers
from ramedge.training.teachers.group import Teachers, load_teachers
from ramedge.training.teachers.settings import Distillation
from ramedge.training.throughput import Throughput, measure_ceiling, step_flops
from ramedge.training.validation import Validation, validate

CHECKPOINT_NAME = "checkpoint.pt"
WEIGHTS_NAME = "weights.safetensors"
LOG_NAME = "run.json"
CURVES_NAME = "curves.png"
_FILES = (CHECKPOINT_NAME, WEIGHTS_NAME, LOG_NAME, CURVES_NAME, "validation_x*.png")
SEEDS = 2**63
"""Seeds are less: torch takes 64 bits, with a sign."""
_LOSS_WINDOW = 50
_LOSS_CHECK_EVERY = 10


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """One training run.

    Attributes:
        data: folder of photos.
        output: folder of the run: checkpoint, weights and log.
        steps: optimisation steps in all, those before a resume included.
        seed: of weights and patches, in [0, 2⁶³).
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints, the most that a crash can lose.
        start_from: weights to begin with instead of random ones; scales that they lack begin
            at random.
        distillation: stronger networks to learn from as well.

    Raises:
        UsageError: a number out of its range, shares for other scales, or an output that lies
            among the photos.
    """

    data: Path
    output: Path
    network: NetworkConfig
    recipe: Recipe
    steps: int
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    validate_every: int = 500
    checkpoint_every: int = 250
    start_from: Path | None = None
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.checkpoint_every) < 1:
            raise UsageError("Steps and intervals must be at least 1.")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"The seed must lie between 0 and {SEEDS - 1}.")
        check_apart(self.data, self.output)
        scales, shares = self.network.scales, self.recipe.shares
        if shares and len(shares) != len(scales):
            raise UsageError(f"--shares takes one number for each scale, {len(scales)} here.")


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run after a step, for whoever shows it.

    Attributes:
        loss: mean of the last steps, of images in [0, 1].
        psnr: last validation PSNR-Y by scale, in dB; empty before the first.
        seconds_per_step: mean over the last steps.
    """

    step: int
    steps: int
    loss: float
    psnr: dict[int, float]
    seconds_per_step: float


@dataclass(slots=True)
class Observer:
    """What a caller may be told. Every callback runs on the first process only."""

    on_photo: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[Progress], None] = lambda progress: None
    on_notice: Callable[[str], None] = lambda text: None
    on_compile: Callable[[], None] = lambda: None
    on_taught: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run left: its weights file and the last validation PSNR-Y by scale.

    `throughput` is that of the last steps, of this process's share of the work. `held_out` is false
    where the PSNR-Y is of photos trained on, since there were no others.
    """

    weights: Path
    step: int
    psnr: dict[int, float]
    notices: list[str] = field(default_factory=list)
    throughput: Throughput | None = None
    held_out: bool = True


def train(settings: TrainingSettings, observer: Observer | None = None) -> TrainingResult:
    """Train a network and write its weights.

    The same settings give the same weights on one machine, however often the run was
    stopped and resumed. Started under torchrun, each process works on its share of every
    batch and the gradients are averaged.

    Raises:
        InputError: the photos cannot be used.
        UsageError: what was asked for fits neither the memory nor the devices.
        OutputError: the run folder cannot be written to.
        TrainingError: the run folder is in use, a checkpoint does not fit, or the loss
            became NaN (the last checkpoint is kept).
        CancelledError: interrupted; a checkpoint was written.
    """
    with processes(settings.device) as group:
        if group.device.type == "cpu":  # a GPU may have more memory than its host
            check_memory(settings.network, settings.recipe, group.world)
        with claim(settings.output, _FILES) if group.is_first else nullcontext():
            run = _Run(settings, observer if observer and group.is_first else Observer(), group)
            try:
                return run.train()
            except torch.OutOfMemoryError:
                raise TrainingError(
                    f"Not enough memory on {group.device}: lower --batch or --patch."
                ) from None


class _Run:
    """One process of a training run."""

    def __init__(self, settings: TrainingSettings, observer: Observer, group: Processes) -> None:
        self.settings = settings
        self.observer = observer
        self.group = group
        self.notices: list[str] = []
        checkpoint = self._find_checkpoint()
        self.teachers = self._load_teachers()
        self.photos = self._load_photos()
        for notice in self.photos.notices:
            self._notice(notice)
        start = settings.start_from
        self.start = None if start is None else load_weights(start)
        self.fixed = _fixed_settings(settings, self.photos, self.start, self.teachers)
        torch.manual_seed(settings.seed)
        self.network = SRRAM(settings.network).to(group.device)
        self._initialize()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.illustrated = True
        self.throughput: Throughput | None = None
        self.losses: deque[float] = deque(maxlen=_LOSS_WINDOW)
        self.pending: list[Tensor] = []
        self.accelerated = self._accelerate()
        self.ema = copy.deepcopy(self.network) if settings.recipe.ema else None
        self.optimizer = Optimizer(self.network, settings.recipe)
        self.loss = LOSSES[settings.recipe.loss]
        if checkpoint is not None:
            self._restore(checkpoint)
        self.trainable = self._trainable()
        self._prepare_teachers()

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self.observer.on_notice(text)

    @property
    def _checkpoint_path(self) -> Path:
        return self.settings.output / CHECKPOINT_NAME

    def _find_checkpoint(self) -> Checkpoint | None:
        path = self._checkpoint_path
        if not path.exists():
            if self.settings.resume:
                self._notice(f"No checkpoint in {self.settings.output} yet: starting at step 0.")
            return None
        if not self.settings.resume:
            raise TrainingError(
                f"{self.settings.output} holds a run already: "
                "continue it with --resume or choose another folder with -o."
            )
        return load_checkpoint(path)

    def _load_photos(self) -> PhotoSet:
        s = self.settings
        return load_photos(
            s.data, s.network.scales, s.recipe.patch, self.observer.on_photo, s.recipe.reduced
        )

    def _load_teachers(self) -> Teachers | None:
        s = self.settings
        if s.distillation is None:
            return None
        return load_teachers(s.distillation, s.network.scales, self.group.device)

    def _prepare_teachers(self) -> None:
        """Try the teachers on photos; compile them, or have their outputs computed."""
        distillation = self.settings.distillation
        if self.teachers is None or distillation is None:
            return
        check_teachers(
            self.teachers, self.photos.validation or self.photos.training, self.group.device
        )
        if distillation.outputs == "cached":
            training = add_outputs(
                self.photos.training,
                self.teachers,
                distillation.cache_folder,
                self.group,
                self.observer.on_taught,
            )
            self.photos = replace(self.photos, training=training)
        elif self.accelerated.compile:
            self.teachers.compile()

    def _initialize(self) -> None:
        """Scale the random weights as the recipe says, or take over those to start from."""
        if self.start is None:
            with torch.no_grad():
                for weight in squeeze_weights(self.network):
                    weight.mul_(self.settings.recipe.squeeze_init)
            return
        wanted = self.settings.network
        if replace(self.start.config, scales=wanted.scales) != wanted:
            raise TrainingError(
                f"{self.settings.start_from} holds {self.start.config.name}, which does not fit "
                f"{wanted.name}: train a network of the same blocks, channels and attention."
            )
        own = self.network.state_dict()
        found = self.start.network.state_dict()
        self.network.load_state_dict(own | {k: v for k, v in found.items() if k in own})

    def _accelerate(self) -> Accelerated:
        accelerated = accelerate(self.settings.recipe, self.group.device)
        for notice in accelerated.notices:
            self._notice(notice)
        if accelerated.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return accelerated

    def _trainable(self) -> nn.Module:
        network: nn.Module = self.network
        if self.settings.recipe.collapse:
            network = CollapsedNetwork(self.network)
        if self.accelerated.compile:
            # A graph for each scale: torch would make the second one's scale a symbol.
            network = torch.compile(network, dynamic=False)  # type: ignore[assignment]
        if not self.group.several:
            return network
        on_gpu = self.group.device.type == "cuda"
        return DistributedDataParallel(
            network,
            device_ids=[self.group.device.index] if on_gpu else None,
            # Each step uses the tail of one scale only.
            find_unused_parameters=len(self.settings.network.scales) > 1,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        if difference := checkpoint.difference(self.fixed):
            raise TrainingError(
                f"The run in {self.settings.output} was started with {difference}: "
                "use the same, or another folder with -o."
            )
        if checkpoint.step > self.settings.steps:
            raise TrainingError(
                f"The run in {self.settings.output} is at step {checkpoint.step} already: "
                "ask for more with --steps."
            )
        self.network.load_state_dict(checkpoint.network)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step = checkpoint.step
        self.history = list(checkpoint.history)
        self.losses.extend(checkpoint.losses)

    def train(self) -> TrainingResult:
        s = self.settings
        sampler = PatchSampler(
            photos=self.photos.training,
            scales=s.network.scales,
            patch=s.recipe.patch,
            batch=s.recipe.batch,
            seed=s.seed,
            rank=self.group.rank,
            world=self.group.world,
            candidates=s.recipe.candidates,
            shares=s.recipe.shares,
        )
        if s.recipe.batch < self.group.world:
            raise UsageError(f"A batch of {s.recipe.batch} cannot feed {self.group.world} GPUs.")
        batches = make_batches(
            sampler, self.group.device, self.accelerated.channels_last, self._patterns()
        )
        flops = step_flops(s.network, s.recipe) / self.group.world
        ceiling = measure_ceiling(self.group.device, self.accelerated.bf16)
        durations: deque[float] = deque(maxlen=_LOSS_WINDOW)
        if self.accelerated.compile:
            self.observer.on_compile()
        with _stop_on_signal() as signals:
            for step, batch in batches.stream(self.step, s.steps):
                started = time.perf_counter()
                self.pending.append(self._train_step(step, batch))
                self.step = step + 1
                last = self.step == s.steps
                stop = self.group.any(bool(signals))
                if last or self.step % _LOSS_CHECK_EVERY == 0 or stop:
                    self._read_losses()
                durations.append(time.perf_counter() - started)
                mean = sum(durations) / len(durations)
                self.throughput = Throughput(1.0 / mean, flops / mean, ceiling)
                if last or self.step % s.validate_every == 0:
                    self._validate()
                if last or stop or self.step % s.checkpoint_every == 0:
                    self._save()
                self.observer.on_step(self._progress(mean))
                if stop and not last:
                    raise CancelledError(
                        f"Stopped at step {self.step} of {s.steps}; continue with --resume."
                    )
        return TrainingResult(
            weights=s.output / WEIGHTS_NAME,
            step=self.step,
            psnr=self._last_psnr(),
            notices=self.notices,
            throughput=self.throughput,
            held_out=self.photos.held_out,
        )

    def _patterns(self) -> Patterns | None:
        s = self.settings
        if s.recipe.patterns == 0.0:
            return None
        return Patterns(
            s.recipe.patterns, s.recipe.batch, s.seed, self.group.rank, self.group.world
        )

    def _train_step(self, step: int, batch: Patches) -> Tensor:
        taught = self._teacher_output(batch)
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.accelerated.bf16):
            loss = self._loss_of(step, batch, taught)
        loss.backward()  # type: ignore[no-untyped-call]
        recipe = self.settings.recipe
        self.optimizer.step(recipe.learning_rate_at(step, self.settings.steps))
        if self.ema is not None:
            _update_average(self.ema, self.network, recipe.ema_decay_at(step))
        return loss.detach()

    def _teacher_output(self, batch: Patches) -> Tensor | None:
        """What the teacher makes of the patches, as `batch.high`; the truth where patterns are.

        A teacher that never saw patterns is no guide there.
        """
        if self.teachers is None:
            return None
        taught = batch.taught
        if taught is None:
            taught = self.teachers(batch.low, batch.scale)
        for place in batch.patterned:
            taught[place] = batch.high[place]
        return taught

    def _loss_of(self, step: int, batch: Patches, taught: Tensor | None) -> Tensor:
        """(1 - W)·loss(output, truth) + W·loss(output, teacher's output); W = 0 without one."""
        scale = batch.scale
        inside = slice(None)
        if self.settings.recipe.rim_at(step):
            output = self.trainable(batch.low, scale)
        else:
            output = self.trainable(batch.low, scale, False)
            inside = slice(RIM * scale, -RIM * scale)
        high = batch.high[..., inside, inside]
        if taught is None or self.settings.distillation is None:
            return self.loss(output, high)
        weight = self.settings.distillation.weight
        loss = weight * self.loss(output, taught[..., inside, inside])
        return loss if weight == 1.0 else loss + (1.0 - weight) * self.loss(output, high)

    def _read_losses(self) -> None:
        """Bring the losses to the host, seldom, so that a GPU is not made to wait each step."""
        values = torch.stack(self.pending).tolist() if self.pending else []
        self.pending.clear()
        if not all(math.isfinite(value) for value in values):
            raise TrainingError(
                f"The loss became NaN or infinite before step {self.step}. {self._after_nan()}"
            )
        self.losses.extend(values)

    def _after_nan(self) -> str:
        weights = self.settings.output / WEIGHTS_NAME
        if not weights.exists():
            return "Use a lower --learning-rate."
        return (
            f"{weights} is from before: go on in another folder with --start-from {weights} and "
            "a lower --learning-rate."
        )

    def _validate(self) -> None:
        """PSNR-Y of the averaged weights on held-out photos; every process waits for it."""
        if self.group.is_first and self.photos.validation:
            network = self.ema if self.ema is not None else self.network
            results = {
                scale: validate(network, self.photos.validation, scale, self.group.device)
                for scale in self.settings.network.scales
            }
            entry: dict[str, float] = {"step": self.step, "loss": self._loss()}
            for scale, result in results.items():
                entry[f"psnr_x{scale}"] = result.psnr
            self.history.append(entry)
            self._illustrate(results)
        self.group.barrier()

    def _illustrate(self, results: Mapping[int, Validation]) -> None:
        folder, scales = self.settings.output, self.settings.network.scales
        for scale, result in results.items():
            write_crops(result.shown, folder / f"validation_x{scale}.png")
        try:
            write_curves(self.history, scales, folder / CURVES_NAME)
        except ModuleNotFoundError as missing:
            if self.illustrated:
                self._notice(f"{missing.name} is not installed: no {CURVES_NAME}.")
            self.illustrated = False

    def _save(self) -> None:
        self._read_losses()
        if self.group.is_first:
            s = self.settings
            save_checkpoint(
                Checkpoint(
                    settings=self.fixed,
                    step=self.step,
                    network=self.network.state_dict(),
                    ema=self.ema.state_dict() if self.ema is not None else None,
                    optimizer=self.optimizer.state_dict(),
                    history=self.history,
                    losses=list(self.losses),
                ),
                self._checkpoint_path,
            )
            training = {**self.fixed, "step": self.step, "steps": s.steps, "notices": self.notices}
            averaged = self.ema if self.ema is not None else self.network
            save_weights(averaged, s.output / WEIGHTS_NAME, training)
            log = {"settings": training, "history": self.history}
            if self.throughput is not None:
                log["throughput"] = asdict(self.throughput)
            write_text(s.output / LOG_NAME, json.dumps(log, indent=2) + "\n")
        self.group.barrier()

    def _loss(self) -> float:
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def _last_psnr(self) -> dict[int, float]:
        if not self.history:
            return {}
        return {scale: self.history[-1][f"psnr_x{scale}"] for scale in self.settings.network.scales}

    def _progress(self, seconds_per_step: float) -> Progress:
        return Progress(
            step=self.step,
            steps=self.settings.steps,
            loss=self._loss(),
            psnr=self._last_psnr(),
            seconds_per_step=seconds_per_step,
        )


def _fixed_settings(
    settings: TrainingSettings, photos: PhotoSet, start: Weights | None, teachers: Teachers | None
) -> dict[str, Any]:
    """What a resumed run must share with its start, as plain values.

    The number of steps may change: the trapezoid's end moves with it.
    """
    network = asdict(settings.network)
    network["scales"] = list(settings.network.scales)
    distillation = None
    if teachers is not None and settings.distillation is not None:
        distillation = {
            "weight": settings.distillation.weight,
            "outputs": settings.distillation.outputs,
            "teachers": teachers.as_list(),
        }
    return {
        "network": network,
        "recipe": settings.recipe.as_dict(),
        "seed": settings.seed,
        "start": None if start is None else start.digest,
        "distillation": distillation,
        "photos": photos.digest,
        "training_photos": len(photos.training),
        "validation_photos": len(photos.validation),
    }


@torch.no_grad()
def _update_average(average: SRRAM, network: SRRAM, decay: float) -> None:
    targets = [p.detach() for p in average.parameters()]
    sources = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(targets, sources, 1.0 - decay)


@contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """Yield a list that becomes non-empty on Ctrl-C or SIGTERM: the step in progress ends first.

    A second signal of the kind acts at once, as Python does by default.
    """
    received: list[int] = []
    previous: Mapping[int, Any] = {}

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    try:
        # Signal handlers belong to the main thread; elsewhere the caller keeps its own.
        previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            signal.signal(number, remember)
    except ValueError:
        previous = {}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
