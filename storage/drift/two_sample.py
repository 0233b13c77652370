"""Are two sets of embeddings drawn alike? A test, its chance, and how large the difference is.

The test statistic is the squared maximum mean discrepancy (MMD, Gretton et al. 2012) with Gaussian
kernels; its p-value comes from exchanging labels. Objects of one brick share depth, seeing and sky,
so whole bricks are exchanged wherever there are enough of them: exchanging objects would call every
two parts of one survey different. How large a difference is, no p-value says: that is the area
under the ROC curve of a linear classifier (0.5: indistinguishable), and the Fréchet distance.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import SchemaMismatch

BANDWIDTHS = (0.5, 1.0, 2.0)  # of the kernels, in median distances: detail and the whole
FEWEST = 20  # objects a side
FOLDS = 5
_SHRINKAGE = 0.1  # of the classifier's covariance towards a multiple of unity

Floats = npt.NDArray[np.floating[Any]]
Array = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class DriftLimits:
    """When a difference is worth an alarm: improbable by chance, and not small.

    Parameters
    ----------
    p_value : at most this
    separation : area under the ROC curve, at least this
    permutations : exchanges of labels; the smallest p-value is 1 / (permutations + 1)
    sample : objects a side that are compared, at most
    seed : of the sample and of the exchanges
    """

    p_value: float = 0.01
    separation: float = 0.6
    permutations: int = 999
    sample: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Difference:
    """How two sets of embeddings differ.

    Parameters
    ----------
    objects : numbers of the two sets that were compared
    mmd : squared maximum mean discrepancy, unbiased; near 0, also below, for equal distributions
    p_value : chance of as large an MMD for equal distributions
    exchanged : "bricks" or "objects": what was exchanged to find it
    separation : area under the ROC curve of a linear classifier, cross-validated
    frechet : Fréchet distance of the two, as normal distributions, over their mean total variance
    alarm : whether both limits are passed
    """

    objects: tuple[int, int]
    mmd: float
    p_value: float
    exchanged: str
    separation: float
    frechet: float
    alarm: bool


def compare(
    first: Floats,
    second: Floats,
    bricks: tuple[Labels, Labels] | None = None,
    limits: DriftLimits | None = None,
) -> Difference:
    """Compare two sets of embeddings.

    Parameters
    ----------
    first, second : ndarray, shape (n, feature) and (m, feature)
    bricks : two ndarrays, shapes (n,) and (m,), optional
        Names of the bricks of the objects, different in the two sets where the exposures differ.

    Raises
    ------
    SchemaMismatch
        When a set has fewer than 20 objects, or the widths differ.
    """
    chosen = limits or DriftLimits()
    if min(len(first), len(second)) < FEWEST or first.shape[1:] != second.shape[1:]:
        raise SchemaMismatch(
            f"{first.shape} and {second.shape} embeddings: give both sets {FEWEST} objects or more "
            "by one encoder"
        )
    rng = np.random.default_rng(chosen.seed)
    both, second_side, groups, names = _join(first, second, bricks, chosen, rng)
    exchanged, units = _exchangeable(second_side, groups, chosen)
    statistic, p_value = _mmd_test(both, second_side, units, chosen.permutations, rng)
    separation = _separation(both, second_side, names, rng)
    return Difference(
        objects=(int((~second_side).sum()), int(second_side.sum())),
        mmd=statistic,
        p_value=p_value,
        exchanged=exchanged,
        separation=separation,
        frechet=_frechet(both[~second_side], both[second_side]),
        alarm=p_value <= chosen.p_value and separation >= chosen.separation,
    )


def _join(
    first: Floats,
    second: Floats,
    bricks: tuple[Labels, Labels] | None,
    limits: DriftLimits,
    rng: np.random.Generator,
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sample both sets and scale features by their common spread; number the bricks.

    Returns the features, which are of the second set, and the numbers of the bricks: a name that is
    on both sides counts as two, then as one.
    """
    names = bricks or (np.arange(len(first)), len(first) + np.arange(len(second)))
    picks = [rng.permutation(len(side))[: limits.sample] for side in (first, second)]
    both = np.concatenate([side[p] for side, p in zip((first, second), picks, strict=True)])
    both = both.astype(np.float64)
    spread = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    second_side = np.repeat([False, True], [len(p) for p in picks])
    labels = np.concatenate([n[p].astype(str) for n, p in zip(names, picks, strict=True)])
    sided = np.char.add(np.where(second_side, "b:", "a:"), labels)
    groups, same = (np.unique(values, return_inverse=True)[1] for values in (sided, labels))
    return both, second_side, groups, same


def _exchangeable(
    second_side: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64], limits: DriftLimits
) -> tuple[str, npt.NDArray[np.int64]]:
    """Choose what is exchanged: bricks, where their exchanges can show so small a p-value."""
    number, of_second = groups.max() + 1, len(np.unique(groups[second_side]))
    if number < len(groups) and math.comb(number, of_second) * limits.p_value >= 1:
        return "bricks", groups
    return "objects", np.arange(len(groups))


