from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import make_network

from ramedge.artifacts.model_files import ModelFiles
from ramedge.errors import UsageError
from ramedge.export.onnx import export_onnx
from ramedge.host_memory import resident_bytes
from ramedge.media.video import VideoReader
from ramedge.network.channel_statistics import attention_change, merge, save_excitation
from ramedge.network.config import NetworkConfig
from ramedge.network.srram import SRRAM
from ramedge.network.tiled import TiledNetwork, excitation_of
from ramedge.quality.metrics import psnr
from ramedge.runtimes.backend import PrecisionName
from ramedge.runtimes.openvino.session import open_onnx
from ramedge.runtimes.openvino.session import open_openvino as run_in_openvino
from ramedge.runtimes.runtime import Runtime
from ramedge.runtimes.torch.session import open_torch as run_in_torch
from ramedge.samples import PHOTOS, sample_photo
from ramedge.tiling.attention.blockwise import BLOCK_HALO, BlockRunner
from ramedge.tiling.attention.fixed_point import TOLERANCE, AttentionSolver
from ramedge.tiling.choice import Blockwise, FixedPoint, Independent, Temporal, Tiles
from ramedge.tiling.execution import IndependentTiler, SharedAttentionTiler
from ramedge.tiling.grid import TilePlan
from ramedge.tiling.halos import Halos
from ramedge.tiling.options import TilingOptions
from ramedge.types import Window
from ramedge.upscaling.open_model import RuntimeSettings
from ramedge.upscaling.upscaler import Upscaler

ATTENTION = 20.0
FEATURES = 8.0
"""Make the attention of an untrained network differ from tile to tile."""


def open_torch(network: SRRAM, folder: Path) -> Runtime:
    return run_in_torch(network, "fp32", "cpu")


def open_openvino(network: SRRAM, folder: Path) -> Runtime:
    export_onnx(network, folder / "model.onnx")
    export_onnx(network, folder / "tile.onnx", kind="tile")
    save_excitation(excitation_of(network), folder / "attention.safetensors")
    files = ModelFiles(
        network.config.scales[0],
        folder / "model.onnx",
        tile=folder / "tile.onnx",
        excitation=folder / "attention.safetensors",
    )
    return run_in_openvino(files, "fp32")


@pytest.fixture(scope="module", params=[2, 3, 4])
def network(request: pytest.FixtureRequest) -> SRRAM:
    """Untrained, with an attention that differs from tile to tile."""
    config = NetworkConfig(blocks=3, channels=16, reduction=4, scales=(request.param,))
    network = make_network(config, seed=request.param)
    with torch.no_grad():
        for block in network.blocks:
            block.attention.excitation.fc1.weight.mul_(ATTENTION)  # type: ignore[union-attr]
            block.conv2.weight.mul_(FEATURES)  # type: ignore[union-attr]
    return network


