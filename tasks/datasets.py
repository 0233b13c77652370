"""Data sets for downstream tasks: which objects have an answer, and in which split each of them is.

A data set is frozen as a reference: snapshot, labels up to a row of the ledger, split rule. Two
models that are compared are measured on the test split of one and the same reference. Where the
answers come from is said by the task's `needs`: see `tasks.dataset_columns`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.downstream import create_task
from storage.brick_store import read_objects
from storage.catalogue import format_object_id
from storage.label_store import ID_COLUMNS, labels_digest
from storage.splits import BORDER, SPLIT_NAMES, SplitConfig, assign_splits, split_digest
from tasks import tracking
from tasks.dataset_columns import answers_of, question_classes, question_of
from tasks.errors import TaskError
from tasks.frozen_tests import freeze_ids, frozen_ids, read_record
from tasks.references import DatasetRef, ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot

KEY = list(ID_COLUMNS)
SPLITS = SPLIT_NAMES
DATASET_ARTIFACT = "dataset.json"
MIN_PER_SPLIT = 2  # below this neither a fit nor a measure means anything
OBJECTS = "objects"  # what is counted where there are no classes
NO_ANSWER, AT_BORDER = "no usable answer", "beside the border of a sky cell"


class NotEnoughLabels(TaskError, ValueError):
    """There are too few objects with an answer for what was asked."""


@dataclass(frozen=True)
class Answered:
    """Objects with an answer, in order of their rows in the store, and what the answers are.

    table : the object table with `split`; for tasks with votes one column of votes a class too
    target : (object, ...) float32; None for a task that makes its answer from the cutout
    left_out : objects without a place in it, by reason
    """

    table: pd.DataFrame
    target: npt.NDArray[np.float32] | None
    left_out: Mapping[str, int]

    def of(self, *splits: str) -> "Answered":
        """Return the objects of some splits."""
        return self.where(self.table["split"].isin(splits).to_numpy())

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Answered":
        """Return some of the objects."""
        target = None if self.target is None else self.target[chosen]
        return Answered(self.table[chosen].reset_index(drop=True), target, self.left_out)

    def drawn(self, count: int) -> "Answered":
        """Return at most so many objects, drawn by the hash of their ids.

        The same ones for every model, fewer of the same for a smaller count, and as far as they go
        the same ones when more objects are there.
        """
        if len(self.table) <= count:
            return self
        hashes = [hashlib.sha256(name.encode()).hexdigest() for name in object_ids(self.table)]
        chosen = np.zeros(len(hashes), dtype=bool)
        chosen[np.argsort(hashes)[:count]] = True
        return self.where(chosen)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return what goes with every cutout into a batch."""
        return {} if self.target is None else {"target": self.target}


@task(name="freeze-dataset", cache_policy=NO_CACHE)
def freeze_dataset(
    settings: Settings,
    snapshot: SnapshotRef,
    downstream: str,
    split: SplitConfig | None = None,
    options: Mapping[str, Any] | None = None,
) -> DatasetRef:
    """Fix the data set of a downstream task: all answers that are there now, split by sky cell.

    Without `split`, the rule of the champion's data set is used, so that its test split stays a
    test split; without a champion, the default rule. `options` are those of the task.

    Raises
    ------
    NotEnoughLabels
        If a split has fewer than `MIN_PER_SPLIT` objects with an answer; the message says how many
        were found and how to add some.
    """
    split = split or _split_of_champion(settings, downstream, snapshot.survey)
    objective = create_task(downstream, options)
    question = question_of(objective)
    now = datetime.now(UTC)
    draft = DatasetRef(
        downstream=downstream,
        snapshot=snapshot,
        options=dict(options or {}),
        question=question,
        classes=question_classes(objective),
        labels_path=str(settings.labels_path) if question else "",
        labels_as_of=now.isoformat(timespec="microseconds") if question else "",
        healpix_order=split.healpix_order,
        fractions=(split.train, split.val, split.test),
        salt=split.salt,
        border_arcsec=split.border_arcsec,
    )
    before = frozen_ids(settings, downstream, snapshot.survey, split)
    found = _divided(draft, before)
    draft = draft.model_copy(
        update={"counts": _counts(found.table, draft.classes), "left_out": dict(found.left_out)}
    )
    _check_counts(draft)
    ids, splits = np.array(object_ids(found.table)), found.table["split"].to_numpy(dtype=str)
    test = frozenset(ids[splits == "test"].tolist())
    record, digest = freeze_ids(settings, downstream, snapshot, split, test)
    labels = ""
    if question:
        labels = labels_digest(settings.labels_path, snapshot.survey, question, as_of=now)
    update = {
        "labels_digest": labels,
        "split_digest": split_digest(ids, splits, split),
        "test_record": str(record),
        "test_digest": digest,
    }
    return draft.model_copy(update=update)


