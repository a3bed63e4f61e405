"""Evaluations of several sets and scales in one table, laid out as the paper's Table 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ramedge.quality.evaluation import Evaluation
from ramedge.quality.paper_results import Figures

UNITS = "PSNR-Y (dB) / SSIM-Y"
_NOTHING = "–"


def _bicubic(evaluation: Evaluation) -> Figures | None:
    return Figures(evaluation.mean.bicubic_psnr, evaluation.mean.bicubic_ssim)


def _ours(evaluation: Evaluation) -> Figures | None:
    return Figures(evaluation.mean.psnr, evaluation.mean.ssim)


_METHODS: Mapping[str, Callable[[Evaluation], Figures | None]] = MappingProxyType(
    {
        "bicubic": _bicubic,
        "SRRAM_R10C64, the paper": lambda e: e.paper,
        "ours": lambda e: None if e.ensemble else _ours(e),
        "ours, self-ensemble": lambda e: _ours(e) if e.ensemble else None,
    }
)
"""Rows of each scale and where their figures come from."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A table in plain text.

    Attributes:
        header: scale, method, then one column for each set.
        rows: of each scale bicubic, the paper where it measured this network, ours.
        notes: what the means leave out, one line each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def summarize(evaluations: Sequence[Evaluation]) -> Summary:
    """Lay evaluations of one network out; a set not measured at some scale has no figures there."""
    headings = _headings(evaluations)
    columns = tuple(dict.fromkeys(headings.values()))
    rows: list[tuple[str, ...]] = []
    for scale in sorted({e.scale for e in evaluations}):
        measured = [e for e in evaluations if e.scale == scale]
        for method, figures in _METHODS.items():
            shown = ((headings[e.folder], figures(e)) for e in measured)
            found = {column: value for column, value in shown if value is not None}
            if found:
                rows.append((f"×{scale}", method, *(_cell(found.get(c)) for c in columns)))
    return Summary(
        header=("scale", UNITS, *columns),
        rows=tuple(rows),
        notes=tuple(_left_out(e, headings[e.folder]) for e in evaluations if e.failed),
    )


def as_markdown(summary: Summary) -> str:
    """A Markdown table, its notes below it; ends with a line break."""
    lines = [_line(summary.header), "|" + "---|" * len(summary.header)]
    lines += map(_line, summary.rows)
    if summary.notes:
        lines += ["", *(f"- {note}" for note in summary.notes)]
    return "\n".join(lines) + "\n"


def _headings(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Heading by folder: its name or, where several have the same, the folder itself."""
    names = {e.folder: e.name for e in evaluations}
    taken = list(names.values())
    return {f: name if taken.count(name) == 1 else f for f, name in names.items()}


def _cell(figures: Figures | None) -> str:
    return _NOTHING if figures is None else f"{figures.psnr:.2f} / {figures.ssim:.4f}"


def _left_out(evaluation: Evaluation, column: str) -> str:
    count = len(evaluation.images)
    return f"{column} ×{evaluation.scale}: {count} of {count + len(evaluation.failed)} images"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
