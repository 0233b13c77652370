"""Encoders and downstream models over batches: embeddings, predictions, evaluations.

Batches go in, numpy comes out, in the same order and number. No gradient, no randomness; the
device and the precision are arguments. Reading and writing is the caller's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lvm.downstream.base import Columns, DownstreamModel
from lvm.encoder import Encoder
from lvm.forward import Embeddings, Forward, ForwardConfig, Rows, autocast
from lvm.metrics import bootstrap_intervals
from lvm.tensors import Batch, Tensors, rows_of, to_tensors


def embed(
    encoder: Encoder,
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Iterator[tuple[Rows, Embeddings]]:
    """Yield the embeddings of batches of cutouts.

    Parameters
    ----------
    encoder : moved to `device` and set to evaluation mode
    batches : with image, invvar, maskbits and `rows`; without rows objects are counted from 0
    precision : "float32", or "bfloat16" by autocast

    Yields
    ------
    rows (object,) int64 and embeddings (object, width) float32, one pair a batch, short last
    batch included
    """
    config = ForwardConfig(device=str(device), precision=precision)
    yield from Forward(encoder, config).embed(batches)


def predict(
    model: DownstreamModel,
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Iterator[tuple[Rows, Columns]]:
    """Yield what the model's task presents for batches of cutouts or of its embeddings.

    Yields
    ------
    rows (object,) int64 and {column: array (object,)}, one pair a batch
    """
    for rows, output, _ in _outputs(model, batches, device, precision):
        yield rows, model.task.present(output)


@dataclass(frozen=True)
class Answers:
    """What a model says of labelled objects.

    rows : (object,) int64; output : (object, ...) float32 of the head
    labels : the arrays of the batches besides pixels and embeddings, as the question was put
        (`DownstreamTask.pose`)
    """

    rows: Rows
    output: torch.Tensor
    labels: Tensors


@dataclass(frozen=True)
class Evaluation(Answers):
    """A model on labelled objects, and measures by name with their bootstrap (low, high)."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def answered(
    model: DownstreamModel,
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Answers:
    """Ask a model about labelled objects, in the same words whenever it is asked.

    No object at all raises ValueError.
    """
    posed = torch.Generator().manual_seed(POSE_SEED)  # as in training: on the CPU
    parts = list(_outputs(model, batches, device, precision, posed))
    if not parts:
        raise ValueError("no batches to evaluate on: is the split empty?")
    rows = np.concatenate([part[0] for part in parts])
    output = torch.cat([part[1] for part in parts])
    labels = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}
    return Answers(rows, output, labels)


def evaluate(
    model: DownstreamModel,
    batches: Iterable[Batch],
    generator: np.random.Generator,
    *,
    draws: int = 200,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Evaluation:
    """Measure a model on labelled batches, with 95 % intervals.

    They are bootstrap intervals over `draws` resamples; of a task with `slow_metrics`, whose
    answers take long to measure, they come from groups (`_group_intervals`). No object at
    all raises ValueError.
    """
    found = answered(model, batches, device=device, precision=precision)

    def measure(chosen: Rows) -> dict[str, float]:
        return measures_of(model, found, chosen)

    metrics = model.task.metrics(found.output, found.labels)
    if model.task.slow_metrics:
        intervals = _group_intervals(measure, len(found.rows), generator, metrics)
    else:
        intervals = bootstrap_intervals(measure, len(found.rows), generator, draws)
    return Evaluation(found.rows, found.output, found.labels, metrics, intervals)


def measures_of(model: DownstreamModel, answers: Answers, chosen: Rows) -> dict[str, float]:
    """Return the measures of some of the objects, by their place (object,) int64."""
    index = torch.from_numpy(chosen)
    labels = {name: values[index] for name, values in answers.labels.items()}
    return model.task.metrics(answers.output[index], labels)


def _group_intervals(
    measure: Callable[[Rows], dict[str, float]],
    count: int,
    generator: np.random.Generator,
    metrics: Mapping[str, float],
) -> dict[str, tuple[float, float]]:
    """Return intervals from the scatter of measures among `GROUPS` disjoint groups of objects.

    The whole set is measured once more, in parts, where resampling would measure it many times.
    Right for means over objects, and near to it for ratios of sums over groups of equal size.
    """
    groups = np.array_split(generator.permutation(count), min(GROUPS, count))
    measured = [measure(np.sort(group)) for group in groups]
    intervals = {}
    for name, value in metrics.items():
        each = np.array([found.get(name, np.nan) for found in measured])
        each = each[np.isfinite(each)]
        # The limit of Student's t for 95 %, to two per cent from five groups on.
        limit = 1.96 + 2.6 / max(len(each) - 1, 1)
        spread = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
        intervals[name] = (float(value - limit * spread), float(value + limit * spread))
    return intervals


GROUPS = 16
POSE_SEED = 1  # an evaluation puts the same questions whenever it is run
_PIXELS = ("image", "invvar", "maskbits", "embedding")


def _outputs(
    model: DownstreamModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    precision: str,
    posed: torch.Generator | None = None,
) -> Iterator[tuple[Rows, torch.Tensor, Tensors]]:
    """Yield rows, outputs and labels; `posed` draws what the task poses (None: as it is)."""
    model.to(device).eval()
    start = 0
    for batch in batches:
        rows = rows_of(batch, start)
        tensors = to_tensors(batch, device)
        if posed is not None:
            tensors = model.task.pose(tensors, posed)
        with torch.inference_mode(), autocast(device, precision):
            output = model(tensors).float().cpu()
        start += len(rows)
        # Outputs made in inference mode could not take part in fitting a calibration.
        yield rows, output.clone(), {k: v.cpu() for k, v in tensors.items() if k not in _PIXELS}