@pytest.fixture(scope="module", params=[open_torch, open_openvino])
def runtime(
    request: pytest.FixtureRequest, network: SRRAM, tmp_path_factory: pytest.TempPathFactory
):
    with request.param(network, tmp_path_factory.mktemp("tiles")) as opened:
        yield opened


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A photo of 101×83 whose corner differs much from the rest, 16 bits."""
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        pixels = np.asarray(opened.convert("RGB"))[100:183, 100:201].astype(np.uint16) * 257
    pixels[:30, :30] //= 6
    return pixels


def tiler(runtime: Runtime, network: SRRAM) -> SharedAttentionTiler:
    halos = Halos(network.config.receptive_field(network.config.scales[0]))
    return SharedAttentionTiler(runtime, halos)


def ignore(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.mark.parametrize(
    "tiles",
    [FixedPoint(16), FixedPoint(47), Blockwise(16), Blockwise(47)],
)
def test_tiles_equal_the_whole_frame(
    runtime: Runtime, network: SRRAM, frame: np.ndarray, tiles: Tiles
) -> None:
    whole = runtime.infer(frame[None])[0].astype(int)
    found = tiler(runtime, network).upscale(frame, tiles, ignore).astype(int)
    assert np.abs(found - whole).max() <= 1e-4 * 65535
    eight = (frame >> 8).astype(np.uint8)
    whole, found = (
        runtime.infer(eight[None])[0],
        tiler(runtime, network).upscale(eight, tiles, ignore),
    )
    difference = np.abs(whole.astype(int) - found)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-4


def test_tiles_alone_would_differ(runtime: Runtime, network: SRRAM, frame: np.ndarray) -> None:
    """What the frame's attention is for: without it the same tiles are far off."""
    whole = runtime.infer(frame[None])[0].astype(int)
    halo = network.config.receptive_field(network.config.scales[0])
    worst = 0
    for tile in TilePlan(*frame.shape[:2], 16, halo):
        alone = runtime.infer(frame[tile.source.slices][None])[0].astype(int)
        scale = network.config.scales[0]
        kept = alone[tile.interior.within(tile.source).scaled(scale).slices]
        worst = max(worst, np.abs(kept - whole[tile.interior.scaled(scale).slices]).max())
    assert worst > 10 * 1e-4 * 65535


def test_as_many_iterations_as_blocks_are_exact_from_any_start(
    runtime: Runtime, network: SRRAM, frame: np.ndarray
) -> None:
    excitation = excitation_of(network)
    halo = network.config.receptive_field(network.config.scales[0])
    plan = TilePlan(*frame.shape[:2], 32, halo)

    def iterate(logits: np.ndarray) -> np.ndarray:
        parts = [
            runtime.infer_statistic(
                frame[tile.source.slices], logits, tile.interior.within(tile.source)
            )
            for tile in plan
        ]
        return excitation.logits(merge(parts).variance)

    rng = np.random.default_rng(1)
    ends = []
    for _ in range(2):
        logits = rng.normal(0, 3, excitation.shape)
        for _ in range(network.config.blocks):
            logits = iterate(logits)
        ends.append(logits)
    assert attention_change(*ends) < 1e-6
    solved = AttentionSolver(runtime, excitation).solve(frame, plan)
    assert attention_change(solved.logits, ends[0]) <= 10 * TOLERANCE[16]
    assert solved.remaining <= TOLERANCE[16]


