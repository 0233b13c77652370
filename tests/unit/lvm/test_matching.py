import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.matching import (
    FALSE,
    IGNORED,
    Found,
    Known,
    average_precision,
    best_threshold,
    completeness,
    completeness_in_bins,
    curve,
    distances,
    f1,
    match_by_distance,
    match_by_overlap,
    nearest_neighbour,
    overlaps,
    partners,
    purity,
)

RADIUS = 4.0


def places(*centres, half=5.0):
    return np.array([[x, y, half, half] for x, y in centres], dtype=float).reshape(-1, 4)


def found(*centres, score, judged=True):
    score = np.array(score, dtype=float)
    return Found(places(*centres), score, np.full(len(score), judged))


def known(*centres, required=None):
    required = np.ones(len(centres), bool) if required is None else np.array(required, bool)
    return Known(places(*centres), required)


def partners_within(radius, first, second):
    return partners(-distances(first.places, second.places), -radius, first, second)


def test_the_stronger_of_two_found_sources_takes_the_one_that_is_there():
    mine = partners_within(RADIUS, found((1, 0), (0, 0), score=[0.9, 0.5]), known((0, 0)))
    assert mine.tolist() == [0, FALSE]


def test_a_found_source_takes_the_closest_that_is_still_free():
    mine = partners_within(RADIUS, found((0, 0), (0.5, 0), score=[0.9, 0.8]), known((0, 0), (3, 0)))
    assert mine.tolist() == [0, 1]


def test_what_fits_an_ignored_source_or_lies_outside_is_not_counted():
    truth = known((0, 0), required=[False])
    assert partners_within(RADIUS, found((0, 0), score=[1]), truth).tolist() == [IGNORED]
    far = found((90, 0), score=[1], judged=False)
    assert partners_within(RADIUS, far, truth).tolist() == [IGNORED]
    assert partners_within(RADIUS, found((90, 0), score=[1]), truth).tolist() == [FALSE]


def test_a_required_source_is_preferred_to_a_closer_ignored_one():
    truth = known((0, 0), (2, 0), required=[False, True])
    assert partners_within(RADIUS, found((0, 0), score=[1]), truth).tolist() == [1]


def test_fields_without_sources_are_counted_too():
    nothing = found(score=[])
    matches = match_by_distance([(nothing, known((0, 0))), (found((5, 5), score=[2]), known())], 4)
    assert completeness(matches, 0) == 0
    assert purity(matches, 0) == 0
    assert f1(matches, 0) == 0
    assert np.isnan(purity(matches, 3))


def test_the_measures_of_a_small_case_by_hand():
    fields = [
        (found((0, 0), (20, 0), (40, 0), score=[3, 2, 1]), known((1, 0), (41, 0), (80, 0))),
    ]
    matches = match_by_distance(fields, RADIUS)
    assert completeness(matches, 0) == pytest.approx(2 / 3)
    assert purity(matches, 0) == pytest.approx(2 / 3)
    assert f1(matches, 0) == pytest.approx(2 / 3)
    assert f1(matches, 2.5) == pytest.approx(2 / 4)
    # purity 1 up to a third, then 2/3 up to two thirds
    assert average_precision(matches) == pytest.approx(1 / 3 + 2 / 9)
    assert np.nanmax(matches.separation) == pytest.approx(1.0)


def test_the_best_threshold_is_where_f1_is_largest_and_parts_no_equal_scores():
    fields = [(found((0, 0), (50, 0), (90, 0), score=[3, 1, 1]), known((0, 0), (50, 0)))]
    matches = match_by_distance(fields, RADIUS)
    best = best_threshold(matches)
    assert f1(matches, best) == max(f1(matches, value) for value in (0.5, 1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="nothing"):
        best_threshold(match_by_distance([(found(score=[]), known())], RADIUS))


def test_boxes_overlap_by_their_shared_area():
    first, second = places((0, 0)), places((5, 0), (30, 0))
    assert overlaps(first, second)[0] == pytest.approx([1 / 3, 0.0])
    matches = match_by_overlap([(found((0, 0), score=[1]), known((2, 0)))])
    assert matches.right.all()
    assert not match_by_overlap([(found((0, 0), score=[1]), known((5, 0)))]).right.any()


def test_bins_leave_out_what_has_no_value():
    fields = [(found((0, 0), score=[1]), known((0, 0), (30, 0), (60, 0)))]
    matches = match_by_distance(fields, RADIUS)
    share, number = completeness_in_bins(matches, np.array([1.0, 1.5, np.nan]), (0, 2, 4), 0)
    assert number.tolist() == [2, 0]
    assert share[0] == 0.5
    assert np.isnan(share[1])


def test_a_source_that_is_alone_has_no_neighbour():
    assert nearest_neighbour(places((0, 0))[:, :2]).tolist() == [np.inf]
    assert nearest_neighbour(places((0, 0), (3, 4), (30, 0))).tolist() == [
        5,
        5,
        pytest.approx(27.3, abs=0.1),
    ]
    assert nearest_neighbour(np.zeros((0, 2))).shape == (0,)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_partners_are_one_to_one_and_measures_fall_as_they_must(seed):
    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(3):
        here, there = rng.integers(0, 12, 2)
        fields.append(
            (
                Found(rng.uniform(1, 20, (here, 4)), rng.normal(size=here), rng.random(here) < 0.8),
                Known(rng.uniform(1, 20, (there, 4)), rng.random(there) < 0.7),
            )
        )
    matches = match_by_distance(fields, RADIUS)
    assert matches.right.sum() == np.isfinite(matches.found_at).sum()
    assert (matches.separation[np.isfinite(matches.separation)] <= RADIUS).all()
    shares, _ = curve(matches, 20)
    assert (np.diff(shares[np.isfinite(shares)]) >= 0).all()
    for threshold in (-1.0, 0.0, 1.0):
        kept = [
            (Found(f.places[m], f.score[m], f.judged[m]), k)
            for f, k in fields
            for m in [f.score >= threshold]
        ]
        again = match_by_distance(kept, RADIUS)
        assert again.right.sum() == matches.right[matches.score >= threshold].sum()
