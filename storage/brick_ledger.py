"""The ledger of a survey: which bricks are in the store, where, from what, with which result.

It says what is done (`is_complete`) and where rows are (`allocate`, `valid_rows`). Pixels and
object rows are for `storage.brick_store`. Only the committing process writes a ledger.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd

from storage import arrays, ledger_table
from storage.schema import BrickState, ledger_specs, padded_rows, survey_specs
from storage.survey_group import LEDGER, read_layout

_COMPLETE = (int(BrickState.WRITTEN), int(BrickState.EMPTY))
_DECIDING = ("state", "content_digest", "config_digest")
_LEDGER_COLUMNS = tuple(
    spec.name for spec in ledger_specs() if spec.name not in (*ledger_table.KEYS, "receipt")
)


@dataclass(frozen=True)
class RowRange:
    """Rows that a brick owns on the object axis: whole shards, or none."""

    start: int
    rows: int

    @property
    def stop(self) -> int:
        """Return the row after the last."""
        return self.start + self.rows


@dataclass(frozen=True)
class BrickRecord:
    """What the ledger is told of one brick.

    Parameters
    ----------
    brickname, brickid : str, int
        The brick.
    state : BrickState
        WRITTEN, EMPTY, FAILED or WITHDRAWN.
    rows : RowRange
        The range given by `allocate` where WRITTEN, else the default, none.
    n_objects : int
        Objects written, in the leading rows of the range.
    content_digest, config_digest : str
        Digests of the input files and of the configuration and algorithm.
    receipt : mapping
        JSON-sized account: reasons and counts, objects without cutout, notes, files.
    """

    brickname: str
    brickid: int
    state: BrickState
    rows: RowRange = RowRange(0, 0)
    n_objects: int = 0
    content_digest: str = ""
    config_digest: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)


def ledger(session: icechunk.Session, survey_key: str) -> pd.DataFrame:
    """Return the brick ledger without its receipts (see `receipts`), indexed by brickname."""
    return ledger_table.read_ledger(session, f"{survey_key}/{LEDGER}", _LEDGER_COLUMNS)


def receipts(
    session: icechunk.Session, survey_key: str, bricknames: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return receipts by brickname, of all bricks or of those named that the ledger knows."""
    path = f"{survey_key}/{LEDGER}"
    if bricknames is None:
        table = ledger_table.read_ledger(session, path, ["receipt"])
    else:
        table = ledger_table.read_some(session, path, bricknames, ["receipt"])
    return {str(name): json.loads(text) for name, text in table["receipt"].items()}


def is_complete(
    table: pd.DataFrame, brickname: str, content_digest: str, config_digest: str
) -> bool:
    """Say whether a brick is in the store (or known to be empty) with these very digests."""
    if brickname not in table.index:
        return False
    found: tuple[object, ...] = tuple(table.at[brickname, name] for name in _DECIDING)
    return found[0] in _COMPLETE and found[1:] == (content_digest, config_digest)


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

    A brick that is in the store keeps its rows when they suffice; otherwise it gets new ones and
    `record_bricks` clears the old. Only lengths change here, so an ingest that dies later leaves
    rows of padding, which are not stored.

    Parameters
    ----------
    n_objects : mapping of str to int
        Objects of every brickname, or an upper bound; 0 gives a range of no rows.
    """
    group = arrays.open_group(session, survey_key, "r+")
    known = _known(session, survey_key, n_objects)
    rows_of, start_of = known["rows"].to_dict(), known["row_start"].to_dict()
    end = arrays.get_array(group, "objid").shape[0]
    ranges = {}
    for brickname, count in n_objects.items():
        rows = padded_rows(count)
        if rows == 0:
            ranges[brickname] = RowRange(0, 0)
        elif rows_of.get(brickname, 0) >= rows:
            ranges[brickname] = RowRange(int(start_of[brickname]), int(rows_of[brickname]))
        else:
            ranges[brickname] = RowRange(end, rows)
            end += rows
    names = [spec.name for spec in survey_specs(read_layout(session, survey_key))]
    arrays.grow(group, names, end)
    return ranges


def record_bricks(
    session: icechunk.Session, survey_key: str, records: Sequence[BrickRecord]
) -> None:
    """Write bricks into the ledger, and clear rows that a brick owned before and no longer does.

    A FAILED record of a brick that is in the store keeps the good cutouts and their digests: only
    the receipt changes, and gets the failure as ``last_failure``.
    """
    names = [record.brickname for record in records]
    known = _known(session, survey_key, names).to_dict("index")
    in_store = [
        record.brickname
        for record in records
        if record.state == BrickState.FAILED
        and known.get(record.brickname, {}).get("state") == BrickState.WRITTEN
    ]
    kept = receipts(session, survey_key, in_store) if in_store else {}
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        before = _with_text_keys(known.get(record.brickname, {}))
        if record.brickname in kept:
            receipt = kept[record.brickname] | {"last_failure": dict(record.receipt)}
            rows[record.brickname] = {**before, "receipt": _to_json(receipt)}
            continue
        _clear_old_rows(session, survey_key, before, record.rows)
        rows[record.brickname] = _ledger_row(record)
    ledger_table.upsert(session, f"{survey_key}/{LEDGER}", rows)


def _known(session: icechunk.Session, survey_key: str, bricknames: Iterable[str]) -> pd.DataFrame:
    path = f"{survey_key}/{LEDGER}"
    return ledger_table.read_some(session, path, bricknames, _LEDGER_COLUMNS)


def _clear_old_rows(
    session: icechunk.Session, survey_key: str, before: Mapping[str, Any], now: RowRange
) -> None:
    old = RowRange(int(before.get("row_start", 0)), int(before.get("rows", 0)))
    if old.rows == 0 or old == now:
        return
    group = arrays.open_group(session, survey_key, "r+")
    for spec in survey_specs(read_layout(session, survey_key)):
        arrays.fill_rows(arrays.get_array(group, spec.name), old.start, old.stop)


def _with_text_keys(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def _ledger_row(record: BrickRecord) -> dict[str, Any]:
    return {
        "brickid": record.brickid,
        "state": int(record.state),
        "row_start": record.rows.start,
        "rows": record.rows.rows,
        "n_objects": record.n_objects,
        "content_digest": record.content_digest,
        "config_digest": record.config_digest,
        "receipt": _to_json(record.receipt),
    }


def _to_json(receipt: Mapping[str, Any]) -> str:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"))
