"""The table that comes with a folder of pictures: which row is which picture, where, what it shows.

Human answers or vote fractions become rows for `storage.label_store`; positions go to the object
table. It reads no picture.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.errors import CorruptFile, SchemaMismatch, StorageError
from storage.pictures import PICTURE_SUFFIXES

#: Galaxy Zoo's and other catalogues' words for the four classes of the morphology question. The
#: class "other" holds irregular and merging galaxies.
CLASS_NAMES: Mapping[str, str] = {
    "smooth": "elliptical",
    "early-type": "elliptical",
    "edge": "edge-on",
    "edgeon": "edge-on",
    "edge_on": "edge-on",
    "disk-edge-on": "edge-on",
    "merger": "other",
    "merging": "other",
    "irregular": "other",
}
_ANSWER_COLUMNS = ("answer", "label", "derived_label", "class", "morphology")
_VOTES = "votes_"


def read_image_table(path: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a CSV or Parquet table as values and, the same cells, as text.

    The text keeps identifiers that a float column would round.
    """
    path = Path(path)
    if not path.is_file():
        raise StorageError(f"{path}: no such table of labels; correct the path")
    try:
        if path.suffix == ".parquet":
            values = pd.read_parquet(path)
            return values, values.astype(str)
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        return pd.read_csv(path), text
    except Exception as error:  # parsers raise ValueError, UnicodeDecodeError, ArrowInvalid, ...
        raise CorruptFile(f"{path}: not a readable CSV or Parquet table ({error})") from error


def match_rows(
    path: Path, text: pd.DataFrame, stems: Sequence[str], id_column: str | None
) -> dict[str, int]:
    """Return ``{file stem: row}``; without ``id_column``, the column with most file names in it."""
    if id_column is not None and id_column not in text:
        raise SchemaMismatch(f"{path}: no column {id_column!r}; there are {list(text.columns)}")
    known = set(stems)
    columns = list(text.columns) if id_column is None else [id_column]
    best: dict[str, int] = {}
    for column in columns:
        rows = {
            stem: row
            for row, stem in reversed(list(enumerate(map(_stem, text[column]))))
            if stem in known
        }
        best = rows if len(rows) > len(best) else best
    if not best and known:
        raise SchemaMismatch(
            f"{path}: no column names the pictures (such as {sorted(known)[0]!r}); "
            "name the column with id_column"
        )
    return best


def positions(
    table: pd.DataFrame, rows: Mapping[str, int], stems: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ra, dec [deg] of pictures, NaN where the table has none."""
    names = {str(name).lower(): name for name in table.columns}
    found = []
    for wanted in ("ra", "dec"):
        values = np.full(len(stems), np.nan)
        if wanted in names:
            column = pd.to_numeric(table[names[wanted]], errors="coerce").to_numpy(np.float64)
            values = np.array([column[rows[stem]] if stem in rows else np.nan for stem in stems])
        found.append(values)
    return found[0], found[1]


def rows_where(path: Path, table: pd.DataFrame, where: str | None) -> NDArray[np.bool_]:
    """Tell which rows a pandas expression keeps; all of them without one."""
    if not where:
        return np.ones(len(table), bool)
    try:
        kept = table.query(where, engine="python").index
    except Exception as error:  # pandas raises whatever the expression raises
        raise SchemaMismatch(
            f"{path}: cannot filter with {where!r} ({error}); write an expression of its columns, "
            "names with a hyphen in backticks"
        ) from error
    return np.asarray(table.index.isin(kept), bool)


def answers(
    path: Path,
    table: pd.DataFrame,
    label_column: str | None,
    votes: Mapping[str, str],
    count_column: str | None,
) -> pd.DataFrame:
    """Return answers with their weights: columns row, answer, count.

    Parameters
    ----------
    path : Path
        Of the table, for messages.
    table : DataFrame
    label_column : str, optional
        Column with one answer a row, worth one vote.
    votes : mapping of str to str
        ``{column: answer}`` of columns with votes or vote fractions. Without it, columns
        ``votes_<answer>`` are taken, or the first of answer, label, derived_label, class,
        morphology.
    count_column : str, optional
        Number of voters that vote fractions are multiplied with.
    """
    wanted = [*votes, *(name for name in (label_column, count_column) if name is not None)]
    if absent := [name for name in wanted if name not in table]:
        raise SchemaMismatch(f"{path}: no column {absent}; there are {list(table.columns)}")
    if not votes and label_column is None:
        votes = _vote_columns(table)
        label_column = next((name for name in _ANSWER_COLUMNS if name in table), None)
    if votes:
        number = 1.0 if count_column is None else table[count_column].to_numpy(np.float64)
        parts = [
            pd.DataFrame(
                {
                    "row": np.arange(len(table)),
                    "answer": answer,
                    "count": table[column].to_numpy(np.float64) * number,
                }
            )
            for column, answer in votes.items()
        ]
        melted = pd.concat(parts, ignore_index=True)
        return melted.loc[(melted["count"] > 0).to_numpy(bool)].reset_index(drop=True)
    if label_column is None:
        return pd.DataFrame({"row": [], "answer": [], "count": []})
    text = table[label_column].astype("string").str.strip()
    rows = np.flatnonzero((text.notna() & (text != "")).to_numpy(bool))
    return pd.DataFrame({"row": rows, "answer": text.iloc[rows].to_numpy(str), "count": 1.0})


def _vote_columns(table: pd.DataFrame) -> dict[str, str]:
    """Find columns ``votes_<class>``; an underscore stands for the hyphen of a class name."""
    names = [str(name) for name in table.columns if str(name).startswith(_VOTES)]
    return {name: name.removeprefix(_VOTES).replace("_", "-") for name in names}


def _stem(value: object) -> str:
    """Return a file's stem from a cell: a name, a path, a number."""
    text = str(value).strip().replace("\\", "/").rsplit("/", 1)[-1]
    for suffix in PICTURE_SUFFIXES:
        if text.lower().endswith(suffix):
            return text[: -len(suffix)]
    return text[:-2] if text.endswith(".0") and text[:-2].isdigit() else text
