"""Read tables of votes or answers that somebody else made: CSV, Parquet or FITS.

A table names objects by ``brickid`` and ``objid`` (and ``release`` where it has one) and says
either ``answer`` (with an optional ``count``) or one column ``votes_<class>`` a class.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from storage.errors import CorruptFile, SchemaMismatch, StorageError

VOTE_PREFIX = "votes_"


def read_label_table(path: str | Path) -> pd.DataFrame:
    """Return the answers of a table, one row an object and answer.

    Parameters
    ----------
    path : str or Path
        A ``.csv``, ``.parquet``, ``.fits`` or ``.fits.gz`` file. In ``votes_<class>`` columns an
        underscore stands for the hyphen of a class name.

    Returns
    -------
    DataFrame
        ``release`` (where the table has it), ``brickid``, ``objid``, ``answer`` and ``count``
        (float64); rows without a vote are left out.

    Raises
    ------
    StorageError
        When there is no such file.
    CorruptFile
        When it cannot be read.
    SchemaMismatch
        When columns are missing; the message names those that are there.
    """
    table = read_table(Path(path))
    ids = [name for name in ("release", "brickid", "objid") if name in table]
    votes = [name for name in table if str(name).startswith(VOTE_PREFIX)]
    if not {"brickid", "objid"} <= set(ids) or not (votes or "answer" in table):
        raise SchemaMismatch(
            f"{path}: columns {list(table.columns)}; needed are brickid, objid and either answer "
            f"(and count) or {VOTE_PREFIX}<class> for every class"
        )
    if votes:
        table = table.melt(ids, votes, var_name="answer", value_name="count")
        table["answer"] = table["answer"].str.removeprefix(VOTE_PREFIX).str.replace("_", "-")
    elif "count" not in table:
        table["count"] = 1.0
    table["count"] = table["count"].astype("float64")
    wanted = table["count"].notna() & (table["count"] != 0) & table["answer"].notna()
    return table.loc[wanted, [*ids, "answer", "count"]].reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """Return a table in a ``.csv``, ``.parquet`` or ``.fits`` file, its column names in lower case.

    Raises the errors of `read_label_table`.
    """
    table = _read(path)
    table.columns = [str(name).lower() for name in table.columns]
    return table


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise StorageError(f"{path}: no such table of labels")
    suffixes = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    try:
        if suffixes in (".fits", ".fits.gz"):
            return _read_fits(path)
        if path.suffix == ".csv":
            return pd.read_csv(path)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (OSError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise CorruptFile(f"{path}: not a readable table ({error}); export it again") from error
    raise SchemaMismatch(f"{path}: give a .csv, .parquet, .fits or .fits.gz file")


def _read_fits(path: Path) -> pd.DataFrame:
    with fits.open(path, memmap=False) as hdus:
        rows = hdus[1].data
        columns = {str(name): np.asarray(rows[name]) for name in rows.names}
    native = {
        name: values.astype(values.dtype.newbyteorder("="))
        for name, values in columns.items()
        if values.ndim == 1 and values.dtype.kind in "iufb"
    }
    texts = {
        name: np.char.strip(values.astype(str))
        for name, values in columns.items()
        if values.ndim == 1 and values.dtype.kind in "SU"
    }
    return pd.DataFrame({**native, **texts})
