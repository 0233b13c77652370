"""Write and read predicted catalogues: Parquet files that say what they are.

A catalogue is a folder with ``catalogue.parquet``, put in place whole. Its schema carries the
metadata of the run and the unit and description of every column. A release has the same rows as a
HATS catalogue and as a FITS table beside it: see `storage.catalogue_export`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import SchemaMismatch, StorageError

FILE_NAME = "catalogue.parquet"
METADATA_KEY = b"brickyard"
ID_COLUMNS = ("release", "brickid", "objid")


@dataclass(frozen=True)
class ColumnNote:
    """Unit and meaning of a catalogue column."""

    unit: str
    description: str


def write_catalogue(
    folder: str | Path,
    parts: Iterable[pd.DataFrame],
    metadata: Mapping[str, Any],
    columns: Mapping[str, ColumnNote],
) -> Path:
    """Write a catalogue from parts of the same columns, as they come; it appears whole or not.

    Parameters
    ----------
    folder : str or Path
        Folder of the catalogue; made where absent. A catalogue in it is replaced at the end.
    parts : iterable of DataFrame
        With ``release``, ``brickid``, ``objid`` and any others; the first gives names and types.
    metadata : mapping
        JSON-sized provenance: model, version, snapshot id.
    columns : mapping of str to ColumnNote
        Unit and description of every column of the parts.

    Raises
    ------
    SchemaMismatch
        When a part has other columns, a column has no note, or an id column is absent.
    StorageError
        When there is no part at all.
    """
    return write_table(Path(folder) / FILE_NAME, parts, metadata, columns)


def write_table(
    target: Path,
    parts: Iterable[pd.DataFrame],
    metadata: Mapping[str, Any],
    columns: Mapping[str, ColumnNote],
) -> Path:
    """Write a file like that of a catalogue under any name; see `write_catalogue`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _write_parts(temporary, parts, metadata, columns)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return target


def read_catalogue(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a catalogue and its metadata."""
    path = _existing(folder)
    return pq.read_table(path).to_pandas(), read_metadata(folder)


def read_bricks(
    folder: str | Path, bricknames: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Return columns of the rows of some bricks; only the row groups that may hold them are read.

    Rows of a release are in the order of brick names, so that few groups hold a run of bricks.
    """
    chosen = [("brickname", "in", list(bricknames))]
    # A file of one name is no partitioned folder, whatever its path looks like.
    path = _existing(folder)
    table = pq.read_table(path, columns=list(columns), filters=chosen, partitioning=None)
    rows: pd.DataFrame = table.to_pandas()
    return rows


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Return the metadata of a catalogue without reading its rows."""
    raw = (pq.read_schema(_existing(folder)).metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise SchemaMismatch(
            f"{folder}: no Brickyard metadata; it was not written by write_catalogue"
        )
    return dict(json.loads(raw))


def read_column_notes(folder: str | Path) -> dict[str, ColumnNote]:
    """Return unit and description of every column."""
    notes = {}
    for column in pq.read_schema(_existing(folder)):
        entry = column.metadata or {}
        unit, text = entry.get(b"unit", b""), entry.get(b"description", b"")
        notes[column.name] = ColumnNote(unit.decode(), text.decode())
    return notes


def find_row(folder: str | Path, object_id: str) -> dict[str, Any] | None:
    """Return the row of an object id ``<release>-<brickid>-<objid>``, or None when not listed."""
    wanted = dict(zip(ID_COLUMNS, parse_object_id(object_id), strict=True))
    filters = [(name, "==", value) for name, value in wanted.items()]
    rows: list[dict[str, Any]] = pq.read_table(_existing(folder), filters=filters).to_pylist()
    return rows[0] if rows else None


def parse_object_id(object_id: str) -> tuple[int, int, int]:
    """Return (release, brickid, objid) of an object id.

    Raises
    ------
    SchemaMismatch
        When the text is not three whole numbers joined by "-".
    """
    parts = object_id.strip().split("-")
    if len(parts) != len(ID_COLUMNS) or not all(part.isdecimal() for part in parts):
        raise SchemaMismatch(
            f"object id {object_id!r}: give <release>-<brickid>-<objid>, such as 10000-349541-123"
        )
    release, brickid, objid = (int(part) for part in parts)
    return release, brickid, objid


def format_object_id(release: int, brickid: int, objid: int) -> str:
    """Return the object id text of a key."""
    return f"{release}-{brickid}-{objid}"


def _write_parts(
    path: Path,
    parts: Iterable[pd.DataFrame],
    metadata: Mapping[str, Any],
    columns: Mapping[str, ColumnNote],
) -> None:
    remaining = iter(parts)
    first = next(remaining, None)
    if first is None:
        raise StorageError(f"{path.parent}: no part to write; a catalogue needs at least one")
    schema = _schema(first, metadata, columns)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in chain([first], remaining):
            if list(part.columns) != schema.names:
                raise SchemaMismatch(
                    f"catalogue part has columns {list(part.columns)}, the first had {schema.names}"
                )
            writer.write_table(pa.Table.from_pandas(part, schema=schema, preserve_index=False))


def _schema(
    part: pd.DataFrame, metadata: Mapping[str, Any], columns: Mapping[str, ColumnNote]
) -> pa.Schema:
    absent = [name for name in ID_COLUMNS if name not in part.columns]
    bare = [name for name in part.columns if name not in columns]
    if absent or bare:
        raise SchemaMismatch(f"catalogue: absent id columns {absent}, columns without note {bare}")
    fields = []
    for entry in pa.Schema.from_pandas(part, preserve_index=False):
        note = columns[entry.name]
        fields.append(entry.with_metadata({"unit": note.unit, "description": note.description}))
    text = json.dumps(dict(metadata), sort_keys=True)
    return pa.schema(fields, metadata={METADATA_KEY: text.encode()})


def _existing(folder: str | Path) -> Path:
    path = Path(folder)
    if path.suffix == ".parquet" and path.is_file():  # a table of `write_table`
        return path
    path = path / FILE_NAME
    if not path.is_file():
        raise StorageError(f"no catalogue at {path}: run predict first, or give the right folder")
    return path
