"""Named columns of large tables, a block of rows at a time, and chosen rows of FITS tables.

A sweep file of the survey has a million rows of a hundred columns; a list of objects needs three of
them. Nothing here reads more than one block of rows, whatever the size of the file (an ECSV file is
read whole). What the columns mean is not known here.
"""

import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch, StorageError
from storage.fits_files import check_complete

BLOCK_ROWS = 65_536
BLOCK_BYTES = 32_000_000  # a row of a sweep file is some 700 bytes wide, of which few are wanted
TABLE_SUFFIXES = (".fits", ".fit", ".fits.gz", ".parquet", ".csv", ".csv.gz", ".ecsv")
_READ_THROUGH_ROWS = 256  # rows between wanted ones that are read rather than sought over

Columns = dict[str, NDArray[Any]]
Version = tuple[int, int]  # time and size of a file


@dataclass(frozen=True)
class _FitsTable:
    """Where the rows of the first binary table of a file are, and how they are made."""

    path: Path
    header: fits.Header
    columns: fits.ColDefs
    offset: int
    rows: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return cast("np.dtype[Any]", self.columns.dtype.newbyteorder(">"))


def file_version(path: Path) -> tuple[Path, Version]:
    """Return a path with the time and size of its file, so that a cache notices a change.

    Raises
    ------
    BrickNotFound
        When there is no such file or folder.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise BrickNotFound(f"{path} is not there; correct the path") from error
    return path, (status.st_mtime_ns, status.st_size)


def column_names(path: Path) -> tuple[str, ...]:
    """Return the names of the columns as the file has them, without reading rows.

    Raises
    ------
    BrickNotFound, CorruptFile, SchemaMismatch
        When the file is absent, damaged, or no table of a known form (see `TABLE_SUFFIXES`).
    """
    form = _form(path)
    try:
        if form == "fits":
            return tuple(map(str, _fits_table(path).columns.names))
        if form == "parquet":
            return tuple(pq.read_schema(path).names)
        if form == "csv":
            return tuple(map(str, pd.read_csv(path, nrows=0, comment="#").columns))
        return tuple(map(str, Table.read(path, format="ascii.ecsv").colnames))
    except StorageError:
        raise
    except Exception as error:  # pyarrow, pandas and astropy each have errors of their own
        raise _unreadable(path, error) from error


def iterate_columns(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    """Yield columns of a table as numpy, at most `BLOCK_ROWS` rows at a time.

    Parameters
    ----------
    path : Path
        FITS (also gzipped), Parquet, CSV or ECSV.
    names : sequence of str
        As `column_names` gives them.

    Raises
    ------
    CorruptFile
        When the rows cannot be read.
    """
    readers = {"fits": _fits_blocks, "parquet": _parquet_blocks, "csv": _csv_blocks}
    reader = readers.get(_form(path), _ecsv_blocks)
    try:
        yield from reader(path, names)
    except StorageError:
        raise
    except Exception as error:  # as in column_names
        raise _unreadable(path, error) from error


def read_fits_rows(path: Path, rows: NDArray[np.integer[Any]]) -> tuple[Columns, fits.Header]:
    """Return all columns of some rows of a FITS table, by lower-case name; reads only near them.

    Parameters
    ----------
    path : Path
    rows : ndarray, shape (row,), integer
        Row numbers from 0, ascending.

    Returns
    -------
    columns : dict of str to ndarray
        Columns of variable length are left out.
    header : Header
        The table's cards, with those of the primary HDU that it lacks.
    """
    table = _fits_table(path)
    chosen = np.empty(len(rows), table.dtype)
    edges = [0, *(np.flatnonzero(np.diff(rows) > _READ_THROUGH_ROWS) + 1).tolist(), len(rows)]
    with _opened(table) as handle:
        for first, last in pairwise(edges):
            if last > first:
                start, stop = int(rows[first]), int(rows[last - 1]) + 1
                handle.seek(table.offset + start * table.dtype.itemsize)
                chosen[first:last] = _raw_rows(table, handle, stop - start)[
                    rows[first:last] - start
                ]
    names = [column.name for column in table.columns if column.format[-1:] not in "PQ)"]
    converted = {str(name).lower(): _converted(table, str(name), chosen) for name in names}
    return converted, table.header


def _form(path: Path) -> str:
    if not path.is_file():
        raise BrickNotFound(f"{path} is not there; correct the path")
    name = path.name.lower()
    if name.endswith((".fits", ".fit", ".fits.gz")):
        return "fits"
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith((".csv", ".csv.gz")):
        return "csv"
    if name.endswith(".ecsv"):
        return "ecsv"
    raise SchemaMismatch(f"{path}: give a table as one of {', '.join(TABLE_SUFFIXES)}")


def _fits_table(path: Path) -> _FitsTable:
    check_complete(path)
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            for hdu in hdus[1:]:
                if isinstance(hdu, fits.BinTableHDU) and not hdu.header.get("ZTABLE", False):
                    header = hdu.header.copy()
                    header.extend(hdus[0].header, unique=True)
                    offset, rows = int(hdu.fileinfo()["datLoc"]), int(hdu.header["NAXIS2"])
                    return _FitsTable(path, header, hdu.columns, offset, rows)
    except Exception as error:  # as in storage.fits_files
        raise _unreadable(path, error) from error
    raise SchemaMismatch(f"{path}: no uncompressed binary table in any HDU; uncompress the table")


def _opened(table: _FitsTable) -> BinaryIO:
    if table.path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(table.path, "rb"))
    return table.path.open("rb")


def _raw_rows(table: _FitsTable, handle: BinaryIO, number: int) -> NDArray[Any]:
    content = handle.read(number * table.dtype.itemsize)
    if len(content) < number * table.dtype.itemsize:
        raise CorruptFile(f"{table.path}: the table ends early; fetch it again")
    return np.frombuffer(content, table.dtype)


def _fits_blocks(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    table = _fits_table(path)
    with _opened(table) as handle:
        handle.seek(table.offset)
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, table.dtype.itemsize)))
        for start in range(0, table.rows, step):
            raw = _raw_rows(table, handle, min(step, table.rows - start))
            yield {name: _converted(table, name, raw) for name in names}


def _converted(table: _FitsTable, name: str, raw: NDArray[Any]) -> NDArray[Any]:
    """Return a column in native form: logical as bool, text without padding, scaling applied."""
    column, values = table.columns[name], raw[name]
    if str(column.format).lstrip("0123456789") == "L":
        return np.asarray(values == ord("T"))
    if values.dtype.kind == "S":
        return np.asarray(np.char.strip(values.astype(str)))
    values = values.astype(values.dtype.newbyteorder("="))
    scale, zero = column.bscale or 1, column.bzero or 0
    if (scale, zero) == (1, 0):
        return np.asarray(values)
    if scale == 1 and float(zero).is_integer() and values.dtype.kind in "iu":
        return np.asarray(values.astype(np.int64) + int(zero))  # the convention of unsigned columns
    return np.asarray(values * scale + zero)


def _parquet_blocks(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=list(names)):
            part = pa.Table.from_batches([batch])
            yield {name: part[name].to_numpy() for name in names}


def _csv_blocks(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    with pd.read_csv(path, usecols=list(names), chunksize=BLOCK_ROWS, comment="#") as parts:
        for part in parts:
            yield {name: part[name].to_numpy() for name in names}


def _ecsv_blocks(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    table = Table.read(path, format="ascii.ecsv")
    yield {name: np.asarray(table[name]) for name in names}


def _unreadable(path: Path, error: Exception) -> CorruptFile:
    return CorruptFile(
        f"{path}: no readable table ({type(error).__name__}: {error}); check the file"
    )