def test_statistic_is_that_of_the_interior(
    runtime: Runtime, network: SRRAM, frame: np.ndarray
) -> None:
    """Against a forward hook in PyTorch and numpy's variance."""
    part, interior = frame[:40, :50], Window(5, 7, 31, 44)
    logits = np.random.default_rng(2).normal(0, 1, excitation_of(network).shape)
    _, statistic = runtime.infer_tile(part, logits, interior)
    again = runtime.infer_statistic(part, logits, interior)
    image = torch.from_numpy(part.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    features = network.enter(image)
    with torch.no_grad():
        for index, block in enumerate(network.blocks):
            x = block.transform(features)  # type: ignore[operator]
            inner = x[0].double().numpy()[:, interior.top : interior.bottom,
                                          interior.left : interior.right]  # fmt: skip
            for found in (statistic, again):
                np.testing.assert_allclose(found.variance[index], inner.var(axis=(1, 2)), rtol=2e-4)
            channel = torch.from_numpy(logits[index]).float()[None, :, None, None]
            features = features + block.attention.recalibrate(x, channel)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("recompute", [FixedPoint(32), Blockwise(32)])
def test_temporal_recomputes_at_a_cut(
    runtime: Runtime, network: SRRAM, frame: np.ndarray, recompute: FixedPoint | Blockwise
) -> None:
    temporal, tiles = tiler(runtime, network), Temporal(recompute)
    temporal.upscale(frame, tiles, ignore)
    assert not temporal.from_previous
    still = temporal.upscale(frame, tiles, ignore)
    assert temporal.from_previous
    whole = runtime.infer(frame[None])[0].astype(int)
    assert np.abs(still - whole).max() <= 1e-4 * 65535
    other = np.ascontiguousarray(np.rot90(frame // 9))
    cut = temporal.upscale(other, tiles, ignore)
    assert not temporal.from_previous
    assert np.abs(cut - runtime.infer(other[None])[0].astype(int)).max() <= 1e-4 * 65535


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nothing_beyond_the_receptive_field_matters(scale: int) -> None:
    """An impulse: with the attention held, the output changes exactly as far as computed."""
    config = NetworkConfig(blocks=2, channels=16, reduction=4, scales=(scale,))
    network = make_network(config, seed=7)
    radius = config.receptive_field(scale)
    side = 2 * radius + 9
    tiled = TiledNetwork(network)
    logits = torch.zeros(1, 2, 16)
    mask = torch.ones(1, 1, side, side)
    image = torch.full((1, 3, side, side), 0.5)
    changed = image.clone()
    middle = side // 2
    changed[:, :, middle, middle] = 1.0
    with torch.no_grad():
        difference = (tiled(changed, logits, mask)[0] - tiled(image, logits, mask)[0]).abs()
    rows = np.flatnonzero(difference.amax(dim=(0, 1, 3)).numpy() > 0)
    first, last = rows[0] / scale, (rows[-1] + 1) / scale - 1
    assert middle - radius <= np.floor(first)
    assert np.ceil(last) <= middle + radius
    # Not much larger than needed either; FP32 swallows the faintest of what gets there.
    assert first < middle - radius + 2


def test_a_model_without_tiles_says_so(tmp_path: Path, small_network: SRRAM) -> None:
    export_onnx(small_network, tmp_path / "model.onnx")
    with open_onnx(tmp_path / "model.onnx", 2, "fp32") as runtime:
        with pytest.raises(UsageError, match="export it again"):
            runtime.infer_statistic(
                np.zeros((8, 8, 3), np.uint8), np.zeros((2, 16)), Window(0, 0, 8, 8)
            )
        with pytest.raises(UsageError, match="export it again"):
            SharedAttentionTiler(runtime, Halos(10))


def recomputed_frames(frames: list[np.ndarray], side: int) -> list[bool]:
    """Whether `temporal` recomputed each frame, shipped network; all are close to whole frames."""
    settings = RuntimeSettings(precision="fp32")
    with (
        Upscaler(settings, TilingOptions(side, "temporal")) as temporal,
        Upscaler(settings, TilingOptions("whole")) as whole,
    ):
        recomputed = []
        for frame in frames:
            found = temporal.upscale(frame)
            recomputed.append(not temporal.attention_from_previous)
            assert psnr(found.astype(float), whole.upscale(frame)) >= 70
    return recomputed


def test_temporal_sees_the_cut_of_a_synthetic_clip() -> None:
    """Pictures that move by a pixel a frame, and another picture from the fourth on."""
    clips = []
    for name in PHOTOS[:2]:
        with Image.open(sample_photo(name)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        clips.append([pixels[80:260, 90 + n : 306 + n] for n in range(3)])
    recomputed = recomputed_frames(clips[0] + clips[1], 72)
    assert recomputed[:4] == [True, False, False, True]


def test_temporal_sees_a_cut_of_a_film(shared: Path) -> None:
    """`bikes` cuts from one shot to another at frame 30, in the middle of much movement, for which
    frames may be recomputed as well."""
    with VideoReader(shared / "data" / "video" / "bikes.mp4", None, 33, False) as reader:
        frames = [np.asarray(Image.fromarray(frame.pixels).reduce(4)) for frame in reader]
    recomputed = recomputed_frames(frames[27:], 64)
    assert recomputed[0]
    assert recomputed[3]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shipped_networks_in_tiles_equal_the_whole_frame(scale: int) -> None:
    """With the halo that was measured for them, on a picture of odd size."""
    with Image.open(sample_photo(PHOTOS[0])) as opened:
        pixels = np.asarray(opened.convert("RGB"))[60:163, 100:231]
    settings = RuntimeSettings(scale=scale, precision="fp32")
    with (
        Upscaler(settings, TilingOptions(47)) as tiled,
        Upscaler(settings, TilingOptions("whole")) as whole,
    ):
        assert tiled.model.halos.rendering("exact", 8) < tiled.model.halos.receptive_field
        difference = np.abs(tiled.upscale(pixels).astype(int) - whole.upscale(pixels))
        assert any("Tiles of 47 pixels" in note for note in tiled.notes)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 4e-5  # rounding ties: a handful of values


def test_four_pixels_round_a_tile_are_what_a_block_sees(runtime: Runtime, network: SRRAM) -> None:
    """Pixels outside of them change nothing, and one pixel of them does."""
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 65536, (31, 37, 3)).astype(np.uint16)
    scale = network.config.scales[0]
    whole = runtime.infer(frame[None])[0].astype(int)
    differ = []
    for halo in (BLOCK_HALO, BLOCK_HALO - 1):
        blocks, found = BlockRunner(runtime, excitation_of(network)), np.zeros_like(whole)
        plan = TilePlan(31, 37, 8, halo)
        for tile, result in blocks.tiles(frame, plan, lambda: None):
            kept = tile.interior.within(tile.source).scaled(scale)
            found[tile.interior.scaled(scale).slices] = result[kept.slices]
        differ.append(np.abs(found - whole).max())
    assert differ[0] <= 2
    assert differ[1] > 10 or scale == 2  # which sees the fourth one too faintly here


@pytest.mark.parametrize(("precision", "least"), [("fp32", 100), ("auto", 75), ("int8", 75)])
def test_block_by_block_rounds_as_the_frame_does(precision: PrecisionName, least: float) -> None:
    with Image.open(sample_photo(PHOTOS[1])) as opened:
        pixels = np.asarray(opened.convert("RGB"))[60:163, 100:231]
    settings = RuntimeSettings(precision=precision)
    with (
        Upscaler(settings, TilingOptions(48)) as tiled,
        Upscaler(settings, TilingOptions("whole")) as whole,
    ):
        found, expected = tiled.upscale(pixels), whole.upscale(pixels)
        assert any("block by block" in note for note in tiled.notes)
    same = np.array_equal(found, expected)
    assert same or psnr(found.astype(float), expected.astype(float)) >= least


def test_two_frames_at_once_keep_their_features_apart(runtime: Runtime, network: SRRAM) -> None:
    """As colours and alpha of one picture, whose strips are made in turn."""
    rng = np.random.default_rng(5)
    frames = [rng.integers(0, 256, (40, 30, 3)).astype(np.uint8) for _ in range(2)]
    shared, tiles = tiler(runtime, network), Blockwise(16)
    alone = [tiler(runtime, network).upscale(frame, tiles, ignore) for frame in frames]
    parts = zip(*(shared.bands(frame, tiles, ignore) for frame in frames), strict=True)
    for found, expected in zip(zip(*parts, strict=True), alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected)


def test_without_memory_for_its_features_a_frame_is_iterated_over() -> None:
    frame = np.zeros((300, 300, 3), np.uint8)
    limit = resident_bytes() + (150 << 20)
    options = TilingOptions(32, memory=limit)
    with Upscaler(RuntimeSettings(precision="fp32"), options) as upscaler:
        upscaler.upscale(frame)
    assert any(note.startswith("Tiles of 32") for note in upscaler.notes)
    assert not any("block by block" in note for note in upscaler.notes)


def test_a_tiler_refuses_tiles_of_the_other_kind(runtime: Runtime, network: SRRAM) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(UsageError, match="share no attention"):
        tiler(runtime, network).upscale(pixels, Independent(16), ignore)
    independent = IndependentTiler(lambda part: part, 1, Halos(10))
    with pytest.raises(UsageError, match="share one attention"):
        independent.upscale(pixels, FixedPoint(16), ignore)
