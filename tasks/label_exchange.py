"""Labels in and out of the ledger in the forms of `storage.label_exchange`.

Importing a file again changes nothing, and a file that says something else of an object than it
did before is a correction (`tasks.labels.append_answers`).
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from lvm.downstream import create_task
from lvm.questions import QuestionTree
from storage.brick_store import read_objects
from storage.label_exchange import (
    Counter,
    read_csv,
    read_label_studio,
    read_votes_table,
    write_csv,
    write_label_studio,
    write_votes,
)
from storage.label_store import LABEL_COLUMNS, read_labels
from tasks.annotators import GOLD
from tasks.dataset_columns import question_classes
from tasks.datasets import KEY
from tasks.labels import DETAILS, LabelsReceipt, append_answers, check_question
from tasks.references import SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot
from tasks.whole_files import whole_file

Form = Literal["csv", "galaxy-zoo", "label-studio"]
MATCH_ARCSEC = 1.5  # positions of one galaxy in two surveys differ by less


def import_exchange(
    settings: Settings, snapshot: SnapshotRef, path: Path, form: Form, question: str, annotator: str
) -> tuple[LabelsReceipt, ...]:
    """Append what is new in a file to the ledger; one receipt for each annotator in it.

    Parameters
    ----------
    annotator : str
        Whose votes a table in Galaxy Zoo's form holds; the other forms name theirs.

    Raises
    ------
    SchemaMismatch
        If no downstream task asks the question, or the file lacks what is needed.
    """
    check_question(question)
    if form == "galaxy-zoo":
        rows = read_votes_table(path, _choices(question), annotator, _counter(question))
        rows = rows if "brickid" in rows else match_positions(snapshot, rows)
    else:
        rows = read_csv(path) if form == "csv" else read_label_studio(path)
    columns = [name for name in (*KEY, "answer", "count", *DETAILS) if name in rows]
    return tuple(
        append_answers(settings, snapshot, part[columns], question, str(who))
        for who, part in rows.groupby("annotator")
    )


def export_exchange(
    settings: Settings,
    survey: str,
    path: Path,
    form: Form,
    question: str,
    as_of: datetime | None = None,
) -> int:
    """Write the standing labels on a question to a file; return the rows or objects in it.

    What was taken back is not in it, and gold answers are only in the CSV: they are not for the
    people who label.
    """
    check_question(question)
    labels = read_labels(settings.labels_path, survey, question, as_of=as_of)
    standing = standing_rows(labels)
    with whole_file(path) as partial:
        if form == "csv":
            write_csv(standing, partial)
            return len(standing)
        shown = standing[standing["annotator"] != GOLD]
        if form == "galaxy-zoo":
            # Its name says the form of the file, which the partial one has not.
            aside = partial.with_name(f"{partial.name}{path.suffix}")
            write_votes(shown, _choices(question), aside)
            aside.replace(partial)
        else:
            write_label_studio(shown, question, partial)
        return len(shown[KEY].drop_duplicates())


def standing_rows(labels: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the ledger with those summed that one annotator wrote on one answer.

    `round`, `guideline` and `comment` are those of the newest.
    """
    kept = [name for name in LABEL_COLUMNS if name not in ("count", "shown")]
    on = [*KEY, "annotator", "answer"]
    newest = labels.groupby(on, as_index=False)[[name for name in kept if name not in on]].last()
    total = labels.groupby(on, as_index=False)["count"].sum()
    joined = newest.merge(total, on=on)
    return joined[joined["count"] > 0].reset_index(drop=True)


def match_positions(snapshot: SnapshotRef, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the ids of the nearest object within `MATCH_ARCSEC` of their `ra`, `dec`.

    Rows without one get an id that no object has, so that they are counted as unknown.
    """
    objects = read_objects(open_snapshot(snapshot), snapshot.survey, catalogue=False)
    tree = cKDTree(_unit_vectors(objects))
    chord = 2.0 * np.sin(np.radians(MATCH_ARCSEC / 3600.0) / 2.0)
    _, nearest = tree.query(_unit_vectors(rows), distance_upper_bound=chord)
    found = nearest < len(objects)
    ids = objects[KEY].to_numpy()[np.where(found, nearest, 0)]
    ids[~found] = -1
    return rows.assign(**dict(zip(KEY, ids.T, strict=True)))


def _unit_vectors(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    ra, dec = np.radians(table["ra"].to_numpy()), np.radians(table["dec"].to_numpy())
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _choices(question: str) -> tuple[str, ...]:
    return question_classes(create_task(question))


def _counter(question: str) -> Counter:
    """Return how fractions become votes: along the tree of the question, where it has one."""
    tree: QuestionTree | None = getattr(create_task(question), "tree", None)
    if tree is not None:
        return tree.counts

    def counts(fractions: Any, people: Any) -> npt.NDArray[np.float64]:
        return np.asarray(np.nan_to_num(fractions) * np.asarray(people)[:, None])

    return counts
