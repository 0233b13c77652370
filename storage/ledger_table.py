"""An append-friendly table in a Zarr group: one row a brick, one 1-D array a column.

Used for the ledgers of the survey and of the embeddings. An append or an update rewrites only the
chunks that hold the rows concerned, and finds rows through a column of hashes, so that its cost
hardly grows with the ledger. Only the process that commits writes a ledger.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from storage import arrays
from storage.schema import ArraySpec

NAME = "brickname"
HASH = "name_hash"
KEYS = (NAME, HASH)  # columns that the table keeps by itself


def create_ledger(session: icechunk.Session, path: str, specs: Sequence[ArraySpec]) -> None:
    """Create an empty ledger; ``specs`` must contain the `KEYS`."""
    group = arrays.create_group(session, path, {})
    for spec in specs:
        arrays.create_array(group, spec, {})


def read_ledger(session: icechunk.Session, path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of a ledger, indexed by brickname in the order of first writing."""
    group = arrays.open_group(session, path)
    names = arrays.read_rows(arrays.get_array(group, NAME))
    table = {name: _column(arrays.read_rows(arrays.get_array(group, name))) for name in columns}
    return pd.DataFrame(table, index=_index(names))


def read_some(
    session: icechunk.Session, path: str, bricknames: Iterable[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Return the rows of those bricks that the ledger knows, reading only their chunks."""
    group = arrays.open_group(session, path)
    found = _locate(group, list(bricknames))
    places = np.array(sorted(found.values()), dtype=np.int64)
    names = arrays.pick_rows(arrays.get_array(group, NAME), places)
    table = {
        name: _column(arrays.pick_rows(arrays.get_array(group, name), places)) for name in columns
    }
    return pd.DataFrame(table, index=_index(names))


def upsert(session: icechunk.Session, path: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows by brickname: known bricks are updated in place, new ones appended in order.

    Parameters
    ----------
    rows : mapping of str to mapping
        For every brickname the values of all columns except the `KEYS`.
    """
    if not rows:
        return
    group = arrays.open_group(session, path, "r+")
    places = _locate(group, list(rows))
    length = arrays.get_array(group, NAME).shape[0]
    for name in rows:
        if name not in places:
            places[name] = length
            length += 1
    ordered = sorted(places, key=places.__getitem__)
    columns: dict[str, list[Any]] = {NAME: ordered, HASH: _hashes(ordered).tolist()}
    for column in next(iter(rows.values())):
        columns[column] = [rows[name][column] for name in ordered]
    arrays.grow(group, list(columns), length)
    where = np.array([places[name] for name in ordered], dtype=np.int64)
    for column, values in columns.items():
        _write_column(arrays.get_array(group, column), where, values)


def _locate(group: zarr.Group, bricknames: Sequence[str]) -> dict[str, int]:
    """Return the places of those names that the ledger has."""
    hashes = arrays.read_rows(arrays.get_array(group, HASH))
    candidates = np.flatnonzero(np.isin(hashes, _hashes(bricknames)))
    # Two names may share a hash, so the names themselves decide.
    names = arrays.pick_rows(arrays.get_array(group, NAME), candidates).tolist()
    wanted = set(bricknames)
    pairs = zip(names, candidates.tolist(), strict=True)
    return {str(name): place for name, place in pairs if name in wanted}


def _hashes(bricknames: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in bricknames)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _write_column(
    array: zarr.Array[Any], places: npt.NDArray[np.int64], values: Sequence[Any]
) -> None:
    chunk = array.chunks[0]
    homes = places // chunk
    for home in np.unique(homes).tolist():
        start, stop = home * chunk, min((home + 1) * chunk, array.shape[0])
        buffer = _column(np.array(array[start:stop]))
        for index in np.flatnonzero(homes == home).tolist():
            buffer[places[index] - start] = values[index]
        array[start:stop] = buffer


def _index(names: npt.NDArray[Any]) -> pd.Index:
    return pd.Index([str(name) for name in names.tolist()], name=NAME, dtype=object)


def _column(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(object) if values.dtype.kind in "TO" else values
