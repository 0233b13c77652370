"""What the run of a candidate keeps besides its parameters: data, curves, and what was measured."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lvm.figures import Curve, Figure
from lvm.finetuning import FineTuneResult
from tasks import tracking
from tasks.datasets import DATASET_ARTIFACT, KEY, Answered
from tasks.plots import write_figures
from tasks.references import DatasetRef, Evaluation

OBJECTS_ARTIFACT = "data/objects.csv.gz"
FIGURES = "figures"


def log_dataset(run: tracking.Run, dataset: DatasetRef, objects: Answered) -> None:
    """Keep a data set with a run: its reference, MLflow's input, and the answers by object."""
    run.log_json(DATASET_ARTIFACT, dataset)
    facts = {
        "uri": f"{dataset.snapshot.store}#{dataset.snapshot.survey}@{dataset.snapshot.snapshot_id}",
        "survey": dataset.snapshot.survey,
        "snapshot_id": dataset.snapshot.snapshot_id,
        "labels_as_of": dataset.labels_as_of,
        "labels_digest": dataset.labels_digest,
        "split_digest": dataset.split_digest,
        "test_digest": dataset.test_digest,
    }
    profile = {"objects": dataset.counts, "left_out": dataset.left_out}
    run.log_dataset(
        dataset.downstream,
        dataset.content_digest(),
        source=facts,
        context="training",
        profile=profile,
    )
    # The ledger may be lost or moved; what this model was taught stays with it.
    columns = [*KEY, "split", *dataset.classes]
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(OBJECTS_ARTIFACT).name
        objects.table[columns].to_csv(path, index=False)
        run.log_artifacts(Path(folder), str(Path(OBJECTS_ARTIFACT).parent))


def log_training(run: tracking.Run, result: FineTuneResult) -> None:
    """Keep the means of every epoch, as numbers and as a plot for each training."""
    trainings = {"head": result.head, "full": result.full}
    histories = {name: [dict(row) for row in fit.history] for name, fit in trainings.items() if fit}
    run.log_json("history.json", histories)
    log_figures(run, [_curve(name, rows) for name, rows in histories.items() if rows])


def log_figures(run: tracking.Run, figures: list[Figure]) -> None:
    """Keep figures as pictures and as the numbers that they show."""
    if not figures:
        return
    with TemporaryDirectory() as folder:
        write_figures(figures, Path(folder))
        run.log_artifacts(Path(folder), FIGURES)


def log_evaluation(run: tracking.Run, dataset: DatasetRef, evaluation: Evaluation) -> None:
    """Keep an evaluation: as a document of its own, and its measures with their intervals."""
    run.log_json(f"evaluation-{dataset.content_digest()[:12]}.json", evaluation)
    values = {}
    for name, metric in evaluation.metrics.items():
        values[f"test_{name}"] = metric.value
        values[f"test_{name}_low"], values[f"test_{name}_high"] = metric.low, metric.high
    run.log_metrics(values)
    run.set_tags({"headline": evaluation.headline})


def _curve(name: str, rows: list[dict[str, float]]) -> Curve:
    lines = {
        key: np.array([row.get(key, np.nan) for row in rows])
        for key in rows[0]
        if key == "loss" or key.startswith("loss_")
    }
    epochs = np.arange(1, len(rows) + 1, dtype=np.float64)
    return Curve(f"training-{name}", epochs, lines, "epoch", "loss")
