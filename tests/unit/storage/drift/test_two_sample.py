"""Drift is found where there is some, and nowhere else: bricks differ from one another anyway."""

import numpy as np
import pytest

from storage.drift.two_sample import DriftLimits, compare
from storage.errors import SchemaMismatch

WIDTH = 12
LIMITS = DriftLimits(permutations=199, sample=240)


def bricks_of(number, shift=0.0, scatter=0.0, seed=0, each=20):
    """Return embeddings of bricks that scatter, and the names of their bricks."""
    rng = np.random.default_rng(seed)
    means = shift + scatter * rng.normal(size=(number, WIDTH))
    values = np.repeat(means, each, axis=0) + rng.normal(size=(number * each, WIDTH))
    return values.astype(np.float16), np.repeat([f"{seed}-{k}" for k in range(number)], each)


def difference(first, second, limits=LIMITS):
    return compare(first[0], second[0], (first[1], second[1]), limits)


def test_equal_distributions_give_no_alarm_and_a_plain_p_value():
    found = [difference(bricks_of(12, seed=k), bricks_of(12, seed=k + 50)) for k in range(5)]
    assert not any(one.alarm for one in found)
    p_values = [one.p_value for one in found]
    assert min(p_values) > 0.01
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.3)
    assert all(abs(one.separation - 0.5) < 0.1 for one in found)
    assert all(one.exchanged == "bricks" for one in found)


def test_a_shift_gives_an_alarm():
    found = difference(bricks_of(12, seed=1), bricks_of(12, shift=0.5, seed=2))
    assert found.alarm
    assert found.p_value <= 0.01
    assert found.separation > 0.7
    assert found.frechet > 0.1
    assert found.objects == (240, 240)


def test_another_spread_is_seen_though_the_means_agree():
    first = bricks_of(12, seed=1)
    second = (bricks_of(12, seed=2)[0] * np.float16(1.6), bricks_of(12, seed=2)[1])
    found = difference(first, second)
    assert found.p_value <= 0.01
    assert found.separation < 0.6  # a linear classifier sees means alone
    assert not found.alarm


def test_bricks_that_scatter_are_no_drift_unless_objects_are_exchanged():
    first, second = bricks_of(10, scatter=0.5, seed=3), bricks_of(10, scatter=0.5, seed=4)
    by_bricks, by_objects = difference(first, second), compare(first[0], second[0], None, LIMITS)
    assert not by_bricks.alarm
    assert by_bricks.p_value > 0.01
    assert by_objects.exchanged == "objects"
    assert by_objects.alarm


def test_too_few_bricks_for_the_p_value_are_not_exchanged():
    found = difference(bricks_of(3, seed=1), bricks_of(3, seed=2))  # 20 ways to exchange them
    assert found.exchanged == "objects"


def test_the_same_objects_on_both_sides_are_no_drift():
    same = bricks_of(12, scatter=0.5, seed=1)
    found = difference(same, same)
    assert not found.alarm
    assert found.p_value > 0.5
    assert found.separation == pytest.approx(0.5, abs=0.02)
    assert found.frechet == pytest.approx(0, abs=1e-6)


def test_a_seed_repeats_and_samples_are_bounded():
    first, second = bricks_of(30, seed=1), bricks_of(30, shift=0.1, seed=2)
    small = DriftLimits(permutations=99, sample=200)
    found = difference(first, second, small)
    assert found.objects == (200, 200)
    assert found == difference(first, second, small)


def test_a_constant_feature_does_no_harm():
    first, second = (bricks_of(12, seed=k) for k in (1, 2))
    for side in (first, second):
        side[0][:, 3] = 2
    found = difference(first, second)
    assert np.isfinite([found.mmd, found.separation, found.frechet]).all()


@pytest.mark.parametrize(
    ("first", "second"), [((19, 4), (100, 4)), ((100, 4), (19, 4)), ((50, 4), (50, 5))]
)
def test_too_few_objects_and_other_encoders_are_refused(first, second):
    with pytest.raises(SchemaMismatch, match="by one encoder"):
        compare(np.zeros(first), np.ones(second))
