"""From an encoder and labelled batches to a downstream model.

"head" keeps the encoder and fits the head on embeddings that are computed once. "full" starts
from there and then trains everything, layer by layer slower towards the input: a head that
already points the right way does not tear the encoder apart in its first steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from lvm.augment import AugmentConfig
from lvm.downstream.base import MODES, DownstreamModel, DownstreamTask
from lvm.encoder import Encoder
from lvm.heads import Standardise
from lvm.inference import answered
from lvm.tensors import Batch, Tensors, to_tensors
from lvm.training import (
    BatchFactory,
    Callback,
    FitResult,
    TrainConfig,
    constant_batches,
    fit,
    step_generator,
)


@dataclass(frozen=True)
class FineTuneConfig:
    """How a downstream model is made.

    Parameters
    ----------
    mode : "head" (frozen encoder, cached embeddings) or "full"
    head : training of a head on cached embeddings, whose batches are cut from them
    head_batch : objects in such a batch
    cutouts : training of a head that needs cutouts (`takes_embeddings`): there an epoch costs as
        much as embedding does, and makes more steps
    full : training of the whole, on the caller's batches
    augment : for cutouts, as far as the task's label allows
    """

    mode: str = "head"
    head: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=60, learning_rate=3e-3, weight_decay=0.1)
    )
    head_batch: int = 256
    cutouts: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=12, learning_rate=2e-3, warmup=0.05)
    )
    full: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=10, learning_rate=5e-4, layer_decay=0.75)
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {MODES}, not {self.mode!r}")

    def first(self, task: DownstreamTask) -> TrainConfig:
        """Return the training of the head of a task."""
        return self.head if takes_embeddings(task) else self.cutouts


class FineTuneResult(NamedTuple):
    """The model, and what its trainings did; `full` is None in "head" mode."""

    model: DownstreamModel
    head: FitResult
    full: FitResult | None


def fine_tune(
    task: DownstreamTask,
    encoder: Encoder,
    batches: BatchFactory,
    config: FineTuneConfig | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> FineTuneResult:
    """Make a downstream model; in "full" mode `encoder` itself is trained.

    Parameters
    ----------
    batches : batches(epoch) gives batches with `target` and cutouts; in "head" mode of a task on
        embeddings, `embedding` will do in place of cutouts. Epoch 0 is used to fit the head.
    callbacks : told of both trainings, in turn
    checkpoint : resumable state of the training on cutouts (see `training.fit`)
    """
    config = config or FineTuneConfig()
    first = config.first(task)
    model = DownstreamModel(task, encoder, "head", config.augment, seed=first.seed)
    model.to(first.device)
    if takes_embeddings(task):
        cached = embed_labelled(model, batches(0), first.device)
        standardise(model, cached["embedding"])
        factory = minibatches(cached, config.head_batch, first.seed)
        head = fit(model, factory, first, callbacks)
    else:
        head = fit(model, batches, first, callbacks, _beside(checkpoint, "head"))
    if config.mode == "head":
        return FineTuneResult(model, head, None)
    model.set_mode("full")
    return FineTuneResult(model, head, fit(model, batches, config.full, callbacks, checkpoint))


def takes_embeddings(task: DownstreamTask) -> bool:
    """Return whether a head can be fitted on embeddings computed once.

    Not with feature maps, and not where the question is put by changing the cutout itself: the
    embedding of a cutout that was never degraded teaches nothing about degraded ones.
    """
    return task.uses == "embedding" and type(task).pose is DownstreamTask.pose


def calibrate_head(
    model: DownstreamModel, batches: Iterable[Batch], device: str = "cpu"
) -> dict[str, float]:
    """Let the task set what its head knows of its own certainty; return what it says of it.

    Parameters
    ----------
    batches : of objects that the training did not see; no object at all raises ValueError
    """
    answers = answered(model, batches, device=device)
    found = model.task.calibrate(model.head, answers.output, answers.labels)
    return {name: float(value) for name, value in found.items()}


def embed_labelled(model: DownstreamModel, batches: Iterable[Batch], device: str) -> Tensors:
    """Return the embeddings of batches with all their labels, as one batch.

    Embeddings that a batch already holds are taken as they are. No object raises ValueError.
    """
    model.eval()
    parts: list[Tensors] = []
    for batch in batches:
        tensors = to_tensors(batch, device)
        with torch.no_grad():
            embedding = model.features(tensors)
        labels = {k: v for k, v in tensors.items() if k not in ("image", "invvar", "maskbits")}
        parts.append({**labels, "embedding": embedding})
    if not parts:
        raise ValueError("no batches to fit the head on: is the training split empty?")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def standardise(model: DownstreamModel, embeddings: torch.Tensor) -> None:
    """Fit the input scaling of the head, where it has one."""
    for module in model.head.modules():
        if isinstance(module, Standardise):
            module.fit(embeddings)


def minibatches(tensors: Tensors, size: int, seed: int) -> BatchFactory:
    """Return a factory of shuffled batches of `size` objects; the last one may be short."""
    first = next(iter(tensors.values()))
    count, device = len(first), first.device
    if count <= size:
        return constant_batches([tensors])

    def batches(epoch: int) -> list[Batch]:
        order = torch.randperm(count, generator=step_generator(seed, epoch))
        chosen = torch.split(order.to(device), size)
        return [{name: value[part] for name, value in tensors.items()} for part in chosen]

    return batches


def _beside(checkpoint: Path | None, suffix: str) -> Path | None:
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{suffix}")
