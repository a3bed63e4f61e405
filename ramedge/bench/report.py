"""The page: everything in one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ramedge.bench.quality import Pictures
from ramedge.bench.result import BenchResult, EndToEnd, Row, title
from ramedge.bench.table import alike, figure_lines
from ramedge.files import write_text

_CROP = 120
"""Side of the part of a photo that is shown, in low-resolution pixels."""


def write_report(path: Path, result: BenchResult, pictures: Sequence[Pictures]) -> None:
    """Write the page.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, render(result, pictures))


def render(result: BenchResult, pictures: Sequence[Pictures]) -> str:
    """The page's HTML. All data goes in as JSON and is set as text, never as markup."""
    data = {
        "command": result.command,
        "complete": result.complete,
        "baseline": result.baseline,
        "notes": list(result.notes),
        "failures": result.failures,
        "machine": dict(result.machine),
        "groups": [_group(rows, result.baseline) for rows in alike(result.rows)],
        "ends": [_end(one) for one in result.end_to_end],
        "pictures": [_picture(one) for one in pictures],
    }
    # `</script>` or `<!--` in a name must not end the block of data.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    page = _asset("report.html")
    for mark, content in (
        ("/*style*/", _asset("report.css")),
        ("/*script*/", _asset("report.js")),
        ("/*data*/", text),
    ):
        page = page.replace(mark, content)
    return page


def _asset(name: str) -> str:
    return resources.files("ramedge.bench").joinpath(name).read_text(encoding="utf-8")


def _group(rows: Sequence[Row], baseline: str) -> dict[str, Any]:
    one = rows[0].combination
    return {
        "title": f"{one.width}×{one.height} pixels, ×{one.scale}, {one.network}",
        "names": [title(row.combination) for row in rows],
        "bad": [bool(row.quality.failure) for row in rows],
        "milliseconds": [[1e3 * row.percentile(p) for p in (50, 90, 99)] for row in rows],
        "frames_per_second": [row.frames_per_second for row in rows],
        "psnr_y": [row.quality.psnr_y for row in rows],
        "bicubic": rows[0].quality.bicubic_psnr_y,
        "lines": figure_lines(rows, baseline),
    }


def _end(one: EndToEnd) -> dict[str, Any]:
    total = one.total
    return {
        "name": f"{title(one.combination)} ×{one.combination.scale}",
        "source": one.source,
        "frames_per_second": one.frames_per_second.median,
        "seconds": total.seconds,
        "busy": [total.decode, total.network, total.encode],
        "limit": total.limit,
    }


def _picture(one: Pictures) -> dict[str, Any]:
    """The middle of a photo as each candidate has it, beside what is no candidate's."""
    scale = one.scale
    height, width = (min(_CROP, side) for side in one.photo.low.shape[:2])
    top, left = (one.photo.low.shape[0] - height) // 2, (one.photo.low.shape[1] - width) // 2
    area = slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale)
    low = one.photo.low[top : top + height, left : left + width]
    pixels = low.repeat(scale, axis=0).repeat(scale, axis=1)
    shown = {
        "low resolution": pixels,
        "bicubic": one.photo.bicubic[area],
        **{name: output[area] for name, output in one.outputs.items()},
        "ground truth": one.photo.truth[area],
    }
    return {
        "title": f"{Path(one.photo.name).stem} ×{scale}",
        "names": list(shown),
        "sources": [_data_uri(picture) for picture in shown.values()],
    }


def _data_uri(picture: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
