"""`ramedge engines`: the engines in the user's cache."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ramedge.cli import console
from ramedge.cli.engine_options import (
    MaxShape,
    MinShape,
    OptLevel,
    OptShape,
    Rebuild,
    ShapeOptions,
    Workspace,
)
from ramedge.cli.options import PrecisionChoice
from ramedge.errors import RuntimeUnavailableError, WeightsError
from ramedge.runtimes.tensorrt.cache import EngineCache, Record

engines = typer.Typer(help="Build, list, verify and remove TensorRT engines.")


@engines.command("list")
def list_engines() -> None:
    """List the engines in the user's cache."""
    cache = EngineCache()
    records = cache.records()
    table = Table(box=None, pad_edge=False)
    for column in ("engine", "network", "graph", "precision", "shapes", "for", "MB", "built"):
        table.add_column(column, no_wrap=True)
    for record in records:
        key = record.key
        table.add_row(
            key.name,
            f"{key.network} ×{key.scale}",
            f"{key.graph} {key.values}",
            key.precision,
            "/".join(key.shapes),
            _target(record),
            f"{record.size / 1e6:.1f}",
            record.built[:16],
        )
    if records:
        console.print_table(table)
    console.stdout.print(f"{_count(len(records))} in {cache.folder}", markup=False)
    damaged = len(cache.strays())
    if damaged:
        console.notice(f"{damaged} more cannot be read: see ramedge engines verify.")


class EngineChoice(str, Enum):
    """TensorRT variants."""

    auto = "auto"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


@engines.command()
def build(
    model: Annotated[
        Path, typer.Argument(help="Folder that ramedge export made, or an .onnx file.")
    ],
    runtime: Annotated[
        EngineChoice,
        typer.Option(help="TensorRT variant. auto: the one that is installed and finds a GPU."),
    ] = EngineChoice.auto,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            "--precision",
            "-p",
            help="Precision of the engine. auto: the model's own, fp16 for an .onnx file. fp16 is "
            "possible from an fp32 model.",
        ),
    ] = PrecisionChoice.auto,
    scale: Annotated[
        int, typer.Option("--scale", "-s", help="Upscaling factor of an .onnx file: 2, 3 or 4.")
    ] = 2,
    min_shape: MinShape = None,
    opt_shape: OptShape = None,
    max_shape: MaxShape = None,
    opt_level: OptLevel = None,
    workspace: Workspace = None,
    rebuild: Rebuild = False,
) -> None:
    """Build an engine from an exported model for this machine's GPU.

    Needed for a model that was exported on another machine: ramedge export builds the engine of
    its own machine.
    """
    from ramedge.cli.engine_build import build_engine, check_engine_options, check_model
    from ramedge.runtimes.registry import best
    from ramedge.runtimes.tensorrt.variant import VARIANTS

    check_model(model)
    if runtime is EngineChoice.auto:
        backend, reason = best()
        if backend.name not in VARIANTS:
            raise RuntimeUnavailableError(
                f"No engine can be built here: {reason}. See ramedge doctor for what is missing, "
                "or name a --runtime: tensorrt-rtx builds without a GPU."
            )
        name = VARIANTS[backend.name].name
    else:
        name = runtime.value
    shapes = ShapeOptions(min_shape, opt_shape, max_shape, opt_level, workspace)
    check_engine_options(name, shapes)
    build_engine(model, name, precision.value, shapes, scale, rebuild)


@engines.command()
def verify() -> None:
    """Check that no engine in the cache has changed since it was built."""
    cache = EngineCache()
    bad = 0
    for record in cache.records():
        try:
            cache.load(record)
        except WeightsError as failure:
            bad += 1
            console.error(str(failure))
    for name in cache.strays():
        bad += 1
        console.error(f"{cache.folder / name}: a plan or record without the other, or damaged.")
    if bad:
        console.stderr.print("Remove them with: ramedge engines prune")
        raise typer.Exit(1)
    count = len(cache.records())
    console.stdout.print(f"{_count(count)} verified: unchanged since they were built.")


@engines.command()
def prune(
    everything: Annotated[bool, typer.Option("--all", help="Remove all engines.")] = False,
) -> None:
    """Remove engines that cannot be used: damaged, or for another library version or GPU.

    Engines for a library or GPU that is not present now are kept, because another environment
    may use them.
    """
    cache = EngineCache()
    removed = 0
    for name in cache.strays():
        cache.remove(name)
        removed += 1
    for record in cache.records():
        reason = "removed by --all" if everything else _useless(cache, record)
        if reason:
            cache.remove(record.key.name)
            removed += 1
            console.stderr.print(f"{record.key.name}: {reason}", markup=False)
    if everything:
        for path in cache.folder.glob("*.timing"):
            path.unlink(missing_ok=True)
    console.stdout.print(f"Removed {_count(removed)}, {len(cache.records())} left.")


def _useless(cache: EngineCache, record: Record) -> str:
    from ramedge.runtimes.tensorrt.cuda import NO_GPU, gpu_facts
    from ramedge.runtimes.tensorrt.variant import VARIANTS

    try:
        cache.load(record)
    except WeightsError as failure:
        return str(failure)
    key = record.key
    variant = next((f for f in VARIANTS.values() if f.name == key.variant), None)
    version = "" if variant is None else variant.version()
    facts = gpu_facts()
    if not version or (facts == NO_GPU and key.gpu != NO_GPU.name):
        return ""
    if version != key.version:
        return f"for {key.variant} {key.version}, here is {version}"
    here = (facts.name, facts.compute_capability, facts.driver)
    if here != (key.gpu, key.compute_capability, key.driver):
        return f"for {_target(record)} with CUDA {key.driver}, here is {facts.name}"
    return ""


def _count(number: int) -> str:
    return f"{number} engine" if number == 1 else f"{number} engines"


def _target(record: Record) -> str:
    key = record.key
    return f"{key.variant} {key.version}, {'no GPU' if key.gpu == 'none' else key.gpu}"
