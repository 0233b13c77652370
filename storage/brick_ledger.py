"""The ledger of a survey: the state of every brick, from what it was made, with which result.

It says what is done (`is_complete`, `is_unchanged`) and remembers former versions
(`brick_history`). Pixels and object rows are for `storage.brick_store`, rows for
`storage.brick_rows`. Only the committing process writes a ledger.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import icechunk
import pandas as pd

from storage import arrays, ledger_table
from storage.brick_rows import NO_ROWS, RowRange
from storage.schema import BrickState, history_specs, ledger_specs, survey_specs
from storage.survey_group import HISTORY, LEDGER, read_layout

COMPLETE = (int(BrickState.WRITTEN), int(BrickState.EMPTY))
_NOT_YET = (BrickState.FETCHED, BrickState.VERIFIED)
_BROKEN = (BrickState.FAILED, BrickState.QUARANTINED)
_KEY_DIGITS = 16  # of each digest in the key of the history
_LEDGER_COLUMNS = tuple(
    spec.name for spec in ledger_specs() if spec.name not in (*ledger_table.KEYS, "receipt")
)
_HISTORY_COLUMNS = tuple(
    spec.name for spec in history_specs() if spec.name not in ledger_table.KEYS
)


@dataclass(frozen=True)
class BrickRecord:
    """What the ledger is told of one brick.

    Parameters
    ----------
    brickname, brickid : str, int
        The brick.
    state : BrickState
        Any but ABSENT and SUPERSEDED.
    rows : RowRange
        The range given by `allocate` where WRITTEN, FETCHED or VERIFIED, else the default.
    n_objects : int
        Objects written, in the leading rows of the range.
    content_digest, config_digest : str
        Digests of the input files and of the configuration and algorithm.
    fingerprint : str
        Digest of names, sizes and times of the input files, to see cheaply that none changed.
    verification : str
        "verified", "partly verified" or "unverified"; empty where nothing was read.
    receipt : mapping
        JSON-sized account: reasons and counts, objects without cutout, notes, files.
    """

    brickname: str
    brickid: int
    state: BrickState
    rows: RowRange = NO_ROWS
    n_objects: int = 0
    content_digest: str = ""
    config_digest: str = ""
    fingerprint: str = ""
    verification: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)


def ledger(
    session: icechunk.Session, survey_key: str, columns: Sequence[str] = _LEDGER_COLUMNS
) -> pd.DataFrame:
    """Return columns of the brick ledger, indexed by brickname; for receipts see `receipts`.

    The whole ledger of 367,000 bricks is 1.6 GB because of its digests: name the columns that are
    needed, or take `ledger_of` for some bricks.
    """
    return ledger_table.read_ledger(session, f"{survey_key}/{LEDGER}", columns)


def ledger_of(
    session: icechunk.Session,
    survey_key: str,
    bricknames: Iterable[str],
    columns: Sequence[str] = _LEDGER_COLUMNS,
) -> pd.DataFrame:
    """Return the rows of those bricks that the ledger knows, reading only their chunks."""
    return ledger_table.read_some(session, f"{survey_key}/{LEDGER}", bricknames, columns)


def brick_history(session: icechunk.Session, survey_key: str) -> pd.DataFrame:
    """Return the versions of bricks that were replaced or withdrawn, one row each.

    Returns
    -------
    DataFrame
        ``brickname``, ``brickid``, ``state`` (SUPERSEDED or WITHDRAWN), ``n_objects``, the digests
        and ``last_snapshot``, the last snapshot in which the version can be read.
    """
    table = ledger_table.read_ledger(session, f"{survey_key}/{HISTORY}", _HISTORY_COLUMNS)
    table.insert(0, "brickname", [str(key).partition("@")[0] for key in table.index])
    return table.reset_index(drop=True)


def changed_bricks(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return what happened to the cutouts of a survey between two ledgers, one row a brick.

    Parameters
    ----------
    before, after : DataFrame
        Ledgers with at least ``state``, ``content_digest``, ``config_digest``, ``n_objects``.

    Returns
    -------
    DataFrame
        Indexed by brickname: ``change`` ("added", "changed" or "removed") and ``n_objects`` of the
        brick after it, or before it where it was removed.
    """
    old, new = (table[table["state"] == int(BrickState.WRITTEN)] for table in (before, after))
    common = new.index.intersection(old.index)
    digests = ["content_digest", "config_digest"]
    differ = (old.loc[common, digests] != new.loc[common, digests]).any(axis=1).to_numpy(bool)
    parts = {
        "added": new.loc[new.index.difference(old.index), ["n_objects"]],
        "changed": new.loc[common[differ], ["n_objects"]],
        "removed": old.loc[old.index.difference(new.index), ["n_objects"]],
    }
    return pd.concat([part.assign(change=name) for name, part in parts.items()])


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
    return _is_done(table, brickname, ("content_digest", content_digest), config_digest)


