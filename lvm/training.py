"""The one training loop, for pre-training and fine-tuning alike.

A model brings its `training_step`; batches come from a factory called once per epoch; whoever
wants to log, plot or track passes callbacks. The loop itself logs nothing and opens no data.
A run is a function of model, batches and configuration: every random draw of step n comes from
a generator seeded with (seed, n), which is also why a resumed run repeats an unbroken one. Several
processes (`distributed`) train one model; each brings its own batches, equally many.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from lvm.acceleration import accelerated, seed_device
from lvm.configs import config_to_dict
from lvm.distributed import (
    agree,
    only_locally,
    parallel_step,
    present_world,
    sum_over,
    wait_for_all,
)
from lvm.optim import WeightAverage, cosine_with_warmup, parameter_groups
from lvm.resumption import load_state, save_state
from lvm.tensors import Batch, Tensors, batch_size, to_tensors
from lvm.train_config import PRECISIONS, TrainConfig

__all__ = [
    "PRECISIONS",
    "BatchFactory",
    "Callback",
    "Event",
    "FitResult",
    "StopTraining",
    "TrainConfig",
    "Trainable",
    "constant_batches",
    "fit",
    "step_generator",
]


class Trainable(nn.Module):
    """A model that the loop can train."""

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return {"loss": scalar, ...}; the other scalars are reported, not minimised."""
        raise NotImplementedError(f"{type(self).__name__} has no training_step")

    def trained(self) -> Iterable[nn.Parameter]:
        """Return the parameters that a training changes: all of them, unless overridden."""
        return self.parameters()


@dataclass(frozen=True)
class Event:
    """What callbacks are told: after each step, after each epoch, and once at the end.

    `epoch` and `step` count what is done; `values` are the step's, or the means of the epoch.
    """

    kind: Literal["step", "epoch", "end"]
    epoch: int
    step: int
    values: Mapping[str, float]
    model: Trainable


class StopTraining(Exception):
    """Raised by a callback to end the training; after an epoch's event nothing of it is lost."""


BatchFactory = Callable[[int], Iterable[Batch]]
Callback = Callable[[Event], None]


@dataclass(frozen=True)
class FitResult:
    """What a training did: means of every epoch, steps, seconds of this call, why it stopped."""

    history: tuple[Mapping[str, float], ...]
    steps: int
    seconds: float
    stopped: str | None = None


