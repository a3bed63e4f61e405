"""Pictures of what a trained network's attention does, after the paper's Figures 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ramedge.errors import MissingExtraError
from ramedge.files import atomic_path
from ramedge.network.weights import load_weights
from ramedge.quality.photos import find_photos
from ramedge.samples import PHOTOS, sample_photo
from ramedge.study.features import (
    Example,
    Pixels,
    Variances,
    channel_variances,
    find_examples,
    low_resolution,
)
from ramedge.study.result import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
MAX_PHOTOS = 8
"""Photos that a picture looks at, of a folder that has more."""

_EXAMPLES = 2
_KINDS = {
    "recalibrated": "the pattern changes",
    "kept": "it passes as it is",
    "suppressed": "little is left",
}
_LEGEND = """In pairs: what a block's convolutions give, and what the
attention leaves of it and the block adds to its input.

Red is positive, blue negative, white zero: nothing is added.
Both maps of a pair have one scale."""
_DECADES = 4
"""Powers of ten that the grey scale of the variances spans."""


def check_matplotlib() -> None:
    """Say now what would be missing after hours of training.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "train", "Drawing the pictures") from None


def draw_study(weights: Mapping[str, Path], shown: str, output: Path) -> list[Path]:
    """The pictures of a study: the variances of all networks, and two of the one `shown`.

    Args:
        weights: file by attention, in the order of the panels.
        shown: the attention of the network to look at closely.
        output: folder to write to; files of the same name are replaced.

    Raises:
        RamedgeError: weights cannot be loaded, or a picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    photos = figure_photos(None)
    found = {
        name: channel_variances(load_weights(path).network, photos)
        for name, path in weights.items()
    }
    path = output / "variances.png"
    panels = {title(name): variances.after for name, variances in found.items()}
    _save(_variance_panels(panels, "Variance of each channel after the attention"), path)
    return [path, *draw_network(weights[shown], output)]


def draw_network(weights: Path, output: Path, data: Path | None = None) -> list[Path]:
    """Two pictures of one network: variances before and after the attention, feature maps.

    Args:
        weights: safetensors file of any network of ramedge.
        output: folder to write to; files of the same name are replaced.
        data: folder of photos to look at; `None` takes the shipped ones.

    Raises:
        RamedgeError: weights or photos cannot be read, or a picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    photos = figure_photos(data)
    network = load_weights(weights).network
    name = network.config.attention
    variances, features = output / f"variances_{name}.png", output / f"features_{name}.png"
    _save(_before_and_after(channel_variances(network, photos), title(name)), variances)
    examples = find_examples(network, photos[0], _EXAMPLES)
    rows = {kind: getattr(examples, kind) for kind in _KINDS}
    _save(_feature_grid(photos[0], rows, title(name)), features)
    return [variances, features]


def figure_photos(data: Path | None) -> list[Pixels]:
    """Low resolution of the first `MAX_PHOTOS` photos of a folder, or of the shipped photos.

    Raises:
        InputError: no such folder, no photo, or an unreadable one.
    """
    paths = map(sample_photo, PHOTOS) if data is None else find_photos(data)[:MAX_PHOTOS]
    return [low_resolution(path) for path in paths]


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)


def _variance_panels(panels: Mapping[str, NDArray[np.float64]], heading: str) -> Figure:
    """A panel each, channels to the right and blocks downwards, one grey scale for all."""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.0 * columns + 1.0, 1.9 * rows + 0.8, heading)
    axes: list[Axes] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    _draw_variances(figure, axes, panels)
    return figure


def _before_and_after(variances: Variances, name: str) -> Figure:
    figure = _figure(10.0, 4.2, f"{name}: variance of each channel, mean over photos")
    axes: list[Axes] = list(np.ravel(figure.subplots(1, 2)))
    panels = {
        "before the attention": variances.before,
        "after the attention": variances.after,
    }
    _draw_variances(figure, axes, panels)
    return figure


def _draw_variances(
    figure: Figure, axes: Sequence[Axes], panels: Mapping[str, NDArray[np.float64]]
) -> None:
    from matplotlib.colors import LogNorm

    # The largest of a thousand would leave the rest black: the top of the scale is a percentile.
    top = float(np.percentile(np.concatenate([v.ravel() for v in panels.values()]), 99))
    top = top if top > 0 else 1.0
    norm = LogNorm(top * 10.0**-_DECADES, top, clip=True)
    image = None
    for axis, (name, values) in zip(axes, panels.items(), strict=False):
        blocks, channels = values.shape
        image = axis.imshow(
            np.maximum(values, norm.vmin or 0.0),
            cmap="gray",
            norm=norm,
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, channels + 0.5, blocks + 0.5, 0.5),
        )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("channel", fontsize=8)
        axis.set_ylabel("block", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_xticks(_ticks(channels))
        axis.set_yticks(_ticks(blocks))
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    assert image is not None  # there is at least one panel
    bar = figure.colorbar(image, ax=list(axes), extend="both", fraction=0.05, pad=0.02)
    bar.set_label("variance (levels² of 0–255)", fontsize=9)


def _ticks(count: int) -> list[int]:
    """At most five of the numbers from 1 to `count`, both ends among them."""
    return sorted({round(value) for value in np.linspace(1, count, min(count, 5))})


def _feature_grid(pixels: Pixels, rows: Mapping[str, Sequence[Example]], name: str) -> Figure:
    """The photo, then a row for each kind: maps before and after the attention, in pairs."""
    from matplotlib.colors import CenteredNorm

    height, width = pixels.shape[:2]
    columns = 2 * _EXAMPLES
    side = 2.7
    tall = side * min(max(height / width, 0.5), 1.5)
    heading = f"Feature maps before and after the attention ({name})"
    figure = _figure(side * columns + 0.6, (tall + 0.35) * (len(rows) + 1) + 0.5, heading)
    axes = figure.subplots(len(rows) + 1, columns, squeeze=False)
    for axis in np.ravel(axes):
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].imshow(pixels)
    axes[0, 0].set_title("photo, as the network sees it", fontsize=9)
    for axis in axes[0, 1:]:
        axis.set_axis_off()
    beside = axes[0, 1]
    legend = beside.text(0.04, 0.96, _LEGEND, transform=beside.transAxes, va="top", fontsize=10)
    legend.set_in_layout(False)  # it reaches over the empty places to the right
    for line, (kind, examples) in zip(axes[1:], rows.items(), strict=True):
        line[0].set_ylabel(f"{kind}:\n{_KINDS[kind]}", fontsize=9)
        for index, example in enumerate(examples):
            # One scale for both, so that what is suppressed looks so; outliers may saturate.
            reach = float(np.percentile(np.abs(example.before), 99.5)) or 1.0
            norm = CenteredNorm(0.0, reach)
            where = f"block {example.block + 1}, channel {example.channel + 1}"
            for axis, values, text in (
                (line[2 * index], example.before, where),
                (line[2 * index + 1], example.after, f"{example.energy_kept:.0%} of the energy"),
            ):
                axis.imshow(values, cmap="RdBu_r", norm=norm)
                axis.set_title(text, fontsize=9)
    return figure


def _figure(width: float, height: float, heading: str) -> Figure:
    """A figure without pyplot: drawn by Agg, kept by nobody."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(heading, fontsize=12)
    return figure
