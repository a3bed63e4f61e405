"""A lower bound of the memory of a training, checked before it starts."""

from __future__ import annotations

from ramedge.errors import UsageError
from ramedge.host_memory import available_bytes
from ramedge.network.config import NetworkConfig
from ramedge.training.recipe import Recipe

_GIB = 2**30


def least_bytes(network: NetworkConfig, recipe: Recipe, world: int = 1) -> int:
    """Lower bound of the bytes of a step in one of `world` processes.

    Counted are the blocks' weights, their gradients and the momentum in FP32, and the inputs of the
    blocks' convolutions, which the backward pass needs.
    """
    convolutions = 2 * network.blocks
    weights = convolutions * 9 * network.channels**2 * 4 * 3
    pixels = max(1, recipe.batch // world) * recipe.patch**2
    return weights + convolutions * pixels * network.channels * (2 if recipe.bf16 else 4)


def check_memory(network: NetworkConfig, recipe: Recipe, world: int = 1) -> None:
    """Refuse a training that certainly does not fit into the host's memory.

    Raises:
        UsageError: a step needs more than is free.
    """
    needed, free = least_bytes(network, recipe, world), available_bytes()
    if needed > free:
        raise UsageError(
            f"{recipe.batch} patches of {recipe.patch}×{recipe.patch} through {network.name} need "
            f"more than {needed / _GIB:.0f} GiB, and {free / _GIB:.0f} are free: "
            "lower --batch, --patch or --channels."
        )
