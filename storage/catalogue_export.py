"""A catalogue release as files: one Parquet file, a HATS catalogue and a FITS table.

The rows lie in one file a brick, written by `storage.catalogue.write_table`. They are read a block
of bricks at a time, so that memory does not grow with the survey. What is in each kind of file is
in `storage.export_files` and `storage.hats_export`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.catalogue import FILE_NAME, read_column_notes
from storage.errors import SchemaMismatch, StorageError
from storage.export_columns import ExportColumn
from storage.export_files import Columns, ExportPlan, write_fits, write_parquet
from storage.hats_export import write_hats

PARQUET, HATS, FITS = "parquet", "hats", "fits"
FORMATS = (PARQUET, HATS, FITS)
FITS_NAME = "catalogue.fits"
BLOCK_ROWS = 65_536
_TYPES = ("int64", "int32", "uint8", "float64", "float32")
_UCDS = {
    "object_id": "meta.id;meta.main",
    "brickname": "meta.id.part",
    "brickid": "meta.id.part",
    "objid": "meta.id",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "answer": "meta.code.class",
}


@dataclass(frozen=True)
class BrickFile:
    """The rows of one brick on disk, and how many there must be."""

    brickname: str
    path: Path
    rows: int


def write_release_files(
    folder: Path,
    files: Sequence[BrickFile],
    provenance: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
) -> tuple[str, ...]:
    """Write the rows of bricks, in the order of their names, into a new folder.

    Parameters
    ----------
    folder : Path
        Exists and is empty; a HATS catalogue takes the folder itself as its root.
    provenance : mapping
        JSON-sized: survey, snapshot, model, acknowledgement; goes into every file.
    formats : sequence of str
        Of `FORMATS`; the Parquet file always comes.

    Returns
    -------
    tuple of str
        The formats written: HATS is left out where objects have no position.

    Raises
    ------
    SchemaMismatch
        When a format is unknown, or bricks have other columns than the first.
    StorageError
        When there is no row, or a brick has another number of rows than it must.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise SchemaMismatch(f"formats {unknown}: choose from {', '.join(FORMATS)}")
    ordered = sorted(files, key=lambda file: file.brickname)
    plan = _plan(folder, ordered, provenance)

    def read(names: Sequence[str]) -> Iterator[Columns]:
        return _read_blocks(ordered, names)

    write_parquet(folder / FILE_NAME, plan, read)
    written = [PARQUET]
    if FITS in formats:
        write_fits(folder / FITS_NAME, plan, read)
        written.append(FITS)
    if HATS in formats and _have_positions(read):
        write_hats(folder, plan, read)
        written.append(HATS)
    return tuple(written)


def _plan(folder: Path, files: Sequence[BrickFile], provenance: Mapping[str, Any]) -> ExportPlan:
    if not files:
        raise StorageError(f"{folder}: no brick has a row, so there is no catalogue to write")
    first = pq.read_schema(files[0].path)
    widths: dict[str, int] = {}
    for file in files:
        found = pq.ParquetFile(file.path)
        names = found.schema_arrow.names
        if found.metadata.num_rows != file.rows or names != first.names:
            raise SchemaMismatch(
                f"{file.path}: {found.metadata.num_rows} rows of {names}, expected {file.rows} of "
                f"{first.names}: delete the file and predict the brick again"
            )
        for name, width in _widths(found).items():
            widths[name] = max(width, widths.get(name, 1))
    notes = read_column_notes(files[0].path)
    columns = tuple(
        ExportColumn(
            field.name,
            _type_of(field),
            "" if notes[field.name].unit == "1" else notes[field.name].unit,
            notes[field.name].description,
            _UCDS.get(field.name, "stat.probability" if field.name.startswith("p_") else ""),
            widths.get(field.name, 1),
        )
        for field in first
    )
    return ExportPlan(columns, sum(file.rows for file in files), dict(provenance))


def _widths(file: pq.ParquetFile) -> dict[str, int]:
    """Return the length of the longest text of each column of a file that holds text."""
    texts = [field.name for field in file.schema_arrow if _is_text(field)]
    table = file.read(columns=texts)
    return {name: pc.max(pc.binary_length(table[name])).as_py() or 1 for name in texts}


def _is_text(field: pa.Field) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


def _type_of(field: pa.Field) -> str:
    if _is_text(field):
        return "str"
    name = {"double": "float64", "float": "float32"}.get(str(field.type), str(field.type))
    if name not in _TYPES:
        raise SchemaMismatch(
            f"column {field.name!r} is {field.type}: a catalogue holds text and {', '.join(_TYPES)}"
        )
    return name


def _read_blocks(files: Sequence[BrickFile], names: Sequence[str]) -> Iterator[Columns]:
    """Yield columns of bricks, some `BLOCK_ROWS` rows at a time."""
    held: list[pa.Table] = []
    rows = 0
    for file in files:
        held.append(pq.ParquetFile(file.path).read(columns=list(names)))
        rows += file.rows
        if rows >= BLOCK_ROWS:
            yield _block(held, names)
            held, rows = [], 0
    if held:
        yield _block(held, names)


def _block(held: list[pa.Table], names: Sequence[str]) -> Columns:
    table = pa.concat_tables(held)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in names}


def _have_positions(read: Any) -> bool:
    def known(block: Mapping[str, NDArray[Any]]) -> bool:
        return bool((np.isfinite(block["ra"]) & np.isfinite(block["dec"])).all())

    return all(known(block) for block in read(("ra", "dec")))
