"""Measure models on the frozen test split of a data set, and put the evidence together."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.downstream import DownstreamModel
from lvm.downstream.base import Columns
from lvm.inference import Evaluation as Measured
from lvm.inference import evaluate, measures_of
from lvm.metrics import confusion, precision_per_class, recall_per_class
from storage.brick_store import read_layout
from tasks import tracking
from tasks.baselines import colour_baseline, colours, majority_baseline
from tasks.datasets import Answered, answered_objects, dataset_of, object_ids, split_rule, votes_of
from tasks.errors import TaskError
from tasks.evaluation_figures import class_figures, example_pictures, reliability_bins
from tasks.evidence_drift import drift_evidence
from tasks.evidence_figures import keep_evidence
from tasks.finetuning import MAX_IMAGES
from tasks.loaders import CutoutLoader
from tasks.models import load_model
from tasks.references import DatasetRef, Evaluation, EvidencePacket, Interval, ModelRef
from tasks.run_records import log_evaluation, log_figures
from tasks.settings import Settings, load_settings
from tasks.snapshots import open_snapshot

BATCH_SIZE = 64
BOOTSTRAP_SEED = 20241  # the intervals of a model are the same whenever they are computed
BOOTSTRAP_DRAWS = 500
WORST = 12  # confident errors shown to the reviewer
MAGNITUDE_EDGES = (0.0, 16.0, 17.0, 18.0, 19.0, 20.0)
MIN_SLICE = 5  # a balanced accuracy of fewer objects says nothing


@task(name="evaluate-model", cache_policy=NO_CACHE)
def evaluate_model(settings: Settings, model: ModelRef, dataset: DatasetRef) -> Evaluation:
    """Measure one registered model on the test split of `dataset`, beside two baselines.

    The result is also written to the MLflow run of the model, as
    `evaluation-<first 12 digits of the data set's digest>.json`.
    """
    return evaluate_on_test(settings, model, dataset)


@task(name="build-evidence", persist_result=True, cache_policy=NO_CACHE)
def build_evidence(downstream: str, challenger: ModelRef) -> EvidencePacket:
    """Measure challenger and champion on the challenger's test split; return what is decided on.

    The result is small and persisted: a suspended promotion runs its body again on resume.
    """
    settings = load_settings()
    dataset = dataset_of(settings, challenger)
    champion = tracking.champion(settings, downstream)
    if champion is not None:
        _check_same_rule(dataset, dataset_of(settings, champion))
    measured = evaluate_on_test(settings, challenger, dataset)
    tags = tracking.version_tags(settings, challenger)
    facts = {name: value for name, value in sorted(tags.items()) if name in _SHOWN_FACTS}
    facts |= {"labels": _label_counts(dataset), "cost": _cost(settings, challenger)}
    packet = EvidencePacket(
        challenger=measured,
        champion=evaluate_on_test(settings, champion, dataset) if champion else None,
        facts=facts,
    )
    return keep_evidence(settings, packet, drift_evidence(settings, challenger, champion))


class UnfairComparison(TaskError, ValueError):
    """The champion may have been trained on objects of the challenger's test split."""


def _check_same_rule(challenger: DatasetRef, champion: DatasetRef) -> None:
    """Refuse to compare models whose skies were divided by different rules."""
    if challenger.snapshot.survey != champion.snapshot.survey:
        return  # other objects altogether
    rules = split_rule(challenger), split_rule(champion)
    if rules[0] != rules[1]:
        raise UnfairComparison(
            f"the challenger's split is {rules[0]}, the champion's {rules[1]}: the champion may "
            "have been trained on the test split. Fine-tune again with the champion's split, "
            "which is the default"
        )


_SHOWN_FACTS = frozenset(
    {
        "survey",
        "snapshot_id",
        "encoder_digest",
        "labels_digest",
        "split_digest",
        "test_digest",
        "training_objects",
        "mode",
        "code_version",
        "flow_run_id",
    }
)


def evaluate_on_test(settings: Settings, model: ModelRef, dataset: DatasetRef) -> Evaluation:
    """Measure one model on the test split of a data set, and keep what was found with its run."""
    found = answered_objects(dataset)
    loaded = load_model(settings, model)
    test = found.of("test")
    if loaded.task.uses != "embedding":
        test = test.drawn(MAX_IMAGES)
    loader = CutoutLoader(dataset.snapshot, test.table["row"].to_numpy(), test.columns)
    measured = evaluate(
        loaded,
        loader.batches(BATCH_SIZE),
        np.random.default_rng(BOOTSTRAP_SEED),
        draws=BOOTSTRAP_DRAWS,
    )
    details: dict[str, Any] = {"slices": _slices(loaded, measured, test.table, dataset)}
    probability = _probability(loaded.task.present(measured.output), dataset, test)
    if probability is not None and test.target is not None:
        truth = test.target.argmax(axis=1)
        details |= _class_details(probability, truth, test.table, dataset)
        details["baselines"] = _baselines(found.table, dataset)
    evaluation = Evaluation(
        model=model,
        snapshot=dataset.snapshot,
        split_digest=dataset.split_digest,
        labels_digest=dataset.labels_digest,
        test_objects=len(test.table),
        headline=loaded.task.headline.name,
        higher_is_better=loaded.task.headline.higher_is_better,
        metrics=_intervals(measured),
        **details,
    )
    run = tracking.open_run(settings, model.run_id)
    log_evaluation(run, dataset, evaluation)
    figures = list(loaded.task.figures(measured.output, measured.labels))
    if probability is not None:
        figures += class_figures(evaluation, figures)
    figures += example_pictures(test.table, dataset, evaluation)
    log_figures(run, figures)
    return evaluation


