"""The processes of a run: several started by torchrun, or one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ramedge.errors import UsageError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process and its process group.

    Attributes:
        rank: of this process, from 0.
        world: number of processes.
        device: of this process.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The one that prints, validates and writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether gradients have to be averaged."""
        return self.world > 1

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process, so that all processes decide the same."""
        if not self.several:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes)
        return bool(votes.item())

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.several:
            dist.barrier()


def choose_device(name: str) -> torch.device:
    """The torch device of a `--device` option: `auto` is a GPU if there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" holds no values
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"Device {name!r} is not available here: try --device cpu.") from None
    return device


@contextmanager
def processes(device_name: str) -> Iterator[Processes]:
    """Join the process group that torchrun describes in the environment, if there is one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(device_name)
    if world == 1:
        yield Processes(rank=0, world=1, device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), world=world, device=device)
    finally:
        dist.destroy_process_group()
