"""The one training loop, for pre-training and fine-tuning alike.

A model brings its `training_step`; batches come from a factory called once per epoch; whoever
wants to log, plot or track passes callbacks. The loop itself logs nothing and opens no data.
A run is a function of model, batches and configuration: every random draw of step n comes from
a generator seeded with (seed, n), which is also why a resumed run repeats an unbroken one.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lvm.configs import config_to_dict
from lvm.optim import WeightAverage, cosine_with_warmup, parameter_groups
from lvm.tensors import Batch, Tensors, batch_size, to_tensors

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What may differ between the two halves of a resumed run without changing its numbers.
_FREE_ON_RESUME = ("device", "checkpoint_every")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Parameters
    ----------
    epochs : passes over the batches
    learning_rate : peak of the schedule; `floor` times it at the end
    warmup : fraction of the training during which the rate rises
    weight_decay, layer_decay : see `optim.parameter_groups`
    clip_norm : largest norm of the gradient
    ema_decay : of the running average of the weights that the model ends with; 0 keeps the last
    precision : float32, or bfloat16 by autocast
    steps_per_epoch : needed when the batches of an epoch have no length
    checkpoint_every : epochs between two checkpoints
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    floor: float = 0.01
    warmup: float = 0.1
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    precision: str = "float32"
    seed: int = 0
    steps_per_epoch: int | None = None
    checkpoint_every: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {sorted(PRECISIONS)}, not {self.precision!r}")
        if self.epochs < 1 or self.learning_rate <= 0 or self.checkpoint_every < 1:
            raise ValueError("epochs, learning_rate and checkpoint_every must be above 0")


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
    stopped = None
    cuda = [torch.device(config.device)] if config.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        while run.epoch < config.epochs and stopped is None:
            before = run.epoch
            stopped = run.train_epoch(batches(run.epoch), callbacks)
            due = run.epoch % config.checkpoint_every == 0 or run.epoch == config.epochs
            whole = run.epoch > before  # a half epoch could not be resumed exactly
            if checkpoint is not None and whole and (due or stopped is not None):
                run.save(checkpoint)
    if run.average is not None:
        run.average.copy_to(model)
    model.eval()
    _tell(callbacks, Event("end", run.epoch, run.step, (run.history or [{}])[-1], model))
    return FitResult(tuple(run.history), run.step, time.perf_counter() - start, stopped)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator of one step of a run: a function of (seed, step) alone."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
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
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        decay = config.ema_decay
        self.average = WeightAverage(self.model, decay) if decay > 0 else None

    def train_epoch(self, batches: Iterable[Batch], callbacks: Sequence[Callback]) -> str | None:
        """Run one epoch; return why a callback stopped the training, or None."""
        length = _length(batches, self.config)
        sums: dict[str, float] = {}
        seen = 0
        try:
            for index, batch in enumerate(batches):
                self._set_rate((self.epoch + min(index / length, 1.0)) / self.config.epochs)
                values = self._take_step(batch)
                self.step += 1
                count = batch_size(batch)
                seen += count
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value * count
                _tell(callbacks, Event("step", self.epoch, self.step, values, self.model))
            if seen == 0:
                raise ValueError(
                    f"the batches of epoch {self.epoch} are empty: nothing to train on"
                )
            self._close_epoch({name: value / seen for name, value in sums.items()})
            _tell(callbacks, Event("epoch", self.epoch, self.step, self.history[-1], self.model))
        except StopTraining as stop:
            return str(stop) or "a callback stopped the training"
        return None

    def _close_epoch(self, means: dict[str, float]) -> None:
        self.history.append(means)
        self.epoch += 1

    def _take_step(self, batch: Batch) -> dict[str, float]:
        generator = step_generator(self.config.seed, self.step)
        torch.manual_seed(generator.initial_seed())  # dropout and stochastic depth draw from it
        tensors = to_tensors(batch, self.config.device)
        self.model.train()  # each time: a callback may have used the model for inference
        dtype = PRECISIONS[self.config.precision]
        device = torch.device(self.config.device).type
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            losses = self.model.training_step(tensors, generator)
        loss = losses["loss"]
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {self.step} of epoch {self.epoch}: "
                "lower the learning rate, or look for bad values in this batch"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.config.clip_norm, error_if_nonfinite=True)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        values = {name: float(value.detach()) for name, value in losses.items()}
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return {**values, "gradient_norm": float(norm), "learning_rate": rate}

    def _set_rate(self, progress: float) -> None:
        config = self.config
        factor = cosine_with_warmup(progress, config.warmup, config.floor)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor * group["lr_scale"]

    def save(self, path: Path) -> None:
        """Write the state, all or nothing."""
        state = {
            "config": config_to_dict(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def resume(self, path: Path) -> None:
        """Take over the state in `path`."""
        state = torch.load(path, map_location=self.config.device, weights_only=True)
        _check_same_config(path, state["config"], config_to_dict(self.config))
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history = list(state["history"])


def _check_same_config(path: Path, saved: dict[str, Any], present: dict[str, Any]) -> None:
    changed = {
        name: (saved.get(name), value)
        for name, value in present.items()
        if name not in _FREE_ON_RESUME and saved.get(name) != value
    }
    if changed:
        raise ValueError(
            f"{path} belongs to a training with another configuration (saved, present): {changed}; "
            "give the same configuration or another checkpoint path"
        )


def _length(batches: Iterable[Batch], config: TrainConfig) -> int:
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    if isinstance(batches, Sized):
        return max(len(batches), 1)
    raise TypeError("batches(epoch) has no length: give TrainConfig.steps_per_epoch")


def _tell(callbacks: Sequence[Callback], event: Event) -> None:
    for callback in callbacks:
        callback(event)
