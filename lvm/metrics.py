"""Measures of predictions, in numpy: classification, calibration, bootstrap intervals.

Probabilities are (object, class) float, each row summing to 1; truth is (object,) int, the index
of the class. Nothing here knows a model or a downstream task.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def accuracy(probability: Array, truth: Array) -> float:
    """Return the fraction of objects whose most probable class is the true one."""
    probability, truth = _checked(probability, truth)
    return float(np.mean(probability.argmax(axis=1) == truth))


def confusion(probability: Array, truth: Array) -> Array:
    """Return counts (true class, predicted class), int64."""
    probability, truth = _checked(probability, truth)
    classes = probability.shape[1]
    flat = truth * classes + probability.argmax(axis=1)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def recall_per_class(probability: Array, truth: Array) -> Array:
    """Return the fraction found of each class (class,); NaN for classes without an object."""
    counts = confusion(probability, truth)
    return _ratio(np.diag(counts), counts.sum(axis=1))


def precision_per_class(probability: Array, truth: Array) -> Array:
    """Return the purity of each predicted class (class,); NaN for classes never predicted."""
    counts = confusion(probability, truth)
    return _ratio(np.diag(counts), counts.sum(axis=0))


def balanced_accuracy(probability: Array, truth: Array) -> float:
    """Return the mean recall of the classes that occur in the truth."""
    return float(np.nanmean(recall_per_class(probability, truth)))


def auc(score: Array, positive: Array) -> float:
    """Return the area under the ROC curve, by ranks; ties count one half.

    Parameters
    ----------
    score : (object,) float, larger = more likely positive
    positive : (object,) bool

    Returns
    -------
    0 to 1; NaN where all or none are positive
    """
    positive = np.asarray(positive, dtype=bool)
    count = int(positive.sum())
    others = positive.size - count
    if count == 0 or others == 0:
        return float("nan")
    total = _ranks(np.asarray(score))[positive].sum()
    return float((total - count * (count + 1) / 2) / (count * others))


def macro_auc(probability: Array, truth: Array) -> float:
    """Return the mean one-versus-rest AUC over the classes for which it is defined."""
    probability, truth = _checked(probability, truth)
    areas = [auc(probability[:, k], truth == k) for k in range(probability.shape[1])]
    defined = [area for area in areas if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def log_loss(probability: Array, truth: Array) -> float:
    """Return the mean negative log of the probability given to the true class [nat]."""
    probability, truth = _checked(probability, truth)
    given = probability[np.arange(truth.size), truth].astype(np.float64)
    return float(-np.mean(np.log(np.clip(given, 1e-12, 1.0))))


def expected_calibration_error(probability: Array, truth: Array, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy, weighted by the objects of a bin.

    Confidence is the largest probability; bins are of equal width (Guo et al. 2017).
    """
    probability, truth = _checked(probability, truth)
    confidence = probability.max(axis=1).astype(np.float64)
    right = (probability.argmax(axis=1) == truth).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / truth.size)


def reliability(probability: Array, truth: Array, bins: int = 10) -> tuple[Array, Array, Array]:
    """Return how often answers of each confidence are right.

    Returns
    -------
    confidence, accuracy : (bin,) float64, means over the objects of a bin; NaN in empty ones
    objects : (bin,) int64
    """
    probability, truth = _checked(probability, truth)
    confidence = probability.max(axis=1).astype(np.float64)
    right = (probability.argmax(axis=1) == truth).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    objects = np.bincount(index, minlength=bins)
    mean = _ratio(np.bincount(index, confidence, minlength=bins), objects)
    return mean, _ratio(np.bincount(index, right, minlength=bins), objects), objects


def coverage(probability: Array, threshold: float) -> float:
    """Return the fraction of objects whose answer is at least as confident as `threshold`."""
    return float(np.mean(np.asarray(probability).max(axis=1) >= threshold))


def selective_accuracy(probability: Array, truth: Array, threshold: float) -> float:
    """Return the accuracy of the answers at least as confident as `threshold`; NaN if none is."""
    probability, truth = _checked(probability, truth)
    kept = probability.max(axis=1) >= threshold
    return accuracy(probability[kept], truth[kept]) if kept.any() else float("nan")


def accuracy_by_coverage(probability: Array, truth: Array) -> tuple[Array, Array]:
    """Return the accuracy of the surest answers for every fraction of them that can be kept.

    Returns
    -------
    coverage, accuracy : (object,) float64; the last is coverage 1. Equal confidences are kept
    in the order in which they come
    """
    probability, truth = _checked(probability, truth)
    right = (probability.argmax(axis=1) == truth)[
        np.argsort(-probability.max(axis=1), kind="stable")
    ]
    kept = np.arange(1, truth.size + 1)
    return kept / truth.size, np.cumsum(right) / kept


def classification_metrics(
    probability: Array, truth: Array, classes: Sequence[str]
) -> dict[str, float]:
    """Return every classification measure of this module under its name.

    Recall and precision of a class are `recall_<class>` and `precision_<class>`; NaN where they
    are not defined.
    """
    values = {
        "accuracy": accuracy(probability, truth),
        "balanced_accuracy": balanced_accuracy(probability, truth),
        "auc": macro_auc(probability, truth),
        "log_loss": log_loss(probability, truth),
        "expected_calibration_error": expected_calibration_error(probability, truth),
    }
    recall = recall_per_class(probability, truth)
    precision = precision_per_class(probability, truth)
    for index, name in enumerate(classes):
        values[f"recall_{name}"] = float(recall[index])
        values[f"precision_{name}"] = float(precision[index])
    return values


def bootstrap_intervals(
    measure: Callable[[Array], dict[str, float]],
    count: int,
    generator: np.random.Generator,
    draws: int = 200,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of measures by resampling objects.

    Parameters
    ----------
    measure : given indices (object,) int64, drawn with replacement, returns measures by name
    count : number of objects
    generator : of the draws
    draws, level : number of resamples; coverage of the interval

    Returns
    -------
    {name: (low, high)}; draws in which a measure is NaN are left out of its interval
    """
    if count < 1:
        raise ValueError("no objects to resample")
    samples: dict[str, list[float]] = {}
    for _ in range(draws):
        for name, value in measure(generator.integers(count, size=count)).items():
            samples.setdefault(name, []).append(value)
    tails = [(1.0 - level) / 2, (1.0 + level) / 2]
    intervals = {}
    for name, drawn in samples.items():
        defined = [value for value in drawn if not np.isnan(value)]
        low, high = np.quantile(defined, tails) if defined else (np.nan, np.nan)
        intervals[name] = (float(low), float(high))
    return intervals


def _checked(probability: Array, truth: Array) -> tuple[Array, Array]:
    probability, truth = np.asarray(probability), np.asarray(truth)
    if probability.ndim != 2 or truth.shape != probability.shape[:1] or truth.size == 0:
        raise ValueError(
            f"expected probabilities (object, class) and truth (object,), at least one object; "
            f"got {probability.shape} and {truth.shape}"
        )
    if truth.min() < 0 or truth.max() >= probability.shape[1]:
        raise ValueError(f"truth must index the {probability.shape[1]} classes")
    return probability, truth.astype(np.int64)


def _ratio(part: Array, whole: Array) -> Array:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _ranks(values: Array) -> Array:
    """Return ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
