"""Rows on the object axis of a survey: which brick owns which, and which hold objects.

Rows are given before anything is written into them. A brick keeps its rows when it fails, is
withdrawn or becomes empty, so that a later ingest of it takes the same ones again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd

from storage import arrays, ledger_table
from storage.schema import BrickState, padded_rows, survey_specs
from storage.survey_group import LEDGER, read_layout


@dataclass(frozen=True)
class RowRange:
    """Rows that a brick owns on the object axis: whole shards, or none."""

    start: int
    rows: int

    @property
    def stop(self) -> int:
        """Return the row after the last."""
        return self.start + self.rows


NO_ROWS = RowRange(0, 0)


def valid_rows(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the rows of the object axis that hold objects, ascending, from a ledger."""
    written = table[table["state"] == int(BrickState.WRITTEN)].sort_values("row_start")
    starts = written["row_start"].to_numpy(dtype=np.int64)
    counts = written["n_objects"].to_numpy(dtype=np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum(), dtype=np.int64)


def allocate(
    session: icechunk.Session, survey_key: str, n_objects: Mapping[str, int]
) -> dict[str, RowRange]:
    """Give every brick the rows for its objects and lengthen the arrays to hold them.

    A brick that owns rows keeps them when they suffice; otherwise it gets new ones, and
    `storage.brick_ledger.record_bricks` clears the old when the brick is written. Only lengths
    change here, so an ingest that dies later leaves rows of padding, which are not stored.

    Parameters
    ----------
    n_objects : mapping of str to int
        Objects of every brickname, or an upper bound; 0 gives a range of no rows.
    """
    group = arrays.open_group(session, survey_key, "r+")
    owned = ledger_table.read_some(
        session, f"{survey_key}/{LEDGER}", n_objects, ("row_start", "rows")
    )
    rows_of, start_of = owned["rows"].to_dict(), owned["row_start"].to_dict()
    end = arrays.get_array(group, "objid").shape[0]
    ranges = {}
    for brickname, count in n_objects.items():
        rows = padded_rows(count)
        if rows == 0:
            ranges[brickname] = NO_ROWS
        elif rows_of.get(brickname, 0) >= rows:
            ranges[brickname] = RowRange(int(start_of[brickname]), int(rows_of[brickname]))
        else:
            ranges[brickname] = RowRange(end, rows)
            end += rows
    names = [spec.name for spec in survey_specs(read_layout(session, survey_key))]
    arrays.grow(group, names, end)
    return ranges
