"""What the calibration of an INT8 model found, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramedge.artifacts.artifact import Manifest
from ramedge.errors import MissingExtraError
from ramedge.files import atomic_path, write_text


def picture_of(report: Path) -> Path:
    """The file of the report's picture."""
    return report.with_suffix(".png")


def write_report(manifest: Manifest, path: Path) -> None:
    """Write `path` (Markdown) and the picture of loss against speed beside it (PNG).

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    picture = picture_of(path)
    _draw(manifest, picture)
    write_text(path, markdown(manifest, picture.name))


def markdown(manifest: Manifest, picture: str) -> str:
    """The report as Markdown; `picture` is the file name of the plot."""
    search, gate = manifest.int8["search"], manifest.gate
    lines = [
        f"# INT8 of {manifest.network} ×{manifest.scale}",
        "",
        f"Calibrated on {len(manifest.int8['calibration']['frames'])} pictures, some of them kept "
        f"for the gate (SHA-256 {manifest.int8['calibration']['digest'][:16]}…).",
    ]
    if manifest.precision == "int8":
        truth, speed = gate["truth"], gate["speed"]
        lines.append(
            f"On {len(truth['photos'])} that no range was measured on it loses "
            f"{truth['loss']['mean']:.3f} dB of PSNR-Y ({truth['loss']['worst']:.3f} dB at worst) "
            f"and takes {speed['milliseconds']:.0f} ms where {speed['baseline']} takes "
            f"{speed['baseline_milliseconds']:.0f} ms "
            f"({speed['width']}×{speed['height']}, {speed['speedup']:.2f} times as fast)."
        )
    lines += [
        "",
        f"![Loss against time]({picture})",
        "",
        "| convolution | share of multiply-adds | range | loss alone (dB) | worst | peak | int8 |",
        "|---|---|---|---|---|---|---|",
        *(_row(found) for found in search["alone"]),
        "",
        "All of them in int8, by how ranges are chosen:",
        "",
        "| method | loss (dB) | worst picture | peak (levels of 255) |",
        "|---|---|---|---|",
        *(
            f"| {method} | {loss['mean']:.3f} | {loss['worst']:.3f} | {loss['peak']:.1f} |"
            for method, loss in search["methods"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _row(found: Mapping[str, Any]) -> str:
    loss = found["loss"]
    figures = f"{loss['mean']:.4f} | {loss['worst']:.4f} | {loss['peak']:.1f}"
    return (
        f"| {found['name']} | {found['share']:.1%} | {found['method']}, "
        f"{found['headroom']:.2f} × largest | {figures} | "
        f"{'yes' if found['quantized'] else 'no'} |"
    )


def _draw(manifest: Manifest, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "export", "The report") from None
    steps = manifest.int8["search"]["steps"]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.scatter([s["milliseconds"] for s in steps], [s["loss"]["mean"] for s in steps])
    for step in steps:
        axes.annotate(
            f"{step['count']} ({step['share']:.0%})",
            (step["milliseconds"], step["loss"]["mean"]),
            textcoords="offset points",
            xytext=(6, 4),
        )
    axes.set_xlabel("milliseconds for one picture (OpenVINO)")
    axes.set_ylabel("loss of PSNR-Y (dB)")
    axes.set_title(f"{manifest.network} ×{manifest.scale}: how many convolutions are INT8")
    axes.grid(alpha=0.3)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
