"""Does the same object, seen twice, land near itself? Ranks among all objects of the other side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import SchemaMismatch
from storage.search.vector_index import centred

_BLOCK = 1024  # objects compared with all others at a time

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Counterparts:
    """How near objects are to themselves in another survey.

    Parameters
    ----------
    objects : int
        Objects in both.
    recall_at_1, recall_at_10 : float
        Fraction whose nearest (ten nearest) neighbours in the other survey have itself.
    median_rank : float
        Of itself among all objects of the other survey; 1 is the nearest.
    chance : float
        Median rank if embeddings said nothing.
    """

    objects: int
    recall_at_1: float
    recall_at_10: float
    median_rank: float
    chance: float


def find_counterparts(first: Floats, second: Floats) -> Counterparts:
    """Compare the embeddings of the same objects, row by row, in two surveys.

    Each side loses its own mean first, so that a shift common to all objects of a survey, which
    `two_sample.compare` measures, does not count here.
    """
    ranks = counterpart_ranks(first, second)
    return Counterparts(
        objects=len(ranks),
        recall_at_1=float((ranks <= 1).mean()),
        recall_at_10=float((ranks <= 10).mean()),
        median_rank=float(np.median(ranks)),
        chance=(len(ranks) + 1) / 2,
    )


def counterpart_ranks(first: Floats, second: Floats) -> npt.NDArray[np.int64]:
    """Return the rank of each object of `second` among the neighbours of itself in `first`."""
    if first.shape != second.shape or len(first) < 2:
        raise SchemaMismatch(
            f"embeddings of shapes {first.shape} and {second.shape}: give the same objects, two or "
            "more, in the same order"
        )
    left, right = (centred(side, _mean(side)) for side in (first, second))
    ranks = np.empty(len(left), dtype=np.int64)
    for start in range(0, len(left), _BLOCK):
        similar = left[start : start + _BLOCK] @ right.T
        own = similar[np.arange(len(similar)), start + np.arange(len(similar))]
        # Objects as near as itself count: equal embeddings of all objects find nothing.
        ranks[start : start + _BLOCK] = (similar >= own[:, None]).sum(axis=1)
    return ranks


def _mean(side: Floats) -> npt.NDArray[np.float32]:
    return np.asarray(side.mean(axis=0, dtype=np.float64), dtype=np.float32)
