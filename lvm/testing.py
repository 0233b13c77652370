"""For tests here and elsewhere: a tiny encoder, made-up galaxies, the conformance test of tasks."""

import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvm.checkpoint import CheckpointError
from lvm.columns import meaning_of
from lvm.downstream.base import DownstreamModel, DownstreamTask
from lvm.encoder import Encoder, EncoderConfig, SwinShape
from lvm.figures import Curve, Figure, Matrix
from lvm.finetuning import embed_labelled, standardise
from lvm.preprocess import default_preprocess
from lvm.tensors import Tensors, to_tensors
from lvm.training import TrainConfig, constant_batches, fit

TINY_CUTOUT = 24
TINY_SHAPE = SwinShape(16, 4, 8, (1, 1), (2, 2), 2)


class ConformanceError(AssertionError):
    """A downstream task breaks its contract; the message says which part."""


class TinyEncoder(Encoder):
    """A real encoder of a few thousand parameters: cutouts of 24 px, input of 16 px."""

    def __init__(self, bands: tuple[str, ...] = ("g", "r", "z"), seed: int = 0) -> None:
        config = EncoderConfig("tiny-test", bands, cutout_size=TINY_CUTOUT, shape=TINY_SHAPE)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(config, default_preprocess(bands, 16, 16))
        self.eval()


