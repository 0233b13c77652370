"""Which labels a method gets: a random order of the pool, or rounds that a strategy chooses."""

import numpy as np
import numpy.typing as npt

from tasks.acquisition import RANDOM, Candidates, choose
from tasks.few_shot.heads import Classes, Discriminant, Floats

Indices = npt.NDArray[np.int64]

FIRST = 8  # labels before there is a model to ask: typical objects of as many groups
SMALLEST_ROUND, GROWTH = 4, 0.25  # labels of a round, and as a part of those that are there
MEMBERS = 8  # models of the committee, each fitted on a resampling of the labels
DISAGREEMENT = "disagreement"


def random_labels(count: int, number: int, seed: int) -> Indices:
    """Return `number` of `count` objects; fewer are the first ones of more with the same seed."""
    return np.random.default_rng((seed, 1)).permutation(count)[:number].astype(np.int64)


def chosen_labels(
    strategy: str, features: Floats, answers: Classes, classes: int, number: int, seed: int
) -> Indices:
    """Return the objects that `number` labels are asked for, round after round.

    Parameters
    ----------
    strategy : str
        Of `tasks.acquisition`.
    features : ndarray, shape (object, feature)
        Of the pool.
    answers : ndarray, shape (object,), int64
        What the annotator says when asked; nothing is looked at before.
    classes : int
        Number of possible answers.
    seed : int
        Of the strategy's draws. Fewer labels are the first ones of more with the same seed.
    """
    generator = np.random.default_rng((seed, 2))
    model = Discriminant.of_pool(features, classes)
    unseen = Candidates(np.zeros((len(features), 0)), features)
    opening = RANDOM if strategy == RANDOM else "k_means"
    asked = choose(opening, unseen, min(FIRST, len(features)), generator).index
    while len(asked) < min(number, len(features)):
        size = max(SMALLEST_ROUND, int(GROWTH * len(asked)))
        left = np.setdiff1d(np.arange(len(features)), asked)
        candidates = _candidates(strategy, model, features, answers, (asked, left), generator)
        asked = np.concatenate([asked, left[choose(strategy, candidates, size, generator).index]])
    return asked[:number]


def _candidates(
    strategy: str,
    model: Discriminant,
    features: Floats,
    answers: Classes,
    split: tuple[Indices, Indices],
    generator: np.random.Generator,
) -> Candidates:
    asked, left = split
    known = features[asked]
    probability = model.probabilities(known, answers[asked], features[left])
    members = None
    if strategy == DISAGREEMENT:
        drawn = generator.integers(len(asked), size=(MEMBERS, len(asked)))
        members = np.stack(
            [model.probabilities(known[d], answers[asked[d]], features[left]) for d in drawn]
        )
    return Candidates(probability, features[left], members, known)
