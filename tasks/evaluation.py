"""Measure models on the frozen test split of a data set, and put the evidence together."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.inference import Evaluation as Measured
from lvm.inference import evaluate
from lvm.metrics import balanced_accuracy, confusion, precision_per_class, recall_per_class
from storage.brick_store import read_layout
from tasks import tracking
from tasks.baselines import colour_baseline, colours, majority_baseline
from tasks.datasets import dataset_of, labelled_objects, object_ids, split_rule, votes_of
from tasks.errors import TaskError
from tasks.finetuning import load_model
from tasks.loaders import CutoutLoader, open_snapshot
from tasks.references import DatasetRef, Evaluation, EvidencePacket, Interval, ModelRef
from tasks.settings import Settings, load_settings

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
    return EvidencePacket(
        challenger=measured,
        champion=evaluate_on_test(settings, champion, dataset) if champion else None,
        facts=facts | {"labels": _label_counts(dataset)},
    )


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
        "training_objects",
        "mode",
        "code_version",
        "flow_run_id",
    }
)


def evaluate_on_test(settings: Settings, model: ModelRef, dataset: DatasetRef) -> Evaluation:
    """Measure one model on the test split of a data set."""
    table = labelled_objects(dataset)
    test = table[table["split"] == "test"].reset_index(drop=True)
    loaded = load_model(settings, model)
    target = votes_of(test, dataset)
    loader = CutoutLoader(dataset.snapshot, test["row"].to_numpy(), {"target": target})
    measured = evaluate(
        loaded,
        loader.batches(BATCH_SIZE),
        np.random.default_rng(BOOTSTRAP_SEED),
        draws=BOOTSTRAP_DRAWS,
    )
    probability = _probability(loaded.task.present(measured.output), dataset.classes)
    evaluation = Evaluation(
        model=model,
        snapshot=dataset.snapshot,
        split_digest=dataset.split_digest,
        labels_digest=dataset.labels_digest,
        test_objects=len(test),
        headline=loaded.task.headline.name,
        higher_is_better=loaded.task.headline.higher_is_better,
        metrics=_intervals(measured),
        **_class_details(probability, target.argmax(axis=1), test, dataset),
        baselines=_baselines(table, dataset),
    )
    name = f"evaluation-{dataset.content_digest()[:12]}.json"
    run = tracking.open_run(settings, model.run_id)
    run.log_json(name, evaluation)
    run.log_metrics({f"test_{key}": metric.value for key, metric in evaluation.metrics.items()})
    return evaluation


def _probability(columns: dict[str, Any], classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return class probabilities (object, class) from what a downstream task presents."""
    names = [f"p_{name.replace('-', '_')}" for name in classes]
    return np.column_stack([columns[name] for name in names]).astype(np.float64)


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
        "slices": _slices(probability, truth, test, dataset),
        "worst": _worst(probability, truth, test),
    }


def _slices(
    probability: npt.NDArray[np.float64],
    truth: npt.NDArray[np.int64],
    test: pd.DataFrame,
    dataset: DatasetRef,
) -> dict[str, dict[str, float]]:
    """Return accuracy and balanced accuracy in slices of the magnitude of the reddest band."""
    bands = _catalogue_bands(test, dataset)
    if not bands:
        return {}
    magnitude = colours(test, bands)[:, -1]
    found = {}
    for low, high in zip(MAGNITUDE_EDGES, MAGNITUDE_EDGES[1:], strict=False):
        inside = (magnitude >= low) & (magnitude < high)
        if inside.sum() < MIN_SLICE:
            continue
        right = probability[inside].argmax(axis=1) == truth[inside]
        found[f"{bands[-1]} {low:g}-{high:g} mag"] = {
            "objects": float(inside.sum()),
            "accuracy": float(right.mean()),
            "balanced_accuracy": balanced_accuracy(probability[inside], truth[inside]),
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
    totals = {split: sum(found.values()) for split, found in dataset.counts.items()}
    return ", ".join(f"{count} {split}" for split, count in totals.items())
