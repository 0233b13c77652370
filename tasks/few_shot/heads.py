"""From labelled objects to probabilities of others, by a head on features that are there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lvm.probe import linear_probabilities
from tasks.few_shot.samples import Sample

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

# Of the embedding, the directions of largest variance; each counts half of a measure. More of them
# cost more than they tell below a hundred labels. These constants and the two below were chosen on
# skies of other seeds than those of the benchmark.
DIRECTIONS = 16
EMBEDDING_WEIGHT = 0.5
# Labelled objects that the covariance of the unlabelled ones is worth.
POOL_WEIGHT = 10.0
# Of that covariance towards a round one.
SHRINKAGE = 0.6
HIDDEN, STEPS, RATE, DECAY = 128, 300, 3e-3, 0.1  # of the two-layer head


@dataclass(frozen=True)
class Features:
    """What heads see: features of the pool, where labels come from, and of the test objects.

    pool, test : ndarray, shape (object, width), float64
        Channels have mean 0 and deviation 1 (or another weight) over the pool.
    """

    pool: Floats
    test: Floats


def embeddings(pool: Sample, test: Sample) -> Features:
    """Return the embeddings alone."""
    return _standardised(pool.embedding, test.embedding)


def descriptions(pool: Sample, test: Sample) -> Features:
    """Return the measures that the encoder was pre-trained on beside its embedding."""
    measured = measures(pool, test)
    seen = embeddings(pool, test)
    variance, direction = np.linalg.eigh(np.cov(seen.pool.T))
    scale = EMBEDDING_WEIGHT / np.sqrt(np.maximum(variance[-DIRECTIONS:], 1e-9))
    projection = direction[:, -DIRECTIONS:] * scale
    return Features(
        np.hstack([measured.pool, seen.pool @ projection]),
        np.hstack([measured.test, seen.test @ projection]),
    )


def measures(pool: Sample, test: Sample) -> Features:
    """Return the measures alone."""
    return _standardised(pool.measures, test.measures)


def linear(features: Features, index: Array, answers: Classes, count: int) -> Floats:
    """Return probabilities (test object, class) by regularised logistic regression."""
    return np.asarray(linear_probabilities(features.pool[index], answers, features.test, count))


def two_layers(
    features: Features, index: Array, answers: Classes, count: int, seed: int = 0
) -> Floats:
    """Return probabilities (test object, class) by two fully connected layers."""
    inputs = torch.from_numpy(features.pool[index]).float()
    truth = torch.from_numpy(answers)
    occurring = torch.bincount(truth, minlength=count)
    weight = torch.where(occurring > 0, len(truth) / occurring.clamp(min=1), 0.0)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        head = torch.nn.Sequential(
            torch.nn.Linear(inputs.shape[1], HIDDEN),
            torch.nn.GELU(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(HIDDEN, count),
        )
        solver = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            solver.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                head(inputs), truth, weight=weight, label_smoothing=0.05
            )
            loss.backward()
            solver.step()
    with torch.no_grad():
        found = head.eval()(torch.from_numpy(features.test).float()).softmax(dim=1)
    return np.asarray(found.numpy(), np.float64)


@dataclass(frozen=True)
class Discriminant:
    """A linear discriminant whose covariance begins as that of the unlabelled pool.

    Few labels say where a class is, not how it spreads; thousands of unlabelled objects do. Classes
    have equal priors, so that what was chosen for labelling does not bend the answers.

    Parameters
    ----------
    covariance : ndarray, shape (width, width)
    width : int
        Of the answers: number of classes.
    """

    covariance: Floats
    width: int

    @classmethod
    def of_pool(cls, pool: Floats, width: int) -> "Discriminant":
        """Return the discriminant for objects like those of `pool` (object, feature)."""
        found = np.atleast_2d(np.cov(pool.T))
        round_one = np.trace(found) / len(found) * np.eye(len(found))
        return cls((1.0 - SHRINKAGE) * found + SHRINKAGE * round_one, width)

    def probabilities(self, known: Floats, answers: Classes, asked: Floats) -> Floats:
        """Return probabilities (asked object, class); a class without a label gets 0."""
        classes, place = np.unique(answers, return_inverse=True)
        means = np.stack([known[place == index].mean(axis=0) for index in range(len(classes))])
        rest = known - means[place]
        freedom = max(len(known) - len(classes), 0)
        scatter = rest.T @ rest + POOL_WEIGHT * self.covariance
        weights = np.linalg.solve(scatter / (freedom + POOL_WEIGHT), means.T)
        score = asked @ weights - 0.5 * (means * weights.T).sum(axis=1)
        grown = np.exp(score - score.max(axis=1, keepdims=True))
        found = np.zeros((len(asked), self.width))
        found[:, classes] = grown / grown.sum(axis=1, keepdims=True)
        return found


def _standardised(pool: Array, test: Array) -> Features:
    mean, spread = pool.mean(axis=0, dtype=np.float64), pool.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 1e-6 * spread.max(initial=1e-12), spread, np.inf)
    return Features((pool - mean) / spread, (test - mean) / spread)