def galaxies(
    count: int,
    generator: np.random.Generator,
    *,
    size: int = TINY_CUTOUT,
    bands: int = 3,
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return a batch of made-up galaxies: exponential profiles, round or edge-on, in noise.

    `target` (object, 2) float32 is 1 in its first column for round and in its second for edge-on
    ones. `rows` count from 0. Every tenth object has a gap of invvar 0.
    """
    y, x = np.mgrid[:size, :size] - size // 2
    edge_on = generator.random(count) < 0.5
    angle = generator.uniform(0, np.pi, count)[:, None, None]
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (-np.sin(angle) * x + np.cos(angle) * y) / np.where(edge_on, 0.25, 0.9)[:, None, None]
    profile = np.exp(-np.hypot(along, across) / (0.1 * size))
    flux = generator.lognormal(-1.0, 0.5, (count, bands, 1, 1))
    sigma = 0.01
    image = profile[:, None] * flux + generator.normal(0, sigma, (count, bands, size, size))
    invvar = np.full(image.shape, 1 / sigma**2, dtype=np.float32)
    invvar[::10, :, : size // 6] = 0.0
    return {
        "image": image.astype(np.float32),
        "invvar": invvar,
        "maskbits": np.zeros((count, size, size), dtype=np.int32),
        "rows": np.arange(count, dtype=np.int64),
        "target": np.stack([~edge_on, edge_on], axis=1).astype(np.float32),
    }


def check_downstream_task(task: DownstreamTask, encoder: Encoder) -> None:
    """Raise ConformanceError unless `task` keeps the contract of a downstream task.

    Checked: one output row per object, with one object and with a short batch; finite loss; the
    gradient reaches the head, and the encoder only when it is not frozen; the loss falls on eight
    objects; saving and loading keep the output, calibration included, and a changed weight file is
    refused; a perfect prediction has the best headline; what is presented has one value per
    object, and a meaning; a question put twice with one seed is the same; figures have numbers
    and file names.
    """
    raw = _example(task, encoder, 8)
    _check_posing(task, raw)
    batch = task.pose(raw, torch.Generator().manual_seed(1))
    _check_shapes(task, encoder, batch)
    _check_gradients(task, encoder, batch)
    _check_learning(task, encoder, raw, batch)
    _check_saving(task, encoder, batch)
    _check_measures(task, encoder, batch)
    _check_figures(task, encoder, batch)


def _example(task: DownstreamTask, encoder: Encoder, count: int) -> Tensors:
    cutouts = galaxies(
        count,
        np.random.default_rng(0),
        size=encoder.config.cutout_size,
        bands=len(encoder.config.bands),
    )
    del cutouts["target"]
    labels = task.example(count, encoder.spec, torch.Generator().manual_seed(0))
    return {**to_tensors(cutouts), **labels}


def _first(batch: Tensors, count: int) -> Tensors:
    return {name: value[:count] for name, value in batch.items()}


def _check_shapes(task: DownstreamTask, encoder: Encoder, batch: Tensors) -> None:
    model = DownstreamModel(task, encoder).eval()
    for count in (8, 3, 1):
        part = _first(batch, count)
        output = model(part)
        _require(task, len(output) == count, f"{count} objects in, {len(output)} out")
        loss = task.loss(output, part)["loss"]
        _require(task, loss.ndim == 0, "the loss is not a scalar")
        _require(task, bool(torch.isfinite(loss)), f"the loss of {count} objects is {loss}")
        for name, column in task.present(output.detach()).items():
            _require(task, len(column) == count, f"present()[{name!r}] has {len(column)} values")
            explained = bool(meaning_of(name, task.columns)[1])
            _require(task, explained, f"`columns` does not say what the column {name!r} means")


def _check_gradients(task: DownstreamTask, encoder: Encoder, batch: Tensors) -> None:
    for mode in ("head", "full"):
        model = DownstreamModel(task, encoder, mode).train()
        model.zero_grad()
        torch.autograd.backward(task.loss(model(batch), batch)["loss"])
        reached = any(p.grad is not None and p.grad.any() for p in model.head.parameters())
        _require(task, reached, f"no gradient reaches the head in {mode} mode")
        trunk = any(p.grad is not None and p.grad.any() for p in encoder.parameters())
        _require(task, trunk == (mode == "full"), f"{mode} mode: encoder gradient is {trunk}")
        model.zero_grad()


def _check_learning(task: DownstreamTask, encoder: Encoder, raw: Tensors, batch: Tensors) -> None:
    model = DownstreamModel(task, encoder)
    if task.uses == "embedding":  # as `fine_tune` does before it fits a head
        standardise(model, embed_labelled(model, [raw], "cpu")["embedding"])
    config = TrainConfig(epochs=40, learning_rate=1e-2, warmup=0.0, weight_decay=0.0)
    first = _evaluation_loss(model, batch)  # in training, dropout could hide or feign a fall
    fit(model, constant_batches([raw]), config)
    last = _evaluation_loss(model, batch)
    _require(task, last < first, f"the loss on eight objects went from {first} to {last}")


def _evaluation_loss(model: DownstreamModel, batch: Tensors) -> float:
    model.eval()
    with torch.no_grad():
        return float(model.task.loss(model(batch), batch)["loss"])


def _check_saving(task: DownstreamTask, encoder: Encoder, batch: Tensors) -> None:
    model = DownstreamModel(task, encoder, seed=1).eval()
    with torch.no_grad():
        answers = model(batch)
    said = task.calibrate(model.head, answers, batch)
    _require(task, all(map(math.isfinite, said.values())), f"calibrate() returns {dict(said)}")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        model.save(directory)
        loaded = DownstreamModel.load(directory)
        with torch.no_grad():
            same = torch.equal(loaded(batch), model(batch))
        _require(task, same, "a loaded model answers differently")
        weights = directory / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        try:
            DownstreamModel.load(directory)
        except CheckpointError:
            return
    raise ConformanceError(f"{task.name}: a changed weight file was loaded")


def _check_measures(task: DownstreamTask, encoder: Encoder, batch: Tensors) -> None:
    headline = task.headline
    measures = task.metrics(task.perfect(batch), batch)
    _require(task, headline.name in measures, f"metrics() lacks the headline {headline.name!r}")
    value = measures[headline.name]
    best = math.isclose(value, headline.best, abs_tol=1e-6)
    _require(task, best, f"a perfect prediction has {headline.name} {value}")


def _check_posing(task: DownstreamTask, raw: Tensors) -> None:
    image = raw["image"].clone()
    first, again = (task.pose(dict(raw), torch.Generator().manual_seed(2)) for _ in range(2))
    same = all(torch.equal(first[name].nan_to_num(), again[name].nan_to_num()) for name in first)
    _require(task, same, "pose() draws from something else than its generator")
    _require(task, torch.equal(raw["image"], image), "pose() changes the batch that it was given")
    _require(task, "target" in first, "a posed batch has no target")


def _check_figures(task: DownstreamTask, encoder: Encoder, batch: Tensors) -> None:
    model = DownstreamModel(task, encoder).eval()
    with torch.no_grad():
        output = model(batch)
    figures = task.figures(output, batch)
    names = [figure.name for figure in figures]
    _require(task, len(set(names)) == len(names), f"two figures have one name: {names}")
    for figure in figures:
        safe = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", figure.name)
        _require(task, safe is not None, f"a figure is called {figure.name!r}: no file name")
        wrong = _wrong_shape(figure)
        _require(task, not wrong, f"figure {figure.name!r}: {wrong}")


def _wrong_shape(figure: Figure) -> str:
    """Return what does not fit together in a figure; empty where all does."""
    if isinstance(figure, Curve):
        lengths = {len(figure.x), *(len(line) for line in figure.lines.values())}
        return "" if len(lengths) == 1 else f"lines of {sorted(lengths)} points"
    if isinstance(figure, Matrix):
        named = (len(figure.rows), len(figure.columns))
        return "" if figure.values.shape == named else f"{figure.values.shape} values, {named}"
    sizes = {panel.shape[:2] for panel in figure.panels.values()}
    fits = len(sizes) == 1 and next(iter(sizes))[1] == len(figure.bands)
    return "" if fits else f"panels of {sorted(sizes)} objects and bands for {figure.bands}"


def _require(task: DownstreamTask, kept: bool, message: str) -> None:
    if not kept:
        raise ConformanceError(f"{task.name}: {message}")