def _probability(
    columns: Columns, dataset: DatasetRef, test: Answered
) -> npt.NDArray[np.float64] | None:
    """Return class probabilities (object, class) from what a downstream task presents.

    None for a task whose answers are not the classes of its votes.
    """
    names = [f"p_{name.replace('-', '_')}" for name in dataset.classes]
    target = test.target
    voted = target is not None and target.shape == (len(test.table), len(names))
    if not names or not voted or not set(names) <= set(columns):
        return None
    found = np.column_stack([columns[name] for name in names]).astype(np.float64)
    sums = found.sum(axis=1)
    return found if np.allclose(sums, 1.0, atol=1e-3) else None  # several questions: a tree


def _intervals(measured: Measured) -> dict[str, Interval]:
    """Return measures with intervals; one that is not defined on this split is left out."""
    found = {}
    for name, value in measured.metrics.items():
        low, high = measured.intervals[name]
        if np.isfinite([value, low, high]).all():
            found[name] = Interval(value=value, low=low, high=high)
    return found


def _class_details(
    probability: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    test: pd.DataFrame,
    dataset: DatasetRef,
) -> dict[str, Any]:
    recall = recall_per_class(probability, truth)
    precision = precision_per_class(probability, truth)
    per_class = {}
    for index, name in enumerate(dataset.classes):
        values = {"recall": recall[index], "precision": precision[index]}
        defined = {key: float(value) for key, value in values.items() if np.isfinite(value)}
        per_class[name] = {"objects": float((truth == index).sum()), **defined}
    return {
        "classes": dataset.classes,
        "confusion": tuple(tuple(row) for row in confusion(probability, truth).tolist()),
        "per_class": per_class,
        "worst": _worst(probability, truth, test),
        "reliability": reliability_bins(probability, truth),
    }


def _slices(
    model: DownstreamModel, measured: Measured, test: pd.DataFrame, dataset: DatasetRef
) -> dict[str, dict[str, float]]:
    """Return the headline, and accuracy where there is one, in slices of magnitude.

    The magnitude is that of the reddest band with fluxes in the catalogue.
    """
    bands = _catalogue_bands(test, dataset)
    if not bands:
        return {}
    magnitude = colours(test, bands)[:, -1]
    found = {}
    for low, high in zip(MAGNITUDE_EDGES, MAGNITUDE_EDGES[1:], strict=False):
        inside = np.flatnonzero((magnitude >= low) & (magnitude < high))
        if len(inside) < MIN_SLICE:
            continue
        values = measures_of(model, measured, inside)
        shown = {"accuracy", model.task.headline.name} & set(values)
        found[f"{bands[-1]} {low:g}-{high:g} mag"] = {
            "objects": float(len(inside)),
            **{name: values[name] for name in sorted(shown) if np.isfinite(values[name])},
        }
    return found


def _worst(
    probability: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], test: pd.DataFrame
) -> tuple[str, ...]:
    wrong = np.flatnonzero(probability.argmax(axis=1) != truth)
    order = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")][:WORST]
    return tuple(object_ids(test.iloc[order]))


def _catalogue_bands(table: pd.DataFrame, dataset: DatasetRef) -> tuple[str, ...]:
    """Return the bands of the survey in which the objects have catalogue fluxes."""
    bands = read_layout(open_snapshot(dataset.snapshot), dataset.snapshot.survey).bands
    columns = {band: f"flux_{band}" for band in bands}
    return tuple(b for b, name in columns.items() if name in table and table[name].notna().any())


def _baselines(table: pd.DataFrame, dataset: DatasetRef) -> dict[str, float]:
    """Return the balanced accuracy of the baselines, fitted on train and measured on test."""
    train, test = table["split"] == "train", table["split"] == "test"
    truth = votes_of(table, dataset).argmax(axis=1)
    classes = len(dataset.classes)
    found = {"majority class": majority_baseline(truth[train], truth[test], classes)}
    bands = _catalogue_bands(table, dataset)
    if bands and len(np.unique(truth[train])) > 1:
        features = colours(table, bands)
        found["colours, logistic regression"] = colour_baseline(
            (features[train], truth[train]), (features[test], truth[test]), classes
        )
    return found


def _label_counts(dataset: DatasetRef) -> str:
    return ", ".join(f"{count} {split}" for split, count in dataset.totals().items())


def _cost(settings: Settings, model: ModelRef) -> str:
    metrics = tracking.read_run(settings, model.run_id).metrics
    known = {"cpu_seconds", "wall_seconds", "peak_memory_gib"} <= set(metrics)
    return (
        f"{metrics['cpu_seconds']:.0f} CPU seconds in {metrics['wall_seconds']:.0f} s, "
        f"{metrics['peak_memory_gib']:.1f} GiB"
        if known
        else "not tracked"
    )
