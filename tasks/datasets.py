"""Data sets for downstream tasks: which objects have labels, and in which split each of them is.

A data set is frozen as a reference: snapshot, labels up to a row of the ledger, split rule. Two
models that are compared are measured on the test split of one and the same reference.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.downstream import create_task
from storage.brick_store import read_objects
from storage.catalogue import format_object_id
from storage.label_store import ID_COLUMNS, labels_digest, read_votes
from storage.splits import SplitConfig, assign_splits, split_digest
from tasks import tracking
from tasks.errors import TaskError
from tasks.loaders import open_snapshot
from tasks.references import DatasetRef, ModelRef, SnapshotRef
from tasks.settings import Settings

KEY = list(ID_COLUMNS)
SPLITS = ("train", "val", "test")
DATASET_ARTIFACT = "dataset.json"
MIN_PER_SPLIT = 2  # below this neither a fit nor a measure means anything


class NotEnoughLabels(TaskError, ValueError):
    """There are too few labelled objects for what was asked."""


@task(name="freeze-dataset", cache_policy=NO_CACHE)
def freeze_dataset(
    settings: Settings,
    snapshot: SnapshotRef,
    downstream: str,
    split: SplitConfig | None = None,
) -> DatasetRef:
    """Fix the data set of a downstream task: all labels that are there now, split by sky cell.

    Without `split`, the rule of the champion's data set is used, so that its test split stays a
    test split; without a champion, the default rule.

    Raises
    ------
    NotEnoughLabels
        If a split has fewer than `MIN_PER_SPLIT` labelled objects; the message says how many
        labels were found and how to add some.
    """
    split = split or _split_of_champion(settings, downstream, snapshot.survey)
    options = create_task(downstream).config
    classes = tuple(getattr(options, "classes", ()))
    path, now = settings.labels_path, datetime.now(UTC)
    draft = DatasetRef(
        snapshot=snapshot,
        labels_path=str(path),
        question=downstream,
        classes=classes,
        labels_as_of=now.isoformat(timespec="microseconds"),
        labels_digest="",
        healpix_order=split.healpix_order,
        fractions=(split.train, split.val, split.test),
        salt=split.salt,
        split_digest="",
        counts={},
    )
    table = labelled_objects(draft)
    counts = _counts(table, classes)
    _check_counts(counts, draft)
    found = {
        "labels_digest": labels_digest(path, snapshot.survey, downstream, as_of=now),
        "split_digest": split_digest(object_ids(table), table["split"].to_numpy(), split),
        "counts": counts,
    }
    return draft.model_copy(update=found)


def dataset_of(settings: Settings, model: ModelRef) -> DatasetRef:
    """Return the data set that a registered model was trained on."""
    text = tracking.read_artifact(settings, model.run_id, DATASET_ARTIFACT)
    return DatasetRef.model_validate_json(text)


def split_rule(dataset: DatasetRef) -> SplitConfig:
    """Return the rule that divides a data set."""
    return SplitConfig(dataset.healpix_order, *dataset.fractions, dataset.salt)


def _split_of_champion(settings: Settings, downstream: str, survey: str) -> SplitConfig:
    champion = tracking.champion(settings, downstream)
    if champion is None:
        return SplitConfig()
    dataset = dataset_of(settings, champion)
    return split_rule(dataset) if dataset.snapshot.survey == survey else SplitConfig()


def object_ids(table: pd.DataFrame) -> list[str]:
    """Return the object id text of every row of an object table."""
    keys = zip(*(table[name].tolist() for name in KEY), strict=True)
    return [format_object_id(*key) for key in keys]


def labelled_objects(dataset: DatasetRef) -> pd.DataFrame:
    """Return the labelled objects of a data set, in order of their rows in the store.

    Returns
    -------
    DataFrame
        The object table (`storage.brick_store.read_objects`), one column of votes a class (named
        as the class) and `split`.
    """
    snapshot = dataset.snapshot
    objects = read_objects(open_snapshot(snapshot), snapshot.survey)
    votes = read_votes(
        Path(dataset.labels_path),
        snapshot.survey,
        dataset.question,
        dataset.classes,
        as_of=datetime.fromisoformat(dataset.labels_as_of),
    )
    table = objects.merge(votes, on=KEY, how="inner", validate="one_to_one").sort_values("row")
    split = split_rule(dataset)
    table["split"] = assign_splits(
        table["ra"].to_numpy(), table["dec"].to_numpy(), object_ids(table), split
    )
    return table.reset_index(drop=True)


def votes_of(table: pd.DataFrame, dataset: DatasetRef) -> npt.NDArray[np.float32]:
    """Return the votes of a table, shape (object, class), float32, in the order of the classes."""
    return table[list(dataset.classes)].to_numpy(dtype=np.float32)


def _counts(table: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    winner = table[list(classes)].to_numpy().argmax(axis=1)
    names = np.array(classes)[winner] if len(table) else np.array([], dtype=str)
    return {
        split: {name: int(((table["split"] == split) & (names == name)).sum()) for name in classes}
        for split in SPLITS
    }


def _check_counts(counts: dict[str, dict[str, int]], dataset: DatasetRef) -> None:
    totals = {split: sum(found.values()) for split, found in counts.items()}
    if min(totals.values()) >= MIN_PER_SPLIT:
        return
    raise NotEnoughLabels(
        f"{dataset.snapshot.survey} has labelled objects for {dataset.question!r} in these "
        f"numbers: {totals}; every split needs at least {MIN_PER_SPLIT}. Import labels with "
        "`brickyard labels`, or ingest the bricks that the labels belong to."
    )
