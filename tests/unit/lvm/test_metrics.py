import numpy as np
import pytest
from sklearn import metrics as reference

from lvm.metrics import (
    accuracy,
    accuracy_by_coverage,
    auc,
    balanced_accuracy,
    bootstrap_intervals,
    classification_metrics,
    confusion,
    coverage,
    expected_calibration_error,
    log_loss,
    macro_auc,
    precision_per_class,
    recall_per_class,
    reliability,
    selective_accuracy,
)


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    truth = generator.choice(4, size=300, p=[0.6, 0.2, 0.15, 0.05])
    logits = generator.normal(size=(300, 4)) + 1.5 * np.eye(4)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probability, truth


def test_measures_agree_with_scikit_learn(predictions):
    probability, truth = predictions
    answer = probability.argmax(axis=1)
    assert accuracy(*predictions) == pytest.approx(reference.accuracy_score(truth, answer))
    assert balanced_accuracy(*predictions) == pytest.approx(
        reference.balanced_accuracy_score(truth, answer)
    )
    assert macro_auc(*predictions) == pytest.approx(
        reference.roc_auc_score(truth, probability, multi_class="ovr")
    )
    assert log_loss(*predictions) == pytest.approx(reference.log_loss(truth, probability))
    assert np.array_equal(confusion(*predictions), reference.confusion_matrix(truth, answer))
    assert np.allclose(
        recall_per_class(*predictions), reference.recall_score(truth, answer, average=None)
    )
    assert np.allclose(
        precision_per_class(*predictions), reference.precision_score(truth, answer, average=None)
    )


def test_auc_counts_ties_as_one_half():
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), np.array([1, 0, 1, 0])) == 0.5
    assert auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 0, 1, 1])) == 0.875


def test_auc_of_one_class_is_undefined_and_left_out_of_the_mean():
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([1, 1])))
    probability = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    assert macro_auc(probability, np.array([0, 1])) == 1.0


def test_calibration_error_of_known_cases():
    sure = np.tile([1.0, 0.0], (10, 1))
    assert expected_calibration_error(sure, np.zeros(10, int)) == 0.0
    assert expected_calibration_error(sure, np.ones(10, int)) == 1.0
    half = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(half, np.array([0, 0, 1, 0])) == pytest.approx(0.0)
    assert expected_calibration_error(half, np.array([0, 0, 1, 1])) == pytest.approx(0.25)


def test_reliability_adds_up_to_the_calibration_error(predictions):
    confidence, right, objects = reliability(*predictions, bins=15)
    gap = np.nansum(np.abs(confidence - right) * objects) / objects.sum()
    assert objects.sum() == 300
    assert gap == pytest.approx(expected_calibration_error(*predictions))
    assert np.isnan(right[objects == 0]).all()


def test_only_confident_answers_count_in_selective_accuracy():
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.55, 0.45]])
    truth = np.array([0, 1, 1, 1])
    assert selective_accuracy(probability, truth, 0.8) == 1.0
    assert coverage(probability, 0.8) == 0.5
    assert selective_accuracy(probability, truth, 0.0) == accuracy(probability, truth) == 0.5
    assert np.isnan(selective_accuracy(probability, truth, 0.95))
    assert coverage(probability, 0.95) == 0.0


def test_accuracy_by_coverage_passes_through_every_selective_accuracy(predictions):
    share, right = accuracy_by_coverage(*predictions)
    assert right[-1] == pytest.approx(accuracy(*predictions))
    for place in (29, 149, 299):
        threshold = np.sort(predictions[0].max(axis=1))[::-1][place]
        assert coverage(predictions[0], threshold) == pytest.approx(share[place])
        assert selective_accuracy(*predictions, threshold) == pytest.approx(right[place])


def test_classes_that_do_not_occur_do_not_count_in_balanced_accuracy():
    probability = np.eye(3)[[0, 0, 1]]
    assert balanced_accuracy(probability, np.array([0, 0, 1])) == 1.0
    values = classification_metrics(probability, np.array([0, 0, 1]), ("a", "b", "c"))
    assert np.isnan(values["recall_c"])


def test_intervals_cover_the_truth_and_repeat_with_the_seed():
    right = np.random.default_rng(1).random(400) < 0.8

    def measure(index):
        return {"accuracy": float(right[index].mean()), "undefined": float("nan")}

    first, second = (
        bootstrap_intervals(measure, 400, np.random.default_rng(0), draws=300) for _ in range(2)
    )
    low, high = first["accuracy"]
    assert low < right.mean() < high
    # Binomial: 2 * 1.96 * sqrt(0.8 * 0.2 / 400) = 0.078
    assert high - low == pytest.approx(0.078, rel=0.2)
    assert first["accuracy"] == second["accuracy"]
    assert np.isnan(first["undefined"][0])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one object"):
        accuracy(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="index the 2 classes"):
        accuracy(np.zeros((1, 2)), np.array([2]))
    with pytest.raises(ValueError, match="no objects"):
        bootstrap_intervals(lambda index: {}, 0, np.random.default_rng(0))
