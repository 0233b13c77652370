"""Human labels: an append-only SQLite table with who, when, which question and which guideline.

Nothing is ever changed or deleted, which triggers in the database enforce: a correction is a new
row, and ``as_of`` gives back what was known at any time.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from storage.errors import SchemaMismatch, StorageError
from storage.write_ahead import use_write_ahead_log

ID_COLUMNS = ("release", "brickid", "objid")
_BUSY_SECONDS = 30.0


@dataclass(frozen=True)
class Label:
    """One answer to one question about one object.

    Parameters
    ----------
    survey, release, brickid, objid : str, int, int, int
        The object.
    question, answer : str
        Such as "morphology" and "spiral".
    annotator : str
        Person or source, such as "galaxy-zoo-2".
    count : float
        Votes this row stands for: 1 for a person, more for a table of votes; negative takes back.
    round : int
        Round of the labelling campaign; 0 outside one.
    guideline : str
        Version of the instructions that the annotator followed.
    shown : str
        JSON of what the annotator saw.
    comment : str
        Free text.
    """

    survey: str
    release: int
    brickid: int
    objid: int
    question: str
    answer: str
    annotator: str
    count: float = 1.0
    round: int = 0
    guideline: str = ""
    shown: str = "{}"
    comment: str = ""


LABEL_COLUMNS = tuple(entry.name for entry in fields(Label))
_REQUIRED = ("survey", *ID_COLUMNS, "question", "answer", "annotator")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at TEXT NOT NULL,
    survey TEXT NOT NULL CHECK (survey <> ''),
    release INTEGER NOT NULL,
    brickid INTEGER NOT NULL,
    objid INTEGER NOT NULL,
    question TEXT NOT NULL CHECK (question <> ''),
    answer TEXT NOT NULL CHECK (answer <> ''),
    annotator TEXT NOT NULL CHECK (annotator <> ''),
    count REAL NOT NULL,
    round INTEGER NOT NULL,
    guideline TEXT NOT NULL,
    shown TEXT NOT NULL CHECK (json_valid(shown)),
    comment TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS labels_by_question ON labels (survey, question);
CREATE INDEX IF NOT EXISTS labels_by_object ON labels (survey, release, brickid, objid);
CREATE TRIGGER IF NOT EXISTS labels_no_update BEFORE UPDATE ON labels
    BEGIN SELECT RAISE(ABORT, 'labels are append-only: add a new row'); END;
CREATE TRIGGER IF NOT EXISTS labels_no_delete BEFORE DELETE ON labels
    BEGIN SELECT RAISE(ABORT, 'labels are append-only: add a new row'); END;
"""


def append_labels(path: str | Path, rows: Sequence[Label] | pd.DataFrame) -> int:
    """Append labels, all or none, and return how many.

    Parameters
    ----------
    path : str or Path
        The database file; made where absent.
    rows : sequence of Label, or DataFrame
        A DataFrame has columns of `Label`; those with a default may be absent.

    Raises
    ------
    SchemaMismatch
        When a column is unknown or absent, or a value is refused.
    """
    labels = _labels_of(rows) if isinstance(rows, pd.DataFrame) else list(rows)
    if not labels:
        return 0
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    names = ", ".join(("created_at", *LABEL_COLUMNS))
    marks = ", ".join("?" * (1 + len(LABEL_COLUMNS)))
    with _database(path, create=True) as database:
        try:
            database.executemany(
                f"INSERT INTO labels ({names}) VALUES ({marks})",
                [(now, *astuple(label)) for label in labels],
            )
        except (sqlite3.IntegrityError, OverflowError) as error:
            raise SchemaMismatch(f"{path}: labels refused, none written: {error}") from error
    return len(labels)


def read_labels(
    path: str | Path, survey: str, question: str, *, as_of: datetime | None = None
) -> pd.DataFrame:
    """Return all rows on one question in the order of their writing.

    Parameters
    ----------
    as_of : datetime, optional
        With a time zone: only rows written up to then.
    """
    where, values = _condition(survey, question, as_of)
    return _select(path, where, values)


