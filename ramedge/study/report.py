"""A study's results on disk: `study.json`, and `study.md`, a table laid out as Table 2."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ramedge.files import write_text
from ramedge.network.config import ATTENTION_NAMES
from ramedge.quality.tables import Summary, as_markdown
from ramedge.study.paper import (
    PAPER_NETWORK,
    PAPER_TRAINING,
    PARAMETERS_THOUSANDS,
    paper_psnr,
)
from ramedge.study.result import RESULT_NAME, Study, title

REPORT_NAME = "study.md"
_NOTHING = "–"
_PAPER = "the paper, R16C64"


def write_results(study: Study) -> None:
    """Write both files, each atomically.

    Raises:
        OutputError: a file cannot be written.
    """
    output = study.settings.output
    text = json.dumps(study.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(output / RESULT_NAME, text + "\n")
    write_text(output / REPORT_NAME, as_report(study))


def as_report(study: Study) -> str:
    """The report in Markdown: what was run, the table, and what to know when reading it."""
    return "\n".join(
        [
            f"# Attention mechanisms, ×2, {study.settings.network('ram').name}",
            "",
            _what_was_run(study),
            "",
            as_markdown(table(study)),
        ]
    )


def table(study: Study) -> Summary:
    """Columns are the variants in the paper's order; rows parameters, held-out photos, sets.

    PSNR-Y in dB, the best of each row in bold; below a set that the paper measured, its figures.
    """
    parameters = {row.attention: row.parameters for row in study.rows}
    held_out = {row.attention: row.held_out for row in study.rows if row.held_out is not None}
    rows = [
        _line("parameters", {name: f"{count:,}" for name, count in parameters.items()}),
        _line(_PAPER, {name: f"{count}K" for name, count in PARAMETERS_THOUSANDS.items()}),
    ]
    if held_out:
        rows.append(_line(f"held-out photos ({study.photos.validation})", _decibels(held_out)))
    for name in study.settings.named_sets():
        scores = {row.attention: row.score(name) for row in study.rows}
        psnr = {key: s.psnr for key, s in scores.items() if s is not None and s.psnr is not None}
        rows.append(_line(name, _decibels(psnr)))
        paper = paper_psnr(name)
        if paper is not None:
            rows.append(_line(_PAPER, _decibels(paper)))
    header = ("PSNR-Y (dB)", *map(title, ATTENTION_NAMES))
    return Summary(header=header, rows=tuple(rows), notes=_notes(study))


def _line(label: str, cells: Mapping[str, str]) -> tuple[str, ...]:
    return (label, *(cells.get(name, _NOTHING) for name in ATTENTION_NAMES))


def _decibels(values: Mapping[str, float]) -> dict[str, str]:
    best = max((round(value, 2) for value in values.values()), default=None)
    texts = {name: (f"{value:.2f}", round(value, 2) == best) for name, value in values.items()}
    return {name: f"**{text}**" if is_best else text for name, (text, is_best) in texts.items()}


def _what_was_run(study: Study) -> str:
    s, recipe, machine = study.settings, study.settings.recipe, study.machine
    progress = "" if study.complete else f" {len(study.rows)} of {len(ATTENTION_NAMES)} are done."
    return (
        f"Run at **R = {s.blocks}, C = {s.channels}**: each network {s.steps:,} steps of "
        f"{recipe.batch} patches of {recipe.patch}×{recipe.patch}, recipe `{recipe.name}`, seed "
        f"{s.seed}, {study.photos.training} photos.{progress} The paper's rows are of another "
        f"size, {PAPER_NETWORK} and {PAPER_TRAINING}: its levels are no measure for these.\n"
        f"Measured on {machine['date']} on {machine['cores']} cores of {machine['cpu']}."
    )


def _notes(study: Study) -> tuple[str, ...]:
    scores = [score for row in study.rows[:1] for score in row.sets]
    bicubic = [f"{s.name} {s.bicubic_psnr:.2f} dB" for s in scores if s.bicubic_psnr is not None]
    notes = [
        "In bold the best of each row, of one seed: another may move a small network by more than "
        "the mechanisms differ.",
        "RCAB and CSAR CA are one and the same network, trained twice: what they differ by is "
        "chance.",
    ]
    if bicubic:
        notes.append(f"Bicubic: {', '.join(bicubic)}.")
    notes += [f"{s.name}: {s.images} of {s.images + s.failed} images." for s in scores if s.failed]
    notes += [notice for row in study.rows for notice in row.notices]
    return tuple(dict.fromkeys(notes))