def fit(
    model: Trainable,
    batches: BatchFactory,
    config: TrainConfig,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> FitResult:
    """Train `model` in place.

    Parameters
    ----------
    model : brings `training_step`; moved to `config.device`, left in evaluation mode
    batches : batches(epoch) gives the batches of that epoch, the same ones for the same epoch
    callbacks : called with an `Event` in the order given; may raise StopTraining
    checkpoint : file of the resumable state, written every `checkpoint_every` epochs; where it
        exists the training goes on from it, and one made by another configuration raises

    Returns
    -------
    FitResult. A loss that is not finite raises FloatingPointError.
    """
    start = time.perf_counter()
    run = _Run(model.to(config.device), config)
    if checkpoint is not None and checkpoint.exists():
        run.resume(checkpoint)
    cuda = [torch.device(config.device)] if config.device.startswith("cuda") else []
    faster = accelerated(
        model, checkpointing=config.gradient_checkpointing, compiler=config.compiler
    )
    with torch.random.fork_rng(devices=cuda), faster:
        stopped = run.train(batches, callbacks, checkpoint)
    if run.average is not None:
        run.average.copy_to(model)
    model.eval()
    run.tell(callbacks, Event("end", run.epoch, run.step, (run.history or [{}])[-1], model))
    return FitResult(tuple(run.history), run.step, time.perf_counter() - start, stopped)


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Return the CPU generator of one step of a run: a function of (seed, step, rank) alone."""
    place = [seed, step, rank] if rank else [seed, step]
    state = np.random.SeedSequence(place).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def constant_batches(batches: Sequence[Batch]) -> BatchFactory:
    """Return a factory that gives the same batches in the same order in every epoch."""
    return lambda epoch: batches


@dataclass
class _Run:
    """State of a training: everything that a resumed run needs to repeat an unbroken one."""

    model: Trainable
    config: TrainConfig
    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        groups = parameter_groups(
            self.model, self.model.trained(), config.weight_decay, config.layer_decay
        )
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.world = present_world()
        self.losses_of = parallel_step(self.model, self.world)  # all take the weights of process 0
        decay = config.ema_decay
        self.average = WeightAverage(self.model, decay) if decay > 0 else None

    def train(
        self, batches: BatchFactory, callbacks: Sequence[Callback], checkpoint: Path | None
    ) -> str | None:
        """Run the epochs that are left; return why a callback stopped the training, or None."""
        stopped = None
        while self.epoch < self.config.epochs and stopped is None:
            before = self.epoch
            stopped = self.train_epoch(batches(self.epoch), callbacks)
            due = self.epoch % self.config.checkpoint_every == 0 or self.epoch == self.config.epochs
            whole = self.epoch > before  # a half epoch could not be resumed exactly
            if checkpoint is not None and whole and (due or stopped is not None):
                self.save(checkpoint)
        return stopped

    def train_epoch(self, batches: Iterable[Batch], callbacks: Sequence[Callback]) -> str | None:
        """Run one epoch; return why a callback stopped the training, or None."""
        length = math.ceil(_length(batches, self.config) / self.config.accumulate)
        sums: dict[str, float] = {}
        seen = 0.0
        self.model.train()  # a callback may have used a part of it for inference
        for index, group in enumerate(_groups(batches, self.config.accumulate)):
            self._set_rate((self.epoch + min(index / length, 1.0)) / self.config.epochs)
            values, count = self._take_step(group)
            self.step += 1
            seen += count
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value * count
            event = Event("step", self.epoch, self.step, values, self.model)
            if (stopped := self.tell(callbacks, event)) is not None:
                return stopped
        if seen == 0:
            raise ValueError(f"the batches of epoch {self.epoch} are empty: nothing to train on")
        self.history.append({name: value / seen for name, value in sums.items()})
        self.epoch += 1
        event = Event("epoch", self.epoch, self.step, self.history[-1], self.model)
        return self.tell(callbacks, event)

    def tell(self, callbacks: Sequence[Callback], event: Event) -> str | None:
        """Tell the callbacks of process 0; return why one stopped the training, or None."""
        reason = None
        try:
            for callback in callbacks if self.world.leads else ():
                callback(event)
        except StopTraining as stop:
            reason = str(stop) or "a callback stopped the training"
        return agree(self.world, reason)

    def _take_step(self, group: Sequence[Batch]) -> tuple[dict[str, float], float]:
        """Change the weights once; return the means over the objects, and their number."""
        generator = step_generator(self.config.seed, self.step, self.world.rank)
        seed_device(generator.initial_seed(), self.config.device)  # for dropout, stochastic depth
        if not self.model.training:  # to tell every layer costs a small step
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        counts = [batch_size(batch) for batch in group]
        total = sum_over(self.world, {"objects": float(sum(counts))})["objects"]
        sums: dict[str, float] = {}
        for index, (batch, count) in enumerate(zip(group, counts, strict=True)):
            with only_locally(self.losses_of, index + 1 < len(group)):
                losses = self._losses(batch, generator)
                # Every object weighs the same, however batches and processes divide them.
                torch.autograd.backward(losses["loss"] * (count * self.world.size / total))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * count
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.config.clip_norm, error_if_nonfinite=True)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        values = {name: v / total for name, v in sum_over(self.world, sums).items()}
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return {**values, "gradient_norm": float(norm), "learning_rate": rate}, total

    def _losses(self, batch: Batch, generator: torch.Generator) -> Tensors:
        tensors = to_tensors(batch, self.config.device)
        dtype = PRECISIONS[self.config.precision]
        device = torch.device(self.config.device).type
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            losses = self.losses_of(tensors, generator)
        if not torch.isfinite(losses["loss"]):
            raise FloatingPointError(
                f"the loss is {losses['loss'].item()} at step {self.step} of epoch {self.epoch}: "
                "lower the learning rate, or look for bad values in this batch"
            )
        return losses

    def _set_rate(self, progress: float) -> None:
        config = self.config
        factor = cosine_with_warmup(progress, config.warmup, config.floor)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor * group["lr_scale"]

    def save(self, path: Path) -> None:
        """Write the state; only process 0 does, and the others wait for it."""
        average = self.average.state_dict() if self.average is not None else None
        if self.world.leads:
            state = {
                "config": config_to_dict(self.config),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": average,
                "epoch": self.epoch,
                "step": self.step,
                "history": self.history,
            }
            save_state(path, state)
        wait_for_all(self.world)

    def resume(self, path: Path) -> None:
        """Take over the state in `path`."""
        state = load_state(path, config_to_dict(self.config), self.config.device)
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history = list(state["history"])


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    rest = iter(batches)
    while group := list(itertools.islice(rest, size)):
        yield group


def _length(batches: Iterable[Batch], config: TrainConfig) -> int:
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    if isinstance(batches, Sized):
        return max(len(batches), 1)
    raise TypeError("batches(epoch) has no length: give TrainConfig.steps_per_epoch")