def read_object_labels(
    path: str | Path, survey: str, release: int, brickid: int, objid: int
) -> pd.DataFrame:
    """Return all rows on one object, whatever the question, in the order of their writing."""
    return _select(
        path,
        "survey = ? AND release = ? AND brickid = ? AND objid = ?",
        (survey, release, brickid, objid),
    )


def read_votes(
    path: str | Path,
    survey: str,
    question: str,
    classes: Sequence[str],
    *,
    as_of: datetime | None = None,
) -> pd.DataFrame:
    """Return the votes of every object that has any for one of the classes.

    Returns
    -------
    DataFrame
        ``release``, ``brickid``, ``objid`` and one float64 column of votes for each class, ordered
        by object. Answers outside ``classes`` are left out.
    """
    return votes_table(read_labels(path, survey, question, as_of=as_of), classes)


def votes_table(labels: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the votes in rows of the ledger, as `read_votes` does."""
    labels = labels[labels["answer"].isin(list(classes))]
    ids = list(ID_COLUMNS)
    if labels.empty:
        empty = {name: pd.Series(dtype="int64") for name in ids}
        return pd.DataFrame(empty | {name: pd.Series(dtype="float64") for name in classes})
    votes = labels.pivot_table(index=ids, columns="answer", values="count", aggfunc="sum")
    votes = votes.reindex(columns=list(classes)).fillna(0.0).astype("float64").sort_index()
    votes.columns.name = None
    return votes.reset_index()


def labels_digest(
    path: str | Path, survey: str, question: str, *, as_of: datetime | None = None
) -> str:
    """Return the hex digest of the rows that `read_labels` returns: what a training run saw."""
    digest = hashlib.sha256()
    for row in read_labels(path, survey, question, as_of=as_of).itertuples(index=False):
        digest.update(json.dumps(list(row)).encode())
    return digest.hexdigest()


def _select(path: str | Path, where: str, values: Sequence[str | int]) -> pd.DataFrame:
    columns = ["id", "created_at", *LABEL_COLUMNS]
    with _database(path, create=False) as database:
        query = f"SELECT {', '.join(columns)} FROM labels WHERE {where} ORDER BY id"
        return pd.DataFrame(database.execute(query, values).fetchall(), columns=columns)


def _condition(survey: str, question: str, as_of: datetime | None) -> tuple[str, tuple[str, ...]]:
    if as_of is None:
        return "survey = ? AND question = ?", (survey, question)
    if as_of.tzinfo is None:
        raise SchemaMismatch(f"as_of {as_of} has no time zone: give one, such as UTC")
    until = as_of.astimezone(UTC).isoformat(timespec="microseconds")
    return "survey = ? AND question = ? AND created_at <= ?", (survey, question, until)


def _labels_of(table: pd.DataFrame) -> list[Label]:
    unknown = [str(name) for name in table.columns if name not in LABEL_COLUMNS]
    absent = [name for name in _REQUIRED if name not in table.columns]
    if unknown or absent:
        raise SchemaMismatch(
            f"labels: unknown columns {unknown}, absent columns {absent}; known: {LABEL_COLUMNS}"
        )
    # to_dict gives Python numbers, which SQLite stores as numbers and not as blobs.
    records = table.astype(object).to_dict("records")
    return [Label(**{str(name): value for name, value in row.items()}) for row in records]


@contextmanager
def _database(path: str | Path, *, create: bool) -> Iterator[sqlite3.Connection]:
    file = Path(path)
    if create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.is_file():
        raise StorageError(f"no labels at {file}: add labels first, or give the right home folder")
    connection = sqlite3.connect(file, timeout=_BUSY_SECONDS)
    try:
        if create:
            use_write_ahead_log(connection, _BUSY_SECONDS)
            connection.executescript(_SCHEMA)
        with connection:  # commits, or rolls back on an exception
            yield connection
    finally:
        connection.close()
