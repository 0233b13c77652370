"""Write and read the bricks of a survey: blocks of cutouts and object rows.

Who does what: the committing process creates the survey and allocates rows in one transaction,
then, in the next, forks the session, lets workers `write_cutouts` into the forks, merges them and
calls `record_bricks`. Nothing is visible before that commit, so a killed ingest loses nothing.
"""

from collections.abc import Sequence
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
import zarr

from storage import arrays
from storage.brick_ledger import (
    BrickRecord,
    is_complete,
    ledger,
    ledger_of,
    receipts,
    record_bricks,
)
from storage.brick_rows import RowRange, allocate, valid_rows
from storage.errors import SchemaMismatch
from storage.rounding import round_image
from storage.schema import (
    OBJECT_COLUMNS,
    PIXEL_ARRAYS,
    SHARD_ROWS,
    BrickState,
    SurveyLayout,
    object_specs,
    shape_of,
)
from storage.shard_writer import ShardWriter
from storage.survey_group import create_survey, read_layout
from storage.validation import validate

__all__ = [
    "BrickRecord",
    "RowRange",
    "allocate",
    "create_survey",
    "is_complete",
    "ledger",
    "ledger_of",
    "read_layout",
    "read_objects",
    "receipts",
    "record_bricks",
    "valid_rows",
    "write_cutouts",
]


_PLACES = ("state", "row_start", "n_objects")


def write_cutouts(
    session: icechunk.Session, survey_key: str, rows: RowRange, dataset: xr.Dataset
) -> None:
    """Write a brick's block of cutouts into its rows, a shard at a time; the rest is padding.

    Parameters
    ----------
    session : Session or ForkSession
        A fork when called in a worker.
    rows : RowRange
        The range that `allocate` gave the brick; all of it is overwritten.
    dataset : Dataset
        See `storage.validation.validate`.

    Raises
    ------
    SchemaMismatch
        When the block does not fit the schema, the range is not made of whole shards, is too short
        for the block or reaches beyond the arrays.
    """
    group = arrays.open_group(session, survey_key, "r+")
    layout = read_layout(session, survey_key)
    validate(dataset, layout)
    length = arrays.get_array(group, "objid").shape[0]
    _check_range(rows, dataset.sizes["object"], length)
    _write_objects(group, layout, rows, dataset)
    pixels = {name: arrays.get_array(group, name) for name in PIXEL_ARRAYS}
    writer = ShardWriter(session, pixels)
    for first in range(0, rows.rows, SHARD_ROWS):
        block = dataset.isel(object=slice(first, first + SHARD_ROWS))
        writer.write(rows.start + first, _shard_pixels(block))


def read_objects(
    session: icechunk.Session,
    survey_key: str,
    *,
    bricknames: Sequence[str] | None = None,
    columns: Sequence[str] = OBJECT_COLUMNS,
    catalogue: bool = True,
) -> pd.DataFrame:
    """Return one row an object, in order of their rows in the store.

    Parameters
    ----------
    bricknames : sequence of str, optional
        Only these bricks; all that are written by default.
    columns : sequence of str
        Which of the `OBJECT_COLUMNS`.
    catalogue : bool
        Add the catalogue columns, which are most of the bytes.

    Returns
    -------
    DataFrame
        ``row``, ``brickname``, ``columns`` and, if asked for, the catalogue columns.
    """
    if bricknames is None:
        table = ledger(session, survey_key, _PLACES)
    else:
        table = ledger_of(session, survey_key, bricknames, _PLACES)
    table = table[table["state"] == int(BrickState.WRITTEN)].sort_values("row_start")
    rows = valid_rows(table)
    group = arrays.open_group(session, survey_key)
    values: dict[str, Any] = {
        "row": rows,
        "brickname": np.repeat(np.array(table.index, dtype=object), table["n_objects"]),
    }
    for name in columns:
        values[name] = arrays.take_rows(arrays.get_array(group, name), rows)
    objects = pd.DataFrame(values)
    if not catalogue:
        return objects
    measured = arrays.take_rows(arrays.get_array(group, "catalogue"), rows)
    names = read_layout(session, survey_key).columns
    return pd.concat([objects, pd.DataFrame(measured, columns=list(names))], axis=1)


def _check_range(rows: RowRange, n_objects: int, length: int) -> None:
    aligned = rows.start % SHARD_ROWS == 0 and rows.rows % SHARD_ROWS == 0
    if not aligned or rows.start < 0 or n_objects > rows.rows or rows.stop > length:
        raise SchemaMismatch(
            f"{n_objects} objects into rows {rows.start} to {rows.stop} of {length}: a brick owns "
            f"whole shards of {SHARD_ROWS} rows inside the arrays; use the range of allocate()"
        )


def _write_objects(
    group: zarr.Group, layout: SurveyLayout, rows: RowRange, dataset: xr.Dataset
) -> None:
    lengths = layout.lengths()
    for spec in object_specs():
        values = np.full(shape_of(spec, lengths, rows.rows), spec.fill, dtype=spec.dtype)
        values[: dataset.sizes["object"]] = dataset[spec.name].values
        arrays.get_array(group, spec.name)[rows.start : rows.stop] = values


def _shard_pixels(block: xr.Dataset) -> dict[str, npt.NDArray[Any]]:
    values: dict[str, npt.NDArray[Any]] = {name: block[name].values for name in PIXEL_ARRAYS}
    return values | {"image": round_image(values["image"], values["invvar"])}