def answered_objects(dataset: DatasetRef) -> Answered:
    """Return the objects of a data set with their answers; those at a border are left out."""
    frozen = frozenset(read_record(Path(dataset.test_record)).ids)
    return _divided(dataset, frozen)


def labelled_objects(dataset: DatasetRef) -> pd.DataFrame:
    """Return the objects of a data set, in order of their rows in the store.

    Returns
    -------
    DataFrame
        The object table (`storage.brick_store.read_objects`), one column of votes a class (named
        as the class) where the answers are votes, and `split`.
    """
    return answered_objects(dataset).table


def votes_of(table: pd.DataFrame, dataset: DatasetRef) -> npt.NDArray[np.float32]:
    """Return the votes of a table, shape (object, class), float32, in the order of the classes."""
    return table[list(dataset.classes)].to_numpy(dtype=np.float32)


def dataset_of(settings: Settings, model: ModelRef) -> DatasetRef:
    """Return the data set that a registered model was trained on."""
    text = tracking.read_artifact(settings, model.run_id, DATASET_ARTIFACT)
    return DatasetRef.model_validate_json(text)


def split_rule(dataset: DatasetRef) -> SplitConfig:
    """Return the rule that divides a data set."""
    order, fractions = dataset.healpix_order, dataset.fractions
    return SplitConfig(order, *fractions, dataset.salt, dataset.border_arcsec)


def object_ids(table: pd.DataFrame) -> list[str]:
    """Return the object id text of every row of an object table."""
    keys = zip(*(table[name].tolist() for name in KEY), strict=True)
    return [format_object_id(*key) for key in keys]


def _split_of_champion(settings: Settings, downstream: str, survey: str) -> SplitConfig:
    champion = tracking.champion(settings, downstream)
    if champion is None:
        return SplitConfig()
    dataset = dataset_of(settings, champion)
    return split_rule(dataset) if dataset.snapshot.survey == survey else SplitConfig()


def _divided(dataset: DatasetRef, frozen: frozenset[str]) -> Answered:
    """Return the objects with an answer and a split; `frozen` ones are in test, whatever else."""
    snapshot = dataset.snapshot
    objects = read_objects(open_snapshot(snapshot), snapshot.survey).sort_values("row")
    objects = objects.reset_index(drop=True)
    table, target = answers_of(dataset, objects)
    without_answer = len(objects) - len(table)
    ids = np.array(object_ids(table), dtype=str)
    splits = assign_splits(
        table["ra"].to_numpy(), table["dec"].to_numpy(), ids, split_rule(dataset)
    )
    splits[np.isin(ids, list(frozen))] = "test"
    table = table.assign(split=splits)
    placed = splits != BORDER
    left_out = {NO_ANSWER: without_answer, AT_BORDER: int((~placed).sum())}
    return Answered(table, target, left_out).where(placed)


def _counts(table: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    if not classes:
        return {split: {OBJECTS: int((table["split"] == split).sum())} for split in SPLITS}
    winner = table[list(classes)].to_numpy().argmax(axis=1)
    names = np.array(classes)[winner] if len(table) else np.array([], dtype=str)
    return {
        split: {name: int(((table["split"] == split) & (names == name)).sum()) for name in classes}
        for split in SPLITS
    }


def _check_counts(dataset: DatasetRef) -> None:
    totals, left_out = dataset.totals(), dataset.left_out
    if min(totals.values()) >= MIN_PER_SPLIT:
        return
    needs = create_task(dataset.downstream, dataset.options).needs
    advice = (
        f"import labels with `brickyard labels` for the question {dataset.question!r}, or ingest "
        "the bricks that the labels belong to"
        if dataset.question
        else f"it learns from {', '.join(needs) or 'the cutouts'}: ingest more bricks, with a "
        "catalogue that has them"
    )
    raise NotEnoughLabels(
        f"{dataset.snapshot.survey} has objects with an answer for {dataset.downstream!r} in these "
        f"numbers: {totals} (left out: {left_out}); every split needs at least {MIN_PER_SPLIT}: "
        f"{advice}"
    )
