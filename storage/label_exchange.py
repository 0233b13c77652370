"""Labels in the forms that others use: vote tables of Galaxy Zoo, plain CSV, Label Studio's JSON.

Every reader returns the same table and every writer takes it, one row an object, annotator and
answer: ``release``, ``brickid``, ``objid``, ``annotator``, ``answer``, ``count``, and where they
are known ``round``, ``guideline`` and ``comment``. A table of somebody else may name objects by
``ra`` and ``dec`` [deg] instead; finding them in a survey is the caller's.

In Galaxy Zoo's form a column is `<choice>_count`, `_weight`, `_fraction`, `_weighted_fraction` or
`_debiased`; fractions are of those who were asked a question (Willett et al. 2013).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from storage.errors import CorruptFile, SchemaMismatch
from storage.label_store import ID_COLUMNS
from storage.label_tables import read_table

IDS = list(ID_COLUMNS)
COLUMNS = [*IDS, "annotator", "answer", "count", "round", "guideline", "comment"]
_DEFAULTS: dict[str, Any] = {"count": 1.0, "round": 0, "guideline": "", "comment": ""}
PEOPLE = (
    "total_votes",
    "total_classifications",
)  # how many looked at an object, first that is there
COUNTS = ("_count",)
FRACTIONS = ("_weighted_fraction", "_fraction", "_debiased")

# `(fractions, people) -> votes`, such as that of a tree of questions.
Counter = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[Any]]


def write_csv(labels: pd.DataFrame, path: Path) -> None:
    """Write labels as CSV with the columns `COLUMNS`."""
    _complete(labels, str(path)).to_csv(path, index=False)


def read_csv(path: Path) -> pd.DataFrame:
    """Read labels as `write_csv` writes them; further columns are left out."""
    return _complete(read_table(path), str(path))


def write_votes(labels: pd.DataFrame, choices: Sequence[str], path: Path) -> None:
    """Write one row an object with `<choice>_count`, `<choice>_fraction` and `total_votes`.

    The fraction is of all votes in the table: who was asked what is not known to the ledger.
    """
    votes = labels.pivot_table(index=IDS, columns="answer", values="count", aggfunc="sum")
    votes = votes.reindex(columns=list(choices)).fillna(0.0)
    total = votes.sum(axis=1)
    counts = votes.add_suffix("_count")
    fractions = votes.div(total.where(total > 0), axis=0).add_suffix("_fraction")
    table = pd.concat([total.rename(PEOPLE[0]), counts, fractions], axis=1).reset_index()
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False)


def read_votes_table(
    path: Path, choices: Sequence[str], annotator: str, counter: Counter
) -> pd.DataFrame:
    """Read a vote table in the form of Galaxy Zoo: CSV, Parquet or FITS.

    Parameters
    ----------
    choices : sequence of str
        Answers whose columns are read; those of the table that are none of them are left alone.
    annotator : str
        Whose votes these are, such as "galaxy-zoo-2".
    counter : function
        Makes votes of fractions and of the people who looked at an object; not asked where the
        table has counts.

    Raises
    ------
    SchemaMismatch
        When the table has no votes on any choice, or no ids and no positions.
    """
    table = read_table(path)
    names = [name for name in (*IDS, "ra", "dec") if name in table]
    if not ({"brickid", "objid"} <= set(names) or {"ra", "dec"} <= set(names)):
        raise SchemaMismatch(f"{path}: objects are named by brickid and objid, or by ra and dec")
    votes = _votes(table, choices, counter, path)
    rows = pd.concat([table[names], votes], axis=1).melt(
        names, var_name="answer", value_name="count"
    )
    rows = rows[rows["count"] > 0]
    return rows.assign(annotator=annotator).reset_index(drop=True)


def write_label_studio(labels: pd.DataFrame, question: str, path: Path) -> None:
    """Write tasks with annotations as Label Studio imports and exports them, one task an object."""
    tasks = []
    for number, (key, rows) in enumerate(_complete(labels, str(path)).groupby(IDS), 1):
        ids = dict(zip(IDS, map(int, np.asarray(key)), strict=True))
        made = [_annotation(row, question) for row in rows.to_dict("records")]
        tasks.append({"id": number, "data": {**ids, "question": question}, "annotations": made})
    path.write_text(json.dumps(tasks, indent=1))


def read_label_studio(path: Path) -> pd.DataFrame:
    """Read the choices of all annotations that were not cancelled.

    Each task names its object in its data, by `release`, `brickid` and `objid`, or by an
    `object_id` "<release>-<brickid>-<objid>". `completed_by` is the annotator.

    Raises
    ------
    CorruptFile
        When it is no such document.
    SchemaMismatch
        When a task names no object.
    """
    try:
        tasks = json.loads(path.read_text())
        rows = [row for task in tasks for row in _rows_of(task)]
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CorruptFile(f"{path}: not an export of Label Studio ({error!r})") from error
    return _complete(pd.DataFrame(rows, columns=COLUMNS), str(path))


def _annotation(row: dict[Any, Any], question: str) -> dict[str, Any]:
    result = {
        "from_name": question,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [row["answer"]]},
    }
    kept = {name: row[name] for name in ("count", "round", "guideline", "comment")}
    return {"completed_by": row["annotator"], "result": [result], "meta": kept}


def _rows_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    ids = _ids_of(task["data"])
    rows = []
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        meta, who = annotation.get("meta") or {}, annotation.get("completed_by", "")
        name = who.get("email", who.get("id", "")) if isinstance(who, dict) else who
        kept = {key: meta.get(key, default) for key, default in _DEFAULTS.items()}
        rows += [
            {**ids, "annotator": str(name), "answer": str(answer), **kept}
            for result in annotation["result"]
            if result.get("type") == "choices"
            for answer in result["value"]["choices"]
        ]
    return rows


def _ids_of(data: dict[str, Any]) -> dict[str, int]:
    if "object_id" in data:
        parts = str(data["object_id"]).split("-")
        if len(parts) == len(IDS) and all(part.isdecimal() for part in parts):
            return dict(zip(IDS, map(int, parts), strict=True))
    if not set(IDS) <= set(data):
        raise SchemaMismatch(f"a task names no object: its data are {sorted(data)}; give {IDS}")
    return {name: int(data[name]) for name in IDS}


def _votes(
    table: pd.DataFrame, choices: Sequence[str], counter: Counter, path: Path
) -> pd.DataFrame:
    counts = _columns(table, choices, COUNTS)
    if counts is not None:
        return counts
    fractions = _columns(table, choices, FRACTIONS)
    people = next((table[name] for name in PEOPLE if name in table), None)
    if fractions is None or people is None:
        raise SchemaMismatch(
            f"{path}: needed are <choice>_count, or <choice> with one of {FRACTIONS} and a column "
            f"{' or '.join(PEOPLE)}, for choices such as {', '.join(choices[:3])}"
        )
    values = counter(fractions.to_numpy(np.float64), people.to_numpy(np.float64))
    return pd.DataFrame(values, columns=list(choices), index=table.index)


def _columns(
    table: pd.DataFrame, choices: Sequence[str], suffixes: Sequence[str]
) -> pd.DataFrame | None:
    """Return a column a choice with the first suffix that the table has for it; None: for none."""
    chosen = {}
    for choice in choices:
        for suffix in suffixes:
            if f"{choice}{suffix}" in table:
                chosen[choice] = table[f"{choice}{suffix}"].astype("float64")
                break
    if not chosen:
        return None
    return pd.DataFrame(chosen, index=table.index).reindex(columns=list(choices))


def _complete(labels: pd.DataFrame, where: str) -> pd.DataFrame:
    needed = [*IDS, "annotator", "answer"]
    if absent := [name for name in needed if name not in labels]:
        raise SchemaMismatch(f"{where}: columns {absent} are absent; needed are {needed}")
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in labels}
    table = labels.assign(**defaults)[COLUMNS]
    # An empty column of a CSV is read as numbers that are none.
    texts = {
        name: table[name].astype(object).fillna("").astype("str")
        for name in ("guideline", "comment")
    }
    return table.assign(count=table["count"].astype("float64"), **texts).reset_index(drop=True)
