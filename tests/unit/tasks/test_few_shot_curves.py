"""Labels needed and their ratio, on curves whose answer is known."""

import numpy as np
import pytest

from tasks.few_shot.curves import LabelCurve, error_ratio, label_ratio, labels_needed, risen

LABELS = np.array([10, 100, 1000])


def curve(*rows):
    return LabelCurve(LABELS, np.array(rows, np.float64))


def test_interpolated_on_the_logarithm_of_labels():
    needed = labels_needed(LABELS, [0.8, 0.88, 0.92], 0.9)
    assert needed.labels == pytest.approx(10**2.5)
    assert needed.bound == ""


def test_noise_of_one_point_does_not_cross_early():
    noisy = labels_needed(np.array([10, 20, 40, 80]), [0.7, 0.91, 0.71, 0.95], 0.9)
    assert noisy.labels > 40


def test_a_curve_is_made_to_rise_by_means_of_neighbours():
    assert risen([1.0, 3.0, 2.0, 4.0]) == pytest.approx([1.0, 2.5, 2.5, 4.0])
    assert risen([3.0, 2.0, 1.0]) == pytest.approx([2.0, 2.0, 2.0])


def test_a_target_outside_the_curve_is_a_bound():
    never = labels_needed(LABELS, [0.5, 0.6, 0.7], 0.9)
    at_once = labels_needed(LABELS, [0.95, 0.96, 0.97], 0.9)
    assert (never.labels, never.bound) == (1000.0, "at least")
    assert (at_once.labels, at_once.bound) == (10.0, "at most")


def test_ratio_of_two_methods_with_its_interval():
    more, less = curve([0.7, 0.8, 0.9], [0.7, 0.8, 0.9]), curve([0.9, 0.91, 0.92])
    found = label_ratio(more, less, 0.9)
    assert found.value == pytest.approx(100.0)
    assert (found.low, found.high) == pytest.approx((100.0, 100.0))
    assert found.bound == ""


def test_the_interval_grows_with_the_seeds_disagreement():
    more = curve([0.7, 0.8, 0.9], [0.8, 0.88, 0.95], [0.75, 0.85, 0.91])
    found = label_ratio(more, curve([0.85, 0.95, 0.97], [0.85, 0.95, 0.97]), 0.9)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("more", "less", "bound"),
    [
        ([0.5, 0.6, 0.7], [0.8, 0.95, 0.96], "at least"),
        ([0.8, 0.85, 0.95], [0.95, 0.96, 0.97], "at least"),
        ([0.8, 0.85, 0.95], [0.5, 0.6, 0.7], "at most"),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], "about"),
    ],
)
def test_bounds_are_said(more, less, bound):
    assert label_ratio(curve(more), curve(less), 0.9).bound == bound


def test_curves_come_from_cells_and_half_seeds_are_left_out():
    cells = [
        {"labels": labels, "seed": seed, "auc": 0.5 + 0.1 * seed + labels / 1e4}
        for seed, labels in ((0, 10), (0, 100), (1, 10), (1, 100), (2, 10))
    ]
    found = LabelCurve.of_cells(cells, "auc")
    assert found.labels.tolist() == [10, 100]
    assert found.values == pytest.approx(np.array([[0.501, 0.51], [0.601, 0.61]]))
    low, high = found.interval()
    assert (low <= found.mean()).all()
    assert (found.mean() <= high).all()


def test_error_ratio_compares_common_labels():
    other = LabelCurve(np.array([100, 1000, 5000]), np.array([[0.9, 0.95, 0.99]]))
    found = error_ratio(curve([0.7, 0.8, 0.9]), other)
    assert found == pytest.approx([0.15 / 0.075])
