"""Encoders and downstream models over batches: embeddings, predictions, evaluations.

Batches go in, numpy comes out, in the same order and number. No gradient, no randomness; the
device and the precision are arguments. Reading and writing is the caller's.
"""

from collections.abc import Iterable, Iterator
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
class Evaluation:
    """A model on labelled objects.

    rows : (object,) int64; output : (object, ...) float32 of the head
    labels : the batch arrays besides pixels and embeddings
    metrics : measures by name; intervals : their bootstrap (low, high)
    """

    rows: Rows
    output: torch.Tensor
    labels: Tensors
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def evaluate(
    model: DownstreamModel,
    batches: Iterable[Batch],
    generator: np.random.Generator,
    *,
    draws: int = 200,
    device: torch.device | str = "cpu",
    precision: str = "float32",
) -> Evaluation:
    """Measure a model on labelled batches, with bootstrap intervals over `draws` resamples.

    No object at all raises ValueError.
    """
    posed = torch.Generator(device).manual_seed(POSE_SEED)
    parts = list(_outputs(model, batches, device, precision, posed))
    if not parts:
        raise ValueError("no batches to evaluate on: is the split empty?")
    rows = np.concatenate([part[0] for part in parts])
    output = torch.cat([part[1] for part in parts])
    labels = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}

    def measure(chosen: Rows) -> dict[str, float]:
        index = torch.from_numpy(chosen)
        resampled = {name: values[index] for name, values in labels.items()}
        return model.task.metrics(output[index], resampled)

    intervals = bootstrap_intervals(measure, len(rows), generator, draws)
    return Evaluation(rows, output, labels, model.task.metrics(output, labels), intervals)


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
        yield rows, output, {k: v.cpu() for k, v in tensors.items() if k not in _PIXELS}
