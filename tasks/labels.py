"""Labels into the ledger, from tables of answers; importing a table again changes nothing."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.downstream import DOWNSTREAM_TASKS
from storage.brick_store import read_objects
from storage.errors import SchemaMismatch
from storage.image_folder import ImageFolderConfig, read_image_labels
from storage.label_store import append_labels, read_labels
from storage.label_tables import read_label_table
from tasks.dataset_columns import question_of
from tasks.datasets import KEY
from tasks.events import tell_labels
from tasks.references import Reference, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot

DETAILS = ("round", "guideline", "comment")


class LabelsReceipt(Reference):
    """What became of the rows of a table: each is in exactly one of the counts.

    `corrected` rows replace an earlier count of the same annotator: the ledger gets the
    difference, because nothing in it is ever changed. `unknown` rows are about objects that are
    not in the snapshot; they are not written.
    """

    survey: str
    question: str
    written: int = 0
    corrected: int = 0
    already_present: int = 0
    unknown: int = 0


@task(name="import-labels", cache_policy=NO_CACHE)
def import_labels(
    settings: Settings,
    snapshot: SnapshotRef,
    tables: Sequence[str],
    question: str,
    annotator: str,
) -> LabelsReceipt:
    """Read tables of answers and append what is new to the label ledger, all or nothing.

    Parameters
    ----------
    snapshot : SnapshotRef
        The answers are matched with its objects by `brickid` and `objid` (and `release`).
    tables : sequence of str
        Files that `storage.label_tables.read_label_table` understands.
    question : str
        Such as "morphology".
    annotator : str
        Who answered; the sum of an annotator's rows on an object and answer is the vote count.
    """
    check_question(question)
    answers = pd.concat([read_label_table(Path(table)) for table in tables], ignore_index=True)
    return append_answers(settings, snapshot, answers, question, annotator)


@task(name="import-image-labels", cache_policy=NO_CACHE)
def import_image_labels(
    settings: Settings,
    snapshot: SnapshotRef,
    folder: str,
    table: str,
    config: ImageFolderConfig,
) -> LabelsReceipt:
    """Append the labels of a folder of pictures, in the table that came with it."""
    check_question(config.question)
    name = snapshot.survey.partition("/")[2]
    rows = read_image_labels(folder, name, table, config)
    answers = rows[[*KEY, "answer", "count"]]
    return append_answers(settings, snapshot, answers, config.question, Path(table).stem)


def append_answers(
    settings: Settings,
    snapshot: SnapshotRef,
    answers: pd.DataFrame,
    question: str,
    annotator: str,
) -> LabelsReceipt:
    """Append answers (`brickid`, `objid`, `answer`, `count`) about objects of a snapshot.

    Columns of `DETAILS` that are there go with them.
    """
    objects = read_objects(open_snapshot(snapshot), snapshot.survey, catalogue=False)[KEY]
    on = [name for name in KEY if name in answers]
    matched = answers.merge(objects, on=on, how="inner")
    keys = [*KEY, "answer"]
    details = {name: "last" for name in DETAILS if name in answers}
    matched = matched.groupby(keys, as_index=False).agg({"count": "sum", **details})
    before = _present(settings.labels_path, snapshot.survey, question, annotator)
    joined = matched.merge(before, on=keys, how="left", suffixes=("", "_before"))
    joined["count_before"] = joined["count_before"].fillna(0.0)
    changed = joined[joined["count"] != joined["count_before"]]
    rows = changed[[*keys, *details]].assign(
        count=changed["count"] - changed["count_before"],
        survey=snapshot.survey,
        question=question,
        annotator=annotator,
    )
    append_labels(settings.labels_path, rows)
    tell_labels(snapshot.survey, question, len(rows))
    corrected = int((changed["count_before"] != 0).sum())
    grouped = len(answers.groupby([*on, "answer"]))
    return LabelsReceipt(
        survey=snapshot.survey,
        question=question,
        written=len(changed) - corrected,
        corrected=corrected,
        already_present=len(joined) - len(changed),
        unknown=grouped - len(joined),
    )


def _present(path: Path, survey: str, question: str, annotator: str) -> pd.DataFrame:
    keys = [*KEY, "answer"]
    if not path.is_file():
        empty = {name: pd.Series(dtype="int64") for name in KEY}
        return pd.DataFrame(
            {**empty, "answer": pd.Series(dtype="str"), "count": pd.Series(dtype="float64")}
        )
    known = read_labels(path, survey, question)
    mine = known[known["annotator"] == annotator]
    return mine.groupby(keys, as_index=False)["count"].sum()


def check_question(question: str) -> None:
    """Refuse a question that no downstream task asks; a misspelt one would never be used."""
    asked = {question_of(task()) for task in DOWNSTREAM_TASKS.values()} - {""}
    if question not in asked:
        raise SchemaMismatch(f"no downstream task asks {question!r}; they ask {sorted(asked)}")
