"""How much of the classes an embedding holds: a linear probe and nearest neighbours.

The encoder stays as it is; both are fitted on embeddings. They are measures of encoders, not models
to keep: for those see `downstream`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lvm.metrics import balanced_accuracy, macro_auc

Array = np.ndarray[Any, np.dtype[Any]]

NEIGHBOURS = 15
# On the squared weights of standardised embeddings. Which one suits depends on the encoder, so each
# gets its own, chosen on the fitted objects alone: a fixed one would favour one kind of encoder.
PENALTIES = (1e-3, 1e-2, 1e-1)
FOLDS = 3
ITERATIONS = 100  # of L-BFGS; the loss is convex and flat long before


@dataclass(frozen=True)
class ProbeScores:
    """Measures on objects that the probes were not fitted on; 1 is perfect."""

    linear_balanced_accuracy: float
    linear_auc: float
    knn_balanced_accuracy: float
    knn_auc: float

    def named(self, prefix: str = "probe_") -> dict[str, float]:
        """Return the scores by name, for tracking."""
        return {prefix + name: value for name, value in asdict(self).items()}


def probe(
    embeddings: Array, classes: Array, test_embeddings: Array, test_classes: Array
) -> ProbeScores:
    """Fit both probes on some objects and measure them on others.

    Parameters
    ----------
    embeddings, test_embeddings : (object, width) float
    classes, test_classes : (object,) int from 0; every class of the test must have been fitted

    Returns
    -------
    ProbeScores. Classes count the same, however rare: balanced accuracy, macro AUC.
    """
    _check(embeddings, classes)
    _check(test_embeddings, test_classes)
    count = int(max(classes.max(), test_classes.max())) + 1
    mean, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    spread = np.where(spread > 1e-6 * spread.max(initial=1e-12), spread, np.inf)
    known, asked = (embeddings - mean) / spread, (test_embeddings - mean) / spread
    linear = linear_probabilities(known, classes, asked, count)
    nearest = knn_probabilities(known, classes, asked, count)
    return ProbeScores(
        balanced_accuracy(linear, test_classes),
        macro_auc(linear, test_classes),
        balanced_accuracy(nearest, test_classes),
        macro_auc(nearest, test_classes),
    )


def linear_probabilities(known: Array, classes: Array, asked: Array, count: int) -> Array:
    """Return probabilities (object, class) of `asked` by a multinomial logistic regression.

    Classes weigh the same in the fit; the penalty is chosen by cross-validation on `known`. The
    same input gives the same output: nothing is drawn.
    """
    fold = np.arange(len(classes)) % FOLDS

    def validated(penalty: float) -> float:
        areas = []
        for left_out in range(FOLDS):
            inside = fold != left_out
            if inside.all() or not inside.any():
                continue
            found = _regression(known[inside], classes[inside], known[~inside], count, penalty)
            areas.append(macro_auc(found, classes[~inside]))
        defined = [area for area in areas if not np.isnan(area)]
        return float(np.mean(defined)) if defined else 0.0

    best = max(PENALTIES, key=validated)
    return _regression(known, classes, asked, count, best)


def _regression(known: Array, classes: Array, asked: Array, count: int, penalty: float) -> Array:
    inputs = torch.as_tensor(known, dtype=torch.float64)
    truth = torch.as_tensor(classes, dtype=torch.int64)
    occurring = torch.bincount(truth, minlength=count).double()
    weights = torch.where(occurring > 0, len(truth) / (count * occurring.clamp(min=1)), 0.0)
    matrix = torch.zeros((inputs.shape[1] + 1, count), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([matrix], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(inputs @ matrix[:-1] + matrix[-1], truth, weight=weights)
        loss = loss + penalty * matrix[:-1].square().sum() * 0.5
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        output = torch.as_tensor(asked, dtype=torch.float64) @ matrix[:-1] + matrix[-1]
        return np.asarray(output.softmax(dim=1).numpy())


def knn_probabilities(known: Array, classes: Array, asked: Array, count: int) -> Array:
    """Return shares (object, class) of the nearest known objects by cosine, nearer ones more."""
    first = F.normalize(torch.as_tensor(known, dtype=torch.float32), dim=1)
    second = F.normalize(torch.as_tensor(asked, dtype=torch.float32), dim=1)
    nearest = (second @ first.T).topk(min(NEIGHBOURS, len(first)), dim=1)
    weight = 1.0 / (1.0 - nearest.values).clamp(min=1e-6)
    votes = F.one_hot(torch.as_tensor(classes, dtype=torch.int64)[nearest.indices], count)
    shares = (votes * weight[..., None]).sum(dim=1)
    return np.asarray((shares / shares.sum(dim=1, keepdim=True)).numpy())


def mean_scores(scores: list[ProbeScores]) -> Mapping[str, float]:
    """Return the mean of several probes, such as those of a cross-validation."""
    return {
        name: float(np.mean([asdict(one)[name] for one in scores])) for name in asdict(scores[0])
    }


def _check(embeddings: Array, classes: Array) -> None:
    if embeddings.ndim != 2 or classes.shape != embeddings.shape[:1] or len(classes) == 0:
        raise ValueError(
            f"expected embeddings (object, width) and classes (object,), at least one object; got "
            f"{embeddings.shape} and {classes.shape}"
        )
