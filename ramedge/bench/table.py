"""The figures as people read them: one column a combination, one line a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ramedge.bench.result import Row, Spread

NOTHING = "–"


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of rows of one scale and size, which stand side by side."""
    groups: dict[tuple[int, int, int], list[Row]] = {}
    for row in rows:
        one = row.combination
        groups.setdefault((one.scale, one.height, one.width), []).append(row)
    return list(groups.values())


def figure_lines(rows: Sequence[Row], baseline: str) -> list[tuple[str, list[str]]]:
    """Name of each figure and its text for each row; what no row has is left out."""
    lines: list[tuple[str, Callable[[Row], str | None]]] = [
        ("p50 ms", lambda row: _milliseconds(row, 50)),
        ("p90 ms", lambda row: _milliseconds(row, 90)),
        ("p99 ms", lambda row: _milliseconds(row, 99)),
        ("timed runs", lambda row: str(row.runs)),
        ("frames/s", lambda row: f"{row.frames_per_second:.3g}"),
        (f"speed, {baseline} = 1", lambda row: spread_text(row.ratio)),
        ("GFLOP/s", lambda row: None if row.operations is None else f"{row.operations / 1e9:.0f}"),
        ("of a matrix product", _share),
        ("peak memory, MB", lambda row: _megabytes(row.peak_bytes)),
        ("device memory, MB", lambda row: _megabytes(row.device_peak_bytes)),
        ("model on disk, MB", lambda row: f"{row.model_bytes / 1e6:.1f}"),
        ("load, s", lambda row: f"{row.load_seconds:.2f}"),
        *(
            (f"J/frame, {meter}", lambda row, meter=meter: _joules(row, meter))
            for meter in dict.fromkeys(name for row in rows for name in row.joules)
        ),
        ("agreement, dB", _agreement),
        ("largest error, levels", lambda row: _levels(row.quality.max_error)),
        ("tint R G B, levels", _tint),
        (f"PSNR-Y, dB (bicubic {rows[0].quality.bicubic_psnr_y:.2f})",
         lambda row: f"{row.quality.psnr_y:.2f}"),
        ("quality", _verdict),
    ]  # fmt: skip
    found = [(name, [text(row) for row in rows]) for name, text in lines]
    return [
        (name, [NOTHING if text is None else text for text in texts])
        for name, texts in found
        if any(text is not None for text in texts)
    ]


def spread_text(spread: Spread, digits: int = 2) -> str:
    """The median, and what eight of ten rounds lie between.

    >>> spread_text(Spread(1.0, 0.9, 1.1))
    '1.00 (0.90–1.10)'
    """
    low, high = f"{spread.low:.{digits}f}", f"{spread.high:.{digits}f}"
    middle = f"{spread.median:.{digits}f}"
    return middle if low == high else f"{middle} ({low}–{high})"


def _milliseconds(row: Row, percent: float) -> str:
    return f"{1e3 * row.percentile(percent):.4g}"


def _share(row: Row) -> str | None:
    return None if row.roofline_share is None else f"{row.roofline_share:.0%}"


def _megabytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.0f}"


def _joules(row: Row, meter: str) -> str | None:
    return f"{row.joules[meter]:.3g}" if meter in row.joules else None


def _agreement(row: Row) -> str | None:
    quality = row.quality
    if quality.max_error == 0.0:
        return "equal"
    return None if quality.psnr is None else f"{quality.psnr:.1f}"


def _levels(value: float | None) -> str | None:
    return None if value is None else f"{255 * value:.2g}"


def _tint(row: Row) -> str | None:
    bias = row.quality.channel_bias
    return None if bias is None else " ".join(f"{255 * value:+.3f}" for value in bias)


def _verdict(row: Row) -> str:
    if row.quality.failure:
        return "BAD"
    return "good" if row.quality.reference else "not known"
