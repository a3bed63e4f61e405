"""What a frame needs in memory, whole or in tiles, on one runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ramedge.runtimes.runtime import Runtime
from ramedge.tiling.attention.blockwise import feature_bytes, waiting_rows
from ramedge.tiling.choice import Blockwise, Independent, Temporal, TileChoice, Tiles
from ramedge.tiling.grid import TilePlan
from ramedge.tiling.halos import Halos
from ramedge.tiling.memory import Footprint
from ramedge.tiling.network_memory import NetworkMemory, network_memory, peak_bytes
from ramedge.tiling.plans import TilePlans


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """The memory of frames of one network and one kind of pixels.

    Attributes:
        feature_bytes: kept for each pixel of a frame that is run block by block, see
            `ramedge.tiling.attention.blockwise`; 0 where the runtime cannot.
        on_gpu: whether the network's graphs stand in a GPU's own memory.
        features_on_device: whether the features stay where the graphs are; otherwise they are in
            the host's memory, and cross the bus for every block.
    """

    network: NetworkMemory
    plans: TilePlans
    feature_bytes: int = 0
    on_gpu: bool = False
    features_on_device: bool = True

    def needed(self, height: int, width: int, choice: TileChoice) -> Footprint:
        """For a frame of `height`×`width` low-resolution pixels."""
        if not isinstance(choice, Tiles) or self.plans.reads_whole(height, width, choice):
            return self._graphs(peak_bytes(self.network.frame, height * width))
        plan = self.plans.rendering(height, width, choice)
        pixels = plan.source_height * plan.source_width
        if isinstance(choice, Independent):
            return self._graphs(peak_bytes(self.network.frame, pixels))
        if isinstance(choice, Blockwise):
            return self._graphs(peak_bytes(self.network.blocks, pixels)) + self._features(plan)
        statistics = self.plans.statistics(plan)
        needed = self._graphs(
            peak_bytes(self.network.tile, pixels)
            + peak_bytes(
                self.network.statistics, statistics.source_height * statistics.source_width
            )
        )
        if isinstance(choice, Temporal) and isinstance(choice.recompute, Blockwise):
            needed += self.needed(height, width, choice.recompute)
        return needed

    def _graphs(self, needed: int) -> Footprint:
        return Footprint(device=needed) if self.on_gpu else Footprint(host=needed)

    def _features(self, plan: TilePlan) -> Footprint:
        needed = self.feature_bytes * (plan.height + waiting_rows(plan)) * plan.width
        there = self.on_gpu and self.features_on_device
        return Footprint(device=needed) if there else Footprint(host=needed)


def frame_memory(
    runtime: Runtime, halos: Halos, pixel_type: np.dtype[Any], images: int = 1
) -> FrameMemory:
    """The memory of frames of 8 or 16-bit pixels, of which `images` run at the same time."""
    limits = runtime.limits
    return FrameMemory(
        network=network_memory(runtime, pixel_type),
        plans=TilePlans(halos, 8 * pixel_type.itemsize),
        feature_bytes=images * feature_bytes(runtime, pixel_type),
        on_gpu=limits.free_bytes is not None,
        features_on_device=limits.features_on_device,
    )
