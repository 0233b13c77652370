"""From measures at numbers of labels to curves, labels needed, and the ratio of two methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DRAWS = 1000  # of the bootstrap over seeds
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class LabelCurve:
    """A measure at numbers of labels.

    Parameters
    ----------
    labels : ndarray, shape (point,), int64
        Rising.
    values : ndarray, shape (seed, point), float64
    """

    labels: npt.NDArray[np.int64]
    values: Array

    @classmethod
    def of_cells(cls, cells: Sequence[Mapping[str, Any]], measure: str) -> "LabelCurve":
        """Return the curve of the cells of one method; seeds that lack a point are left out."""
        labels = sorted({int(cell["labels"]) for cell in cells})
        found = {(int(c["seed"]), int(c["labels"])): float(c[measure]) for c in cells}
        seeds = sorted({seed for seed, _ in found})
        whole = [seed for seed in seeds if all((seed, number) in found for number in labels)]
        values = np.array([[found[seed, number] for number in labels] for seed in whole])
        return cls(np.array(labels, np.int64), values.reshape(len(whole), len(labels)))

    def mean(self) -> Array:
        """Return the mean over seeds (point,)."""
        return np.asarray(self.values.mean(axis=0))

    def interval(self, seed: int = 0) -> tuple[Array, Array]:
        """Return the bootstrap interval (point,) of the mean over seeds."""
        draw = np.random.default_rng(seed).integers(
            len(self.values), size=(DRAWS, len(self.values))
        )
        low, high = np.quantile(self.values[draw].mean(axis=1), TAILS, axis=0)
        return low, high


@dataclass(frozen=True)
class Needed:
    """Labels that reach a target; `bound` is "" or tells that the curve does not hold it."""

    labels: float
    bound: str = ""  # "at least": never reached; "at most": reached by the smallest number


@dataclass(frozen=True)
class LabelRatio:
    """Labels that one method needs over those that another needs.

    Parameters
    ----------
    value, low, high : float
        Ratio and its 95 % bootstrap interval over seeds.
    bound : str
        "at least" or "at most" where `value` is only that, "about" where both ends are open.
    needed : tuple of Needed
        Of the first and of the second method.
    """

    value: float
    low: float
    high: float
    bound: str
    needed: tuple[Needed, Needed]


def labels_needed(labels: Array, measure: Array, target: float) -> Needed:
    """Return how many labels reach the target, interpolated on the logarithm of labels.

    The measures (point,) are first made to rise, so that noise of one point does not cross early.
    """
    place = np.log(np.asarray(labels, np.float64))
    rising = risen(measure)
    if rising[0] >= target:
        return Needed(float(labels[0]), "at most" if rising[0] > target else "")
    if rising[-1] < target:
        return Needed(float(labels[-1]), "at least")
    after = int(np.argmax(rising >= target))
    part = (target - rising[after - 1]) / (rising[after] - rising[after - 1])
    return Needed(float(np.exp(place[after - 1] + part * (place[after] - place[after - 1]))))


def risen(measure: Array) -> Array:
    """Return the nearest curve that never falls: neighbours that do are replaced by their mean."""
    sums: list[float] = []
    counts: list[int] = []
    for value in np.asarray(measure, np.float64).tolist():
        sums.append(value)
        counts.append(1)
        while len(sums) > 1 and sums[-2] / counts[-2] > sums[-1] / counts[-1]:
            total, count = sums.pop(), counts.pop()
            sums[-1], counts[-1] = sums[-1] + total, counts[-1] + count
    return np.repeat(np.array(sums) / np.array(counts), counts)


def label_ratio(more: LabelCurve, less: LabelCurve, target: float, seed: int = 0) -> LabelRatio:
    """Return how many times more labels the first method needs to reach the target.

    Seeds of both are drawn anew in every resample. Where the first never reaches the target, its
    largest number of labels stands in, and the ratio is a lower bound.
    """
    needed = tuple(labels_needed(c.labels, c.mean(), target) for c in (more, less))
    drawn = np.random.default_rng(seed)

    def resampled(curve: LabelCurve) -> float:
        chosen = drawn.integers(len(curve.values), size=len(curve.values))
        return labels_needed(curve.labels, curve.values[chosen].mean(axis=0), target).labels

    ratios = [resampled(more) / resampled(less) for _ in range(DRAWS)]
    low, high = np.quantile(ratios, TAILS)
    first, second = needed
    return LabelRatio(
        first.labels / second.labels,
        float(low),
        float(high),
        _bound(first, second),
        (first, second),
    )


def error_ratio(first: LabelCurve, second: LabelCurve) -> Array:
    """Return (1 - first) / (1 - second) for each seed that both have, mean over common labels."""
    common = np.intersect1d(first.labels, second.labels)
    seeds = min(len(first.values), len(second.values))
    parts = [
        (1.0 - c.values[:seeds][:, np.isin(c.labels, common)]).mean(axis=1) for c in (first, second)
    ]
    return np.asarray(parts[0] / np.maximum(parts[1], 1e-9))


def _bound(more: Needed, less: Needed) -> str:
    raised = "at least" in (more.bound,) or less.bound == "at most"
    lowered = more.bound == "at most" or less.bound == "at least"
    if raised and lowered:
        return "about"
    if raised:
        return "at least"
    return "at most" if lowered else ""
