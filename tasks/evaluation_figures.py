"""Figures of an evaluation that any task may have: confusion, reliability, example pictures."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.figures import Curve, Figure, Matrix, Pictures
from storage.batches import read_cutouts
from storage.brick_store import read_layout
from tasks.datasets import Answered, object_ids
from tasks.loaders import open_snapshot
from tasks.references import DatasetRef, Evaluation

RELIABILITY_BINS = 10
EXAMPLES = 8  # pictures kept with a run


def class_figures(
    evaluation: Evaluation,
    probability: npt.NDArray[np.float64],
    test: Answered,
    given: list[Figure],
) -> list[Figure]:
    """Return confusion and reliability, unless the task draws figures of these names itself."""
    counts = np.array(evaluation.confusion, dtype=np.float64)
    classes = evaluation.classes
    truth = np.zeros(0, np.int64) if test.target is None else test.target.argmax(axis=1)
    figures: list[Figure] = [
        Matrix("confusion", counts, classes, classes, "is", "was called"),
        _reliability(probability, truth),
    ]
    return [figure for figure in figures if figure.name not in {item.name for item in given}]


def _reliability(probability: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> Curve:
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    place = np.clip((confidence * RELIABILITY_BINS).astype(int), 0, RELIABILITY_BINS - 1)
    count = np.bincount(place, minlength=RELIABILITY_BINS)
    count = np.where(count > 0, count, np.nan)
    x, y = (np.bincount(place, values, RELIABILITY_BINS) / count for values in (confidence, right))
    return Curve("reliability", x, {"of this model": y}, "confidence", "accuracy", "diagonal")


def example_pictures(
    test: pd.DataFrame, dataset: DatasetRef, evaluation: Evaluation
) -> list[Figure]:
    """Return pictures of some test objects, and of the most confident errors."""
    names = np.array(object_ids(test))
    shown = {"examples": np.arange(min(EXAMPLES, len(test)))}
    if evaluation.worst:
        shown["confident-errors"] = np.flatnonzero(np.isin(names, evaluation.worst))
    session, survey = open_snapshot(dataset.snapshot), dataset.snapshot.survey
    bands, figures = read_layout(session, survey).bands, []
    for name, places in shown.items():
        rows = test["row"].to_numpy()[places[:EXAMPLES]]
        images = read_cutouts(session, survey, rows, ("image",))["image"]
        figures.append(Pictures(name, {name: np.asarray(images, np.float32)}, bands))
    return list(figures)
