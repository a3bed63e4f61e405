"""Quality on several sets at several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ramedge.errors import InputError, UnexpectedError
from ramedge.quality.evaluation import Evaluation, Failure, evaluate, set_name
from ramedge.quality.photos import find_photos
from ramedge.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured.

    Attributes:
        evaluations: at least one; by scale, then by set, as they were asked for.
        failed: sets of which no image could be measured, named as `Set5 ×4`.
    """

    evaluations: tuple[Evaluation, ...]
    failed: tuple[Failure, ...] = ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All of them, single images and whole sets."""
        return (*(one for e in self.evaluations for one in e.failed), *self.failed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "evaluations": [evaluation.as_dict() for evaluation in self.evaluations],
            "failed": [asdict(failure) for failure in self.failed],
        }


def evaluate_sets(
    folders: Sequence[Path | str],
    upscalers: Sequence[Upscaler],
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Measure every folder with every upscaler; see `evaluate`.

    Args:
        folders: searched with their sub-folders; one given twice is measured once.
        upscalers: one for each scale.
        on_image: told how many images are done, of all sets and scales, and how many there are.

    Raises:
        InputError: a folder is not there or holds no image (before anything is measured), or
            nothing at all could be measured.
    """
    counts = {Path(folder): len(find_photos(Path(folder))) for folder in folders}
    total = sum(counts.values()) * len(upscalers)
    evaluations: list[Evaluation] = []
    failed: list[Failure] = []
    before = 0
    for upscaler in upscalers:
        for folder, count in counts.items():

            def report(done: int, _count: int, before: int = before) -> None:
                on_image(before + done, total)

            try:
                evaluations.append(evaluate(folder, upscaler, report))
            except (InputError, UnexpectedError) as error:
                name = f"{set_name(folder)} ×{upscaler.scale}"
                unexpected = isinstance(error, UnexpectedError)
                failed.append(Failure(name, str(error), unexpected))
            before += count
    if not evaluations:
        kind = UnexpectedError if any(one.unexpected for one in failed) else InputError
        raise kind(failed[0].error if failed else "Nothing to measure: give a folder.")
    return Comparison(tuple(evaluations), tuple(failed))
