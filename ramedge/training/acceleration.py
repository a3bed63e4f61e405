"""Which accelerations of a recipe this machine can use, decided once, with a notice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import torch

from ramedge.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Acceleration:
    """Accelerations in use, and a notice for each that the recipe asks for and the device lacks."""

    bf16: bool
    compile: bool
    channels_last: bool
    notices: tuple[str, ...] = ()


def accelerate(recipe: Recipe, device: torch.device) -> Acceleration:
    """The accelerations of the recipe that the device supports."""
    notices: list[str] = []
    bf16 = recipe.bf16 and _computes_bf16(device)
    if recipe.bf16 and not bf16:
        notices.append(f"No bfloat16 arithmetic on this {device.type}: training in FP32.")
    if device.type == "cpu" and not bf16:
        # Measured on AVX2: oneDNN's weight gradient is about twice as fast in the plain layout,
        # which torch.compile would change; without both a step takes 0.85 of the time.
        return Acceleration(bf16=False, compile=False, channels_last=False, notices=tuple(notices))
    compiles = recipe.compile and _can_compile(device)
    if recipe.compile and not compiles:
        notices.append("No C++ compiler (g++ or clang++) found: training without torch.compile.")
    # Measured on a CPU with AVX512-BF16: the compiler chooses the layouts better itself, a step
    # takes 0.86 of the time with plain tensors.
    channels_last = recipe.channels_last and not (device.type == "cpu" and compiles)
    return Acceleration(
        bf16=bf16, compile=compiles, channels_last=channels_last, notices=tuple(notices)
    )


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _can_compile(device: torch.device) -> bool:
    return device.type == "cuda" or any(map(shutil.which, ("g++", "clang++")))
