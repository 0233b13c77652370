"""Figures of an evaluation that any task may have: confusion, reliability, example pictures."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.figures import Curve, Figure, Matrix, Pictures
from lvm.metrics import reliability
from storage.batches import read_cutouts
from storage.brick_store import read_layout
from tasks.datasets import object_ids
from tasks.references import DatasetRef, Evaluation, ReliabilityBin
from tasks.snapshots import open_snapshot

RELIABILITY_BINS = 10
EXAMPLES = 8  # pictures kept with a run


def class_figures(
    evaluation: Evaluation,
    given: list[Figure],
) -> list[Figure]:
    """Return confusion and reliability, unless the task draws figures of these names itself."""
    counts = np.array(evaluation.confusion, dtype=np.float64)
    classes = evaluation.classes
    figures: list[Figure] = [
        Matrix("confusion", counts, classes, classes, "is", "was called"),
        _reliability(evaluation.reliability),
    ]
    return [figure for figure in figures if figure.name not in {item.name for item in given}]


def reliability_bins(
    probability: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]
) -> tuple[ReliabilityBin, ...]:
    """Return how often answers of each confidence are right; bins without answers are left out.

    Parameters
    ----------
    probability, truth : ndarray, shapes (object, class) float64 and (object,) int64
    """
    found = reliability(probability, truth, RELIABILITY_BINS)
    return tuple(
        ReliabilityBin(confidence=confidence, accuracy=accuracy, objects=objects)
        for confidence, accuracy, objects in zip(*(part.tolist() for part in found), strict=True)
        if objects
    )


def _reliability(bins: tuple[ReliabilityBin, ...]) -> Curve:
    x = np.array([item.confidence for item in bins])
    y = np.array([item.accuracy for item in bins])
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
