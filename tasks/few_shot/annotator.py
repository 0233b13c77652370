"""A person who labels galaxies, made of truth, votes and chance."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def annotate(
    classes: npt.NDArray[np.int64], votes: Array, error: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the annotator's answers (object,): the truth, but for human mistakes.

    An object is answered once: whoever asks again, by whichever strategy, hears the same.

    Parameters
    ----------
    classes : ndarray, shape (object,), int64
        True classes.
    votes : ndarray, shape (object, class)
        Votes or fractions of volunteers: mistakes are made where people confuse the classes.
    error : float
        Chance of a mistake.
    """
    rows = np.arange(len(classes))
    others = np.asarray(votes, np.float64).copy() + 1e-6  # where nobody erred any error is possible
    others[rows, classes] = 0.0
    cumulative = np.cumsum(others / others.sum(axis=1, keepdims=True), axis=1)
    wrong = (generator.random((len(classes), 1)) > cumulative).sum(axis=1)
    wrong = np.minimum(wrong, votes.shape[1] - 1)
    return np.where(generator.random(len(classes)) < error, wrong, classes).astype(np.int64)
