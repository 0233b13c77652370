"""Rows of a ledger are found by name, updated in place and appended in order."""

import numpy as np
import pytest

from storage import ledger_table
from storage.ledger_table import create_ledger, read_ledger, read_some, upsert
from storage.repository import transaction
from storage.schema import ArraySpec

SPECS = (
    ArraySpec("brickname", ("brick",), "str", "", 3, 3, "", "key"),
    ArraySpec("name_hash", ("brick",), "uint64", "", 4, 4, 0, "hash"),
    ArraySpec("value", ("brick",), "int32", "", 2, 2, 0, "number"),
    ArraySpec("text", ("brick",), "str", "", 2, 2, "", "text"),
)


@pytest.fixture
def session(repository):
    with transaction(repository, "ledger") as session:
        create_ledger(session, "x/bricks", SPECS)
        yield session


def _row(value: int) -> dict[str, object]:
    return {"value": value, "text": f"é{value}" * value}


def test_new_rows_are_appended_and_known_ones_updated_in_place(session):
    upsert(session, "x/bricks", {name: _row(i) for i, name in enumerate("abcde")})
    upsert(session, "x/bricks", {"f": _row(7), "b": _row(9), "g": _row(8)})
    table = read_ledger(session, "x/bricks", ["value", "text"])
    assert list(table.index) == list("abcdefg")
    assert table["value"].tolist() == [0, 9, 2, 3, 4, 7, 8]
    assert table["text"].tolist() == [f"é{v}" * v for v in table["value"]]


def test_some_rows_are_read_by_name(session):
    upsert(session, "x/bricks", {name: _row(i) for i, name in enumerate("abcde")})
    table = read_some(session, "x/bricks", ["e", "zz", "b"], ["value"])
    assert table["value"].to_dict() == {"b": 1, "e": 4}
    assert len(read_some(session, "x/bricks", [], ["value"])) == 0
    assert len(read_some(session, "x/bricks", ["zz"], ["value", "text"])) == 0


def test_names_with_one_hash_are_kept_apart(session, monkeypatch):
    monkeypatch.setattr(
        ledger_table, "_hashes", lambda names: np.zeros(len(names), dtype=np.uint64)
    )
    upsert(session, "x/bricks", {name: _row(i) for i, name in enumerate("abc")})
    upsert(session, "x/bricks", {"b": _row(6), "d": _row(5)})
    table = read_ledger(session, "x/bricks", ["value"])
    assert table["value"].to_dict() == {"a": 0, "b": 6, "c": 2, "d": 5}
    assert list(read_some(session, "x/bricks", ["b"], ["value"]).index) == ["b"]