def _mmd_test(
    both: Array,
    second_side: npt.NDArray[np.bool_],
    units: npt.NDArray[np.int64],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the MMD and its p-value; sides are exchanged unit by unit."""
    kernel = _kernel(both)
    side_of_unit = np.zeros(units.max() + 1, dtype=bool)
    side_of_unit[units] = second_side
    found = float(_mmd(kernel, second_side[:, None])[0])
    as_large = 0
    for start in range(0, permutations, 100):  # a matrix of 100 exchanges at a time
        number = min(100, permutations - start)
        sides = np.stack([rng.permutation(side_of_unit)[units] for _ in range(number)], axis=1)
        as_large += int((_mmd(kernel, sides) >= found).sum())
    return found, (as_large + 1) / (permutations + 1)


def _kernel(both: Array) -> npt.NDArray[np.float32]:
    """Return the sum of Gaussian kernels between all objects, with nothing on the diagonal."""
    squared = np.square(both).sum(axis=1)
    distance = np.maximum(squared[:, None] + squared - 2 * both @ both.T, 0)
    scale = np.median(distance[np.triu_indices(len(both), 1)]) or 1.0
    kernel = sum(np.exp(-distance / (2 * scale * width**2)) for width in BANDWIDTHS)
    result = np.asarray(kernel / len(BANDWIDTHS), dtype=np.float32)
    np.fill_diagonal(result, 0)
    return result


def _mmd(kernel: npt.NDArray[np.float32], sides: npt.NDArray[np.bool_]) -> Array:
    """Return the unbiased MMD of each column of sides (object, exchange)."""
    b = sides.astype(np.float32)
    a = 1 - b
    n, m = a.sum(axis=0, dtype=np.float64), b.sum(axis=0, dtype=np.float64)
    towards_a, towards_b = kernel @ a, kernel @ b
    within_a = (a * towards_a).sum(axis=0, dtype=np.float64) / np.maximum(n * (n - 1), 1)
    within_b = (b * towards_b).sum(axis=0, dtype=np.float64) / np.maximum(m * (m - 1), 1)
    between = (a * towards_b).sum(axis=0, dtype=np.float64) / np.maximum(n * m, 1)
    return np.asarray(within_a + within_b - 2 * between)


def _separation(
    both: Array,
    second_side: npt.NDArray[np.bool_],
    names: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> float:
    """Return the area under the ROC curve of a linear discriminant, whole bricks held out.

    A brick that is on both sides is held out on both: its objects would give one another away.
    """
    sides = np.zeros((names.max() + 1, 2), dtype=bool)
    sides[names, second_side.astype(np.int64)] = True
    fold_of_name = np.empty(len(sides), dtype=np.int64)
    for kind in ([True, False], [False, True], [True, True]):  # every fold gets its share of each
        members = np.flatnonzero((sides == kind).all(axis=1))
        fold_of_name[members] = rng.permutation(np.arange(len(members)) % FOLDS)
    fold = fold_of_name[names]
    areas = [_area(both, second_side, fold == number) for number in range(FOLDS)]
    known = [area for area in areas if np.isfinite(area)]
    return float(np.mean(known)) if known else float("nan")


def _area(
    both: Array, second_side: npt.NDArray[np.bool_], held_out: npt.NDArray[np.bool_]
) -> float:
    """Fit on the objects that are not held out; return the area on the others, or NaN."""
    fit_a, fit_b = both[~held_out & ~second_side], both[~held_out & second_side]
    test_a, test_b = both[held_out & ~second_side], both[held_out & second_side]
    if min(len(fit_a), len(fit_b), len(test_a), len(test_b)) < 2:
        return float("nan")
    inner = np.cov(np.concatenate([fit_a - fit_a.mean(0), fit_b - fit_b.mean(0)]).T)
    inner = np.atleast_2d(inner)
    ridge = _SHRINKAGE * np.trace(inner) / len(inner)
    inner = (1 - _SHRINKAGE) * inner + max(ridge, np.finfo(float).tiny) * np.eye(len(inner))
    direction = np.linalg.solve(inner, fit_b.mean(0) - fit_a.mean(0))
    score_a, score_b = np.sort(test_a @ direction), test_b @ direction
    below = np.searchsorted(score_a, score_b, "left") + np.searchsorted(score_a, score_b, "right")
    return float(below.mean() / (2 * len(score_a)))


def _frechet(first: Array, second: Array) -> float:
    """Return the Fréchet distance of two normal distributions over their mean total variance."""
    apart = float(np.square(first.mean(0) - second.mean(0)).sum())
    one, two = (np.atleast_2d(np.cov(side.T)) for side in (first, second))
    values, axes = np.linalg.eigh(one)
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0)).sum()
    total = float(np.trace(one) + np.trace(two))
    return max(0.0, (apart + total - 2 * float(common)) / (total / 2))
