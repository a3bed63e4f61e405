"""What a training run reports: progress, notices, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ramedge.training.throughput import Throughput


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run after a step.

    Attributes:
        loss: mean over the last steps, of images in [0, 1].
        psnr: PSNR-Y of the last validation by scale, in dB; empty before the first.
        seconds_per_step: mean over the last steps.
    """

    step: int
    steps: int
    loss: float
    psnr: dict[int, float]
    seconds_per_step: float


@dataclass(slots=True)
class Observer:
    """Callbacks of a run. They are called on the first process only.

    Attributes:
        on_photo: (done, total), after each decoded photo.
        on_step: after each optimisation step.
        on_notice: a setting that had no effect, or a fallback.
        on_compile: before torch.compile, which takes minutes the first time.
        on_teacher_output: (done, total), after each cached output of a teacher.
    """

    on_photo: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[Progress], None] = lambda progress: None
    on_notice: Callable[[str], None] = lambda text: None
    on_compile: Callable[[], None] = lambda: None
    on_teacher_output: Callable[[int, int], None] = lambda done, total: None


class Notices:
    """Notices of a run: passed on at once, and kept for its log and its result."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self.texts: list[str] = []
        self._on_notice = on_notice

    def add(self, text: str) -> None:
        """Report `text` and keep it."""
        self.texts.append(text)
        self._on_notice(text)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Result of a finished run.

    Attributes:
        weights: the weights file.
        step: steps done.
        psnr: PSNR-Y of the last validation by scale, in dB; empty without one.
        throughput: over the last steps, of this process; `None` where no step was left to do.
        held_out: whether `psnr` is of photos that were not trained on.
    """

    weights: Path
    step: int
    psnr: dict[int, float]
    notices: list[str] = field(default_factory=list)
    throughput: Throughput | None = None
    held_out: bool = True
