import numpy as np
import pytest

from storage.budget import Estimate, total_of


def test_a_sample_of_all_is_exact():
    assert total_of([3, 5], [1, 1], 2.0, 2) == Estimate(8.0, 8.0, 8.0)


def test_a_total_follows_what_it_is_proportional_to():
    found = total_of([10, 20, 30], [100, 200, 300], 6000.0, 100)
    assert found.best == pytest.approx(600.0)
    assert 0.3 < found.high / found.best - 1 < 0.45  # three bricks that agree prove little
    assert found.best - found.low == pytest.approx(found.high - found.best)


def test_more_bricks_narrow_the_range():
    widths = [
        total_of([10] * n, [1] * n, 1000.0, 1000).high / 10_000 - 1 for n in (1, 2, 4, 8, 16, 32)
    ]
    assert widths == sorted(widths, reverse=True)
    assert 0.8 < widths[0] < 0.9
    assert widths[3] < 0.2


def test_two_bricks_that_differ_do_not_give_a_range_of_thousands():
    found = total_of([10, 30], [1, 1], 1e5, 100_000)
    assert found.low > 0.1 * found.best
    assert found.high < 2 * found.best


def test_the_range_is_never_below_what_was_seen():
    found = total_of([0, 100], [1, 1], 3.0, 3)
    assert found.low >= 100
    assert found.best == 150


def test_bricks_without_candidates_fall_back_to_the_mean():
    assert total_of([4, 6], [0, 0], 0.0, 10).best == pytest.approx(50.0)


def test_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="measure one"):
        total_of([], [], 10.0, 10)


@pytest.mark.parametrize("number", [2, 8])
def test_nine_of_ten_ranges_hold_the_truth(number):
    rng = np.random.default_rng(3)
    candidates = rng.uniform(500, 3000, 2000)
    selected = rng.poisson(candidates * 0.1 * rng.lognormal(0, 0.4, 2000))
    hits = 0
    for _ in range(400):
        chosen = rng.choice(2000, number, replace=False)
        found = total_of(selected[chosen], candidates[chosen], candidates.sum(), 2000)
        hits += found.low <= selected.sum() <= found.high
    assert 0.84 < hits / 400 < 0.98


def test_ranges_add_and_scale():
    assert Estimate(1, 2, 3) + Estimate(10, 20, 30) == Estimate(11, 22, 33)
    assert Estimate(1, 2, 3).times(2.0) == Estimate(2, 4, 6)
    assert Estimate(1, 2, 3).times(0.5, 1.0, 2.0) == Estimate(0.5, 2, 6)
