"""What the ledger remembers: states, digests, receipts and who owns which rows."""

import numpy as np
import pytest

from storage.brick_ledger import (
    BrickRecord,
    RowRange,
    allocate,
    is_complete,
    ledger,
    receipts,
    record_bricks,
    valid_rows,
)
from storage.brick_store import create_survey, read_objects
from storage.repository import read_session, transaction
from storage.schema import BrickState

SURVEY = "dr10/south"


def _record(repository, *records: BrickRecord) -> None:
    with transaction(repository, "record") as session:
        record_bricks(session, SURVEY, records)


def test_complete_means_same_content_and_same_configuration(repository, ingest, make_block):
    ingest(repository, {"a": make_block(2)})
    table = ledger(read_session(repository), SURVEY)
    assert is_complete(table, "a", "content", "config")
    assert not is_complete(table, "a", "other", "config")
    assert not is_complete(table, "a", "content", "other")
    assert not is_complete(table, "b", "content", "config")


@pytest.mark.parametrize(
    ("state", "complete"),
    [
        (BrickState.EMPTY, True),
        (BrickState.FAILED, False),
        (BrickState.WITHDRAWN, False),
        (BrickState.ABSENT, False),
    ],
)
def test_empty_is_done_and_failed_is_not(repository, layout, state, complete):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
    _record(repository, BrickRecord("a", 1, state, content_digest="d", config_digest="c"))
    assert is_complete(ledger(read_session(repository), SURVEY), "a", "d", "c") is complete


def test_a_smaller_brick_keeps_its_rows_and_leaves_no_old_objects(repository, ingest, make_block):
    ingest(repository, {"a": make_block(100), "b": make_block(3, brickid=2)})
    ingest(repository, {"a": make_block(5, seed=1)}, content="new")
    session = read_session(repository)
    table = ledger(session, SURVEY)
    assert (table.at["a", "row_start"], table.at["a", "rows"]) == (0, 128)
    assert valid_rows(table).tolist() == [0, 1, 2, 3, 4, 128, 129, 130]
    objects = read_objects(session, SURVEY, bricknames=["a"])
    np.testing.assert_array_equal(objects["ra"], make_block(5, seed=1)["ra"].values)


def test_a_larger_brick_moves_and_its_old_rows_become_padding(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3), "b": make_block(3, brickid=2)})
    ingest(repository, {"a": make_block(65, seed=1)}, content="new")
    session = read_session(repository)
    table = ledger(session, SURVEY)
    assert (table.at["a", "row_start"], table.at["a", "rows"]) == (128, 128)
    assert len(read_objects(session, SURVEY)) == 68
    import zarr

    objid = zarr.open_array(session.store, path=f"{SURVEY}/objid", mode="r")
    assert (objid[:64] == -1).all()


def test_ranges_never_overlap_even_before_they_are_recorded(repository, layout):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
        first = allocate(session, SURVEY, {"a": 70, "none": 0, "b": 1})
        second = allocate(session, SURVEY, {"c": 1})
    assert first == {"a": RowRange(0, 128), "none": RowRange(0, 0), "b": RowRange(128, 64)}
    assert second == {"c": RowRange(192, 64)}


def test_failure_keeps_the_good_cutouts_and_says_so(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3)})
    failed = BrickRecord("a", 1, BrickState.FAILED, receipt={"reason": "truncated file"})
    _record(repository, failed, BrickRecord("b", 2, BrickState.FAILED, receipt={"reason": "gone"}))
    session = read_session(repository)
    assert is_complete(ledger(session, SURVEY), "a", "content", "config")
    assert len(read_objects(session, SURVEY)) == 3
    assert receipts(session, SURVEY) == {
        "a": {"objects": 3, "last_failure": {"reason": "truncated file"}},
        "b": {"reason": "gone"},
    }


def test_withdrawn_bricks_lose_their_objects(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3), "b": make_block(2, brickid=2)})
    _record(repository, BrickRecord("a", 1, BrickState.WITHDRAWN, receipt={"why": "bad sky"}))
    session = read_session(repository)
    assert read_objects(session, SURVEY)["brickname"].tolist() == ["b", "b"]
    assert receipts(session, SURVEY, ["a", "unknown"]) == {"a": {"why": "bad sky"}}


def test_recording_nothing_changes_nothing(repository, ingest, make_block):
    ingest(repository, {"a": make_block(1)})
    with transaction(repository, "none") as session:
        record_bricks(session, SURVEY, [])
        assert not session.has_uncommitted_changes


def test_append_touches_only_the_last_chunk_of_the_ledger(repository, layout, monkeypatch):
    monkeypatch.setattr("storage.schema.LEDGER_CHUNK_ROWS", 4)
    monkeypatch.setattr("storage.schema.TEXT_CHUNK_ROWS", 4)
    monkeypatch.setattr("storage.schema.RECEIPT_CHUNK_ROWS", 4)
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
    names = [f"b{i}" for i in range(8)]
    _record(repository, *(BrickRecord(name, 1, BrickState.EMPTY) for name in names))
    with transaction(repository, "more") as session:
        record_bricks(session, SURVEY, [BrickRecord("b8", 9, BrickState.EMPTY)])
        changed = session.status().updated_chunks
    assert {tuple(map(tuple, places)) for places in changed.values()} == {((2,),)}
    table = ledger(read_session(repository), SURVEY)
    assert list(table.index) == [*names, "b8"]
    assert table["brickid"].tolist() == [1] * 8 + [9]