def is_unchanged(table: pd.DataFrame, brickname: str, fingerprint: str, config_digest: str) -> bool:
    """Say whether a brick is done and its files look as they did then, without reading them."""
    known = bool(fingerprint)
    return known and _is_done(table, brickname, ("fingerprint", fingerprint), config_digest)


def record_bricks(
    session: icechunk.Session, survey_key: str, records: Sequence[BrickRecord]
) -> None:
    """Write bricks into the ledger; a version that they replace goes into the history.

    * FETCHED and VERIFIED say that cutouts will follow: a brick in the store keeps its state.
    * A brick in the store that FAILED or is QUARANTINED keeps its good cutouts and digests: only
      its receipt changes, and gets the failure as ``last_failure``.
    * A brick keeps the rows that it owns; what it no longer shows in them is cleared.
    """
    names = [record.brickname for record in records]
    known = _by_name(ledger_of(session, survey_key, names))
    written = {name for name, row in known.items() if row["state"] == int(BrickState.WRITTEN)}
    broken = [r.brickname for r in records if r.state in _BROKEN and r.brickname in written]
    kept = receipts(session, survey_key, broken) if broken else {}
    rows: dict[str, dict[str, Any]] = {}
    former: dict[str, dict[str, Any]] = {}
    for record in records:
        before = known.get(record.brickname, {})
        if record.brickname in kept:
            receipt = kept[record.brickname] | {"last_failure": dict(record.receipt)}
            rows[record.brickname] = {**before, "receipt": _to_json(receipt)}
        elif record.state not in _NOT_YET or record.brickname not in written:
            rows[record.brickname] = _replace(session, survey_key, before, record)
            if record.brickname in written:
                former |= _former_version(session, before, record)
    ledger_table.upsert(session, f"{survey_key}/{LEDGER}", rows)
    ledger_table.upsert(session, f"{survey_key}/{HISTORY}", former)


def refresh_fingerprints(
    session: icechunk.Session, survey_key: str, fingerprints: Mapping[str, str]
) -> None:
    """Note how the files of bricks look now; their content was found to be the recorded one."""
    known = ledger_of(session, survey_key, fingerprints)
    texts = receipts(session, survey_key, list(known.index))
    rows = {
        name: {**row, "fingerprint": fingerprints[name], "receipt": _to_json(texts[name])}
        for name, row in _by_name(known).items()
        if row["fingerprint"] != fingerprints[name]
    }
    ledger_table.upsert(session, f"{survey_key}/{LEDGER}", rows)


def _is_done(
    table: pd.DataFrame, brickname: str, proof: tuple[str, str], config_digest: str
) -> bool:
    if brickname not in table.index:
        return False
    column, expected = proof
    row: Mapping[Any, Any] = table.loc[brickname].to_dict()
    done = int(row["state"]) in COMPLETE
    return done and (row[column], row["config_digest"]) == (expected, config_digest)


def _by_name(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = table.to_dict("index")
    return {
        str(name): {str(key): value for key, value in row.items()} for name, row in rows.items()
    }


def _replace(
    session: icechunk.Session, survey_key: str, before: Mapping[str, Any], record: BrickRecord
) -> dict[str, Any]:
    """Return the new ledger row of a brick, and clear rows that show what it no longer has."""
    old = RowRange(int(before.get("row_start", 0)), int(before.get("rows", 0)))
    rows = record.rows if record.rows.rows else old
    was_written = before.get("state") == int(BrickState.WRITTEN)
    if was_written and (rows != old or record.state is not BrickState.WRITTEN):
        group = arrays.open_group(session, survey_key, "r+")
        for spec in survey_specs(read_layout(session, survey_key)):
            arrays.fill_rows(arrays.get_array(group, spec.name), old.start, old.stop)
    return {
        "brickid": record.brickid,
        "state": int(record.state),
        "row_start": rows.start,
        "rows": rows.rows,
        "n_objects": record.n_objects,
        "content_digest": record.content_digest,
        "config_digest": record.config_digest,
        "fingerprint": record.fingerprint,
        "verification": record.verification,
        "receipt": _to_json(record.receipt),
    }


def _former_version(
    session: icechunk.Session, before: Mapping[str, Any], record: BrickRecord
) -> dict[str, dict[str, Any]]:
    """Return the history row of the version that a record replaces; none if it is the same."""
    content, config = str(before["content_digest"]), str(before["config_digest"])
    if record.state is BrickState.WRITTEN and (content, config) == (
        record.content_digest,
        record.config_digest,
    ):
        return {}
    withdrawn = record.state is BrickState.WITHDRAWN
    key = f"{record.brickname}@{content[:_KEY_DIGITS]}.{config[:_KEY_DIGITS]}"
    row = {
        "brickid": int(before["brickid"]),
        "state": int(BrickState.WITHDRAWN if withdrawn else BrickState.SUPERSEDED),
        "n_objects": int(before["n_objects"]),
        "content_digest": content,
        "config_digest": config,
        "last_snapshot": session.snapshot_id,
    }
    return {key: row}


def _to_json(receipt: Mapping[str, Any]) -> str:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"))
