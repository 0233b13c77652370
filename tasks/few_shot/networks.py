"""Networks trained on labelled cutouts: ResNet18, and the LVM with its encoder set free.

Both get the same batches, flips and turns, class weights, number of steps, and the epoch that is
best on a part of the labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lvm.baseline_networks import create_baseline
from lvm.downstream import DownstreamModel, create_task
from lvm.downstream.base import DownstreamTask
from lvm.encoder import Encoder
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.tensors import Batch, to_tensors
from lvm.training import BatchFactory, Event, TrainConfig, fit, step_generator
from tasks.few_shot.config import NetworkConfig
from tasks.few_shot.samples import Sample

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SMALLEST_VALIDATED = 32  # labels below which none can be spared to choose an epoch by
HEAD_HIDDEN = 128


def train_baseline(
    pool: Sample,
    answers: Array,
    config: NetworkConfig,
    seed: int,
    device: str,
    weights: Path | None,
) -> DownstreamModel:
    """Return ResNet18 trained on `pool` with the given answers (object,)."""
    sample = next(iter(pool.batches()))
    network = create_baseline(
        sample, ("g", "r", "z"), config.side, name=config.name, weights=weights, seed=seed
    )
    training, keeper = _split(pool, answers, config, seed, device)
    model = DownstreamModel(_task(training[1], pool.votes.shape[1], 0), network, "full", seed=seed)
    train = _train_config(config, len(training[0]), seed, device, config.learning_rate, 1.0)
    fit(model, _factory(training, config.batch, seed), train, [keeper])
    return keeper.best(model)


def train_encoder(
    encoder: Encoder, pool: Sample, answers: Array, config: NetworkConfig, seed: int, device: str
) -> DownstreamModel:
    """Return the encoder with a two-layer head, both trained on `pool`; `encoder` is changed."""
    training, keeper = _split(pool, answers, config, seed, device)
    task = _task(training[1], pool.votes.shape[1], HEAD_HIDDEN)
    rate, decay = config.full_learning_rate, config.layer_decay
    train = _train_config(config, len(training[0]), seed, device, rate, decay)
    head = TrainConfig(epochs=60, learning_rate=3e-3, weight_decay=0.1, seed=seed, device=device)
    tuning = FineTuneConfig(mode="full", head=head, full=train)
    factory = _factory(training, config.batch, seed)
    return keeper.best(fine_tune(task, encoder, factory, tuning, [keeper]).model)


def network_probabilities(model: DownstreamModel, sample: Sample, device: str) -> Floats:
    """Return probabilities (object, class) of a trained network."""
    model.to(device).eval()
    with torch.inference_mode():
        parts = [model(to_tensors(batch, device)).softmax(dim=1) for batch in sample.batches()]
    return np.asarray(torch.cat(parts).double().cpu().numpy())


class BestEpoch:
    """Callback that keeps the weights of the epoch with the least loss on validation objects."""

    def __init__(self, sample: Sample, answers: Array, device: str) -> None:
        self.sample, self.answers, self.device = sample, answers, device
        self.loss = float("inf")
        self.state: dict[str, torch.Tensor] = {}

    def __call__(self, event: Event) -> None:
        """Look at the validation objects after an epoch of the whole network."""
        model: Any = event.model
        if event.kind != "epoch" or model.mode != "full" or len(self.sample) == 0:
            return
        found = network_probabilities(model, self.sample, self.device)
        given = found[np.arange(len(found)), self.answers]
        loss = float(-np.log(np.maximum(given, 1e-12)).mean())
        if loss < self.loss:
            self.loss = loss
            self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def best(self, model: DownstreamModel) -> DownstreamModel:
        """Return the model as it was at its best; as it is where nothing was kept aside."""
        if self.state:
            model.load_state_dict(self.state)
        return model.eval()


def _split(
    pool: Sample, answers: Array, config: NetworkConfig, seed: int, device: str
) -> tuple[tuple[Sample, Array], BestEpoch]:
    """Return what is trained on, and the callback with what is kept aside of every class."""
    order = np.random.default_rng((seed, 3)).permutation(len(pool))
    aside = np.zeros(len(pool), bool)
    if len(pool) >= SMALLEST_VALIDATED:
        for value in np.unique(answers):
            members = order[answers[order] == value]
            aside[members[: round(config.validated * len(members))]] = True
    keeper = BestEpoch(pool.take(np.flatnonzero(aside)), answers[aside], device)
    return (pool.take(np.flatnonzero(~aside)), answers[~aside]), keeper


def _task(answers: Array, classes: int, hidden: int) -> DownstreamTask:
    occurring = np.bincount(answers, minlength=classes)
    weights = len(answers) / (classes * np.maximum(occurring, 1))
    options = {"hidden": hidden, "class_weights": tuple(float(value) for value in weights)}
    return create_task("morphology", options)


def _factory(training: tuple[Sample, Array], size: int, seed: int) -> BatchFactory:
    sample, answers = training
    target = np.eye(sample.votes.shape[1], dtype=np.float32)[answers]
    arrays = {**sample.pixels, "target": target}
    parts = -(-len(sample) // size)  # of equal size: one object alone has no batch statistics

    def batches(epoch: int) -> list[Batch]:
        order = torch.randperm(len(sample), generator=step_generator(seed, epoch)).numpy()
        chosen = np.array_split(order, parts)
        return [{name: values[part] for name, values in arrays.items()} for part in chosen]

    return batches


def _train_config(
    config: NetworkConfig, count: int, seed: int, device: str, rate: float, layer_decay: float
) -> TrainConfig:
    per_epoch = -(-count // config.batch)
    steps = min(config.steps, max(config.least_steps, config.epochs * per_epoch))
    return TrainConfig(
        epochs=max(1, round(steps / per_epoch)),
        learning_rate=rate,
        weight_decay=config.weight_decay,
        layer_decay=layer_decay,
        seed=seed,
        device=device,
    )
