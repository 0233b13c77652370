"""What the ledger remembers: states, digests, receipts and former versions."""

import pytest

from storage.brick_ledger import (
    BrickRecord,
    brick_history,
    changed_bricks,
    is_complete,
    is_unchanged,
    ledger,
    ledger_of,
    receipts,
    record_bricks,
    refresh_fingerprints,
)
from storage.brick_rows import RowRange, allocate
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
        (BrickState.QUARANTINED, False),
        (BrickState.WITHDRAWN, False),
        (BrickState.FETCHED, False),
        (BrickState.VERIFIED, False),
        (BrickState.ABSENT, False),
    ],
)
def test_empty_is_done_and_failed_is_not(repository, layout, state, complete):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
    _record(repository, BrickRecord("a", 1, state, content_digest="d", config_digest="c"))
    assert is_complete(ledger(read_session(repository), SURVEY), "a", "d", "c") is complete


@pytest.mark.parametrize("state", [BrickState.FAILED, BrickState.QUARANTINED])
def test_failure_keeps_the_good_cutouts_and_says_so(repository, ingest, make_block, state):
    ingest(repository, {"a": make_block(3)})
    failed = BrickRecord("a", 1, state, receipt={"reason": "truncated file"})
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


def test_files_that_look_the_same_are_not_read_again(repository, layout):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
    done = BrickRecord("a", 1, BrickState.EMPTY, config_digest="c", fingerprint="f")
    unknown = BrickRecord("b", 2, BrickState.EMPTY, config_digest="c")
    failed = BrickRecord("d", 3, BrickState.QUARANTINED, config_digest="c", fingerprint="f")
    _record(repository, done, unknown, failed)
    table = ledger(read_session(repository), SURVEY)
    assert is_unchanged(table, "a", "f", "c")
    assert not is_unchanged(table, "a", "other", "c")
    assert not is_unchanged(table, "a", "f", "other")
    assert not is_unchanged(table, "b", "", "c")
    assert not is_unchanged(table, "d", "f", "c")
    assert not is_unchanged(table, "nobody", "f", "c")


def test_touched_files_with_the_same_content_get_a_new_fingerprint_only(
    repository, ingest, make_block
):
    ingest(repository, {"a": make_block(2)})
    before = ledger_of(read_session(repository), SURVEY, ["a"]).loc["a"].to_dict()
    with transaction(repository, "touch") as session:
        refresh_fingerprints(session, SURVEY, {"a": "new", "unknown": "x"})
    session = read_session(repository)
    after = ledger_of(session, SURVEY, ["a"]).loc["a"].to_dict()
    assert after == before | {"fingerprint": "new"}
    assert receipts(session, SURVEY, ["a"]) == {"a": {"objects": 2}}
    with transaction(repository, "again") as session:
        refresh_fingerprints(session, SURVEY, {"a": "new"})
        assert not session.has_uncommitted_changes


def test_a_fetched_brick_owns_its_rows_and_a_killed_ingest_gives_it_the_same_ones(
    repository, layout
):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
        rows = allocate(session, SURVEY, {"a": 70, "b": 3})
        record_bricks(
            session,
            SURVEY,
            [
                BrickRecord("a", 1, BrickState.FETCHED, rows=rows["a"]),
                BrickRecord("b", 2, BrickState.VERIFIED, rows=rows["b"]),
            ],
        )
    with transaction(repository, "again") as session:
        assert allocate(session, SURVEY, {"b": 3, "a": 70}) == rows
    session = read_session(repository)
    assert len(read_objects(session, SURVEY)) == 0
    assert not is_complete(ledger(session, SURVEY), "a", "", "")


def test_announcing_a_new_version_leaves_the_old_one_readable(repository, ingest, make_block):
    ingest(repository, {"a": make_block(2)})
    _record(repository, BrickRecord("a", 1, BrickState.FETCHED, content_digest="new"))
    session = read_session(repository)
    assert is_complete(ledger(session, SURVEY), "a", "content", "config")
    assert len(read_objects(session, SURVEY)) == 2


def test_former_versions_are_remembered_with_the_snapshot_that_has_them(
    repository, ingest, make_block
):
    ingest(repository, {"a": make_block(2), "b": make_block(1, brickid=2)})
    ingest(repository, {"a": make_block(5, seed=1)}, content="new")
    _record(repository, BrickRecord("b", 2, BrickState.WITHDRAWN, receipt={"why": "bad"}))
    history = brick_history(read_session(repository), SURVEY).set_index("brickname")
    assert history["state"].to_dict() == {
        "a": int(BrickState.SUPERSEDED),
        "b": int(BrickState.WITHDRAWN),
    }
    assert history["n_objects"].to_dict() == {"a": 2, "b": 1}
    old = read_session(repository, snapshot=history.at["a", "last_snapshot"])
    assert len(read_objects(old, SURVEY, bricknames=["a"])) == 2
    assert len(read_objects(read_session(repository), SURVEY, bricknames=["a"])) == 5


def test_writing_the_same_version_again_is_no_history(repository, ingest, make_block):
    ingest(repository, {"a": make_block(2)})
    ingest(repository, {"a": make_block(2)})
    assert brick_history(read_session(repository), SURVEY).empty


def test_a_brick_that_became_empty_keeps_its_rows_but_no_objects(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3)})
    _record(repository, BrickRecord("a", 1, BrickState.EMPTY, content_digest="new"))
    session = read_session(repository)
    assert len(read_objects(session, SURVEY)) == 0
    assert ledger_of(session, SURVEY, ["a"]).at["a", "rows"] == 64
    with transaction(repository, "again") as session:
        assert allocate(session, SURVEY, {"a": 10}) == {"a": RowRange(0, 64)}


def test_changes_between_two_snapshots_are_named(repository, ingest, make_block):
    ingest(repository, {"same": make_block(1), "new": make_block(2, 2), "gone": make_block(3, 3)})
    before = ledger(read_session(repository), SURVEY)
    ingest(repository, {"new": make_block(4, 2, seed=1), "more": make_block(5, 4)}, content="other")
    _record(repository, BrickRecord("gone", 3, BrickState.WITHDRAWN))
    after = ledger(read_session(repository), SURVEY)
    changes = changed_bricks(before, after)
    assert changes["change"].to_dict() == {"more": "added", "new": "changed", "gone": "removed"}
    assert changes["n_objects"].to_dict() == {"more": 5, "new": 4, "gone": 3}
    assert changed_bricks(after, after).empty
