"""One training on several processes, as `torchrun` starts them: gradients are averaged by torch.

Every process holds the model and trains on its share of the rows. Process 0 alone tells callbacks
and writes checkpoints. Without `torchrun` all of this is one process that talks to nobody.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lvm.tensors import Tensors

Rows = np.ndarray[Any, np.dtype[np.int64]]
Step = Callable[[Tensors, torch.Generator], Tensors]


@dataclass(frozen=True)
class World:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process tells callbacks and writes files."""
        return self.rank == 0


def present_world() -> World:
    """Return the group of processes that this one has joined; alone when it joined none."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


def launched_world() -> World:
    """Return the place that `torchrun` gave this process, whether it has joined yet or not."""
    return World(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def launched_device(device: str) -> str:
    """Return the device of this process: "cuda" becomes the one of its local rank."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


@contextlib.contextmanager
def joined(device: str = "cpu") -> Iterator[World]:
    """Join the processes that `torchrun` started, for the time of the block.

    NCCL connects CUDA devices, gloo everything else. A process that `torchrun` did not start
    stays alone.
    """
    if launched_world().size == 1:
        yield World()
        return
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(torch.device(device))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield present_world()
    finally:
        dist.destroy_process_group()


def share_of_rows(rows: Rows, world: World) -> Rows:
    """Return the rows that a process trains on, in ascending order.

    Contiguous pieces, so that each process reads its own part of the store. All are equally long,
    since every process must take the same number of steps: where the rows do not divide, a process
    also takes the first row of the next (at most `size` - 1 rows are taken twice).
    """
    if len(rows) < world.size:
        raise ValueError(
            f"{len(rows)} rows cannot be shared by {world.size} processes: start fewer"
        )
    length = -(-len(rows) // world.size)
    start = min(world.rank * len(rows) // world.size, len(rows) - length)
    return rows[start : start + length]


class _Step(nn.Module):
    """A training step as the `forward` that DistributedDataParallel wants to wrap."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        losses: Tensors = self.model.training_step(batch, generator)
        return losses


def parallel_step(model: Any, world: World) -> Step:
    """Return the model's `training_step`, with gradients averaged over the processes."""
    if world.size == 1:
        step: Step = model.training_step
        return step
    # An objective need not use every part in every step: a decoder, a head without labels.
    return DistributedDataParallel(
        _Step(model), broadcast_buffers=False, find_unused_parameters=True
    )


def only_locally(step: Step, locally: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which gradients gather here without being averaged yet."""
    if locally and isinstance(step, DistributedDataParallel):
        return step.no_sync()
    return contextlib.nullcontext()


def sum_over(world: World, values: Mapping[str, float]) -> dict[str, float]:
    """Return the sums of values over all processes; each must give the same names."""
    if world.size == 1:
        return dict(values)
    names = sorted(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    packed = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
    dist.all_reduce(packed)
    return dict(zip(names, packed.tolist(), strict=True))


def agree(world: World, reason: str | None) -> str | None:
    """Return the reason to stop that process 0 has, on every process."""
    if world.size == 1:
        return reason
    told = [reason]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def wait_for_all(world: World) -> None:
    """Return when every process has come here."""
    if world.size > 1:
        dist.barrier()
