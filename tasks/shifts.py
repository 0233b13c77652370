"""How far shares and distributions moved between two samples, and what chance alone would give."""

import math

import numpy as np
import numpy.typing as npt

Z_95 = 1.959964


def difference_interval(
    hits: tuple[int, int], totals: tuple[int, int], z: float = Z_95
) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares, second less first.

    Newcombe's method 10 (Statistics in Medicine 17, 873, 1998), for two independent samples. The
    two catalogues share most objects, so it is wider than it need be and the alarm is slow.
    """
    if not all(totals):
        return -1.0, 1.0
    (first, l1, u1), (second, l2, u2) = (
        (hit / total, *_wilson(hit, total, z)) for hit, total in zip(hits, totals, strict=True)
    )
    shift = second - first
    return (
        shift - math.hypot(second - l2, u1 - first),
        shift + math.hypot(u2 - second, first - l1),
    )


def drift_index(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> float:
    """Return the population stability index of two histograms, less what chance alone gives.

    Sum of (q - p) ln(q / p) over the bins, half an object added to each; two samples of one
    distribution give (bins - 1)(1/n + 1/m) in the mean, which is taken off.
    """
    if not before.sum() or not after.sum():
        return 0.0
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, after))
    found = float(((q - p) * np.log(q / p)).sum())
    chance = (len(before) - 1) * (1 / before.sum() + 1 / after.sum())
    return max(0.0, found - chance)


def _wilson(hits: int, total: int, z: float) -> tuple[float, float]:
    share, square = hits / total, z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    half /= 1 + square / total
    return max(0.0, middle - half), min(1.0, middle + half)
