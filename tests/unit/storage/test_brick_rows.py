"""Who owns which rows of the object axis, and which of them hold objects."""

import numpy as np
import zarr

from storage.brick_ledger import ledger
from storage.brick_rows import RowRange, allocate, valid_rows
from storage.brick_store import create_survey, read_objects
from storage.repository import read_session, transaction

SURVEY = "dr10/south"


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
    objid = zarr.open_array(session.store, path=f"{SURVEY}/objid", mode="r")
    assert (objid[:64] == -1).all()


def test_ranges_never_overlap_even_before_they_are_recorded(repository, layout):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
        first = allocate(session, SURVEY, {"a": 70, "none": 0, "b": 1})
        second = allocate(session, SURVEY, {"c": 1})
    assert first == {"a": RowRange(0, 128), "none": RowRange(0, 0), "b": RowRange(128, 64)}
    assert second == {"c": RowRange(192, 64)}
