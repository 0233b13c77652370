"""Where the answers of a downstream task come from: votes, columns of the catalogue, or sources."""

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.downstream import DownstreamTask, create_task
from lvm.downstream.base import SOURCES
from storage.brick_store import read_layout
from storage.cutout_sources import sources_in_cutouts
from storage.label_store import ID_COLUMNS
from tasks.agreement import answer_groups
from tasks.annotators import weighted_votes
from tasks.errors import TaskError
from tasks.references import DatasetRef
from tasks.snapshots import open_snapshot

VOTE = "_vote"  # a need "<question>_vote" is the votes of the label ledger on that question


class UnknownNeed(TaskError, ValueError):
    """A downstream task needs what neither the ledger nor the catalogue can give."""


def question_of(task: DownstreamTask) -> str:
    """Return the question whose votes a task needs; empty for a task without votes."""
    questions = [need.removesuffix(VOTE) for need in task.needs if need.endswith(VOTE)]
    if len(questions) > 1:
        raise UnknownNeed(
            f"{task.name} needs votes on {questions}: ask one question, whose classes may be the "
            "choices of a tree of questions"
        )
    return questions[0] if questions else ""


def question_classes(task: DownstreamTask) -> tuple[str, ...]:
    """Return the answers to the question of a task, in the order of the columns of its votes.

    They are the `classes` of its options, or of the task that is named as the question.
    """
    question = question_of(task)
    if not question:
        return ()
    for asked in (task, create_task(question)):
        if classes := tuple(getattr(asked.config, "classes", ())):
            return classes
    raise UnknownNeed(f"{task.name} needs votes on {question!r}, but no options name the answers")


def answers_of(
    dataset: DatasetRef, objects: pd.DataFrame
) -> tuple[pd.DataFrame, npt.NDArray[np.float32] | None]:
    """Return the objects with a usable answer, and the answers.

    Parameters
    ----------
    objects : DataFrame
        The object table of the snapshot, with an index that counts from 0.

    Returns
    -------
    table : DataFrame
        The rows with an answer, in the same order; votes as one column a class.
    target : ndarray, shape (object, ...), float32, or None
        At least one value an object is known. None for a task that needs nothing.
    """
    task = create_task(dataset.downstream, dataset.options)
    if not task.needs:
        return objects, None
    table = _with_votes(dataset, objects, task) if dataset.question else objects
    columns = {need: _column(need, dataset, table, objects) for need in task.needs}
    target = np.asarray(task.target(columns), dtype=np.float32)
    known = np.isfinite(target).any(axis=tuple(range(1, target.ndim)))
    if dataset.question:
        known &= (table[list(dataset.classes)].sum(axis=1) > 0).to_numpy()
    return table[known].reset_index(drop=True), target[known]


def _with_votes(dataset: DatasetRef, objects: pd.DataFrame, task: DownstreamTask) -> pd.DataFrame:
    votes = weighted_votes(
        Path(dataset.labels_path),
        dataset.snapshot.survey,
        dataset.question,
        answer_groups(task, dataset.classes),
        as_of=datetime.fromisoformat(dataset.labels_as_of),
    )
    joined = objects.reset_index(names="place").merge(
        votes, on=list(ID_COLUMNS), how="inner", validate="one_to_one"
    )
    return joined.sort_values("place").set_index("place")


def _column(
    need: str, dataset: DatasetRef, table: pd.DataFrame, objects: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Return what a task needs of the rows of `table`, whose index is their place in `objects`."""
    if need == SOURCES:
        layout = read_layout(open_snapshot(dataset.snapshot), dataset.snapshot.survey)
        return sources_in_cutouts(objects, layout, table.index.to_numpy(dtype=np.int64))
    if need.endswith(VOTE):
        return table[list(dataset.classes)].to_numpy(dtype=np.float32)
    if need not in table:
        raise UnknownNeed(
            f"{dataset.downstream} needs the column {need!r}, which {dataset.snapshot.survey} does "
            "not have: ingest with a catalogue that has it, or change the options of the task"
        )
    return table[need].to_numpy(dtype=np.float32)
