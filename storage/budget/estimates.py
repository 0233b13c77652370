"""Numbers with a range, and totals of many bricks from a sample of few."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.90  # that a total lies in its range
# Before any is measured, bricks of a survey are taken to differ by this much of their mean (counts
# of galaxies, depth, filling), with the weight of so many bricks: two bricks that happen to agree
# prove little, and two that differ need not stretch a range to thousands.
PRIOR_SPREAD = 0.4
PRIOR_BRICKS = 4


@dataclass(frozen=True)
class Estimate:
    """A number and the range that it is expected in."""

    low: float
    best: float
    high: float

    def __add__(self, other: "Estimate") -> "Estimate":
        """Return the sum; ranges add, because what makes one brick large makes all of it large."""
        return Estimate(self.low + other.low, self.best + other.best, self.high + other.high)

    def times(self, low: float, best: float | None = None, high: float | None = None) -> "Estimate":
        """Return the product with a factor, or with a factor that has a range itself."""
        best = low if best is None else best
        return Estimate(
            self.low * low, self.best * best, self.high * (best if high is None else high)
        )


def exactly(value: float) -> Estimate:
    """Return a number that is known."""
    return Estimate(value, value, value)


def total_of(
    values: Sequence[float], sizes: Sequence[float], total_size: float, population: int
) -> Estimate:
    """Estimate the sum of a quantity over all bricks from a sample (ratio estimator).

    Parameters
    ----------
    values : sequence of float
        The quantity in every sampled brick.
    sizes : sequence of float
        What it is proportional to in these bricks, such as catalogued galaxies; else ones.
    total_size : float
        Sum of that over all bricks.
    population : int
        Number of bricks. Where all are in the sample, the sum is exact.

    Returns
    -------
    Estimate
        A 90 % range: Student's t of the residuals (Cochran 1977, equation 6.10), whose variance is
        pooled with that of `PRIOR_SPREAD`; but never less than the sample holds itself.

    Raises
    ------
    ValueError
        When nothing is in the sample.
    """
    y, x = np.asarray(values, np.float64), np.asarray(sizes, np.float64)
    number = len(y)
    if number == 0:
        raise ValueError("no brick is in the sample: measure one at least")
    if x.sum() <= 0:  # no sampled brick has what counts, so that only the mean is left
        x, total_size = np.ones(number), float(population)
    ratio = y.sum() / x.sum()
    best = float(ratio * total_size)
    seen = float(y.sum())
    if number >= population:
        return exactly(seen)
    degrees = PRIOR_BRICKS + number - 1
    variance = PRIOR_BRICKS * (PRIOR_SPREAD * best / population) ** 2
    variance = (variance + float(np.square(y - ratio * x).sum())) / degrees
    error = population * float(np.sqrt(variance * (1 - number / population) / number))
    reach = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    return Estimate(max(min(seen, best), best - reach), best, best + reach)
