"""Intervals and drift do what their papers say, and stay silent where there is only chance."""

import numpy as np
import pytest

from tasks.shifts import difference_interval, drift_index


def test_the_interval_is_that_of_newcombes_example():
    # 56/70 against 48/80 (Newcombe 1998, table II, method 10): 0.0524 to 0.3339.
    low, high = difference_interval((48, 56), (80, 70))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=2e-4)


def test_the_interval_changes_sign_with_the_order_and_knows_nothing_of_nothing():
    low, high = difference_interval((56, 48), (70, 80))
    assert (low, high) == pytest.approx((-0.3339, -0.0524), abs=2e-4)
    assert difference_interval((0, 3), (0, 9)) == (-1.0, 1.0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        hits = rng.binomial([200, 300], [0.10, 0.15])
        low, high = difference_interval((int(hits[0]), int(hits[1])), (200, 300))
        covered += low <= 0.05 <= high
    assert 0.93 < covered / 1000 < 0.975


def test_chance_alone_is_no_drift_and_a_shift_is():
    rng = np.random.default_rng(1)
    edges = np.quantile(rng.normal(size=5000), np.linspace(0, 1, 11)[1:-1])

    def histogram(centre: float) -> np.ndarray:
        return np.bincount(np.searchsorted(edges, rng.normal(centre, 1, 400)), minlength=10)

    same = np.mean([drift_index(histogram(0.0), histogram(0.0)) for _ in range(50)])
    moved = drift_index(histogram(0.0), histogram(0.8))
    assert same < 0.02
    assert moved > 0.3
    assert drift_index(np.zeros(10, np.int64), histogram(0.0)) == 0.0
