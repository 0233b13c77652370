"""Catalogues appear whole, say what they are and find one object."""

import numpy as np
import pandas as pd
import pytest

from storage.catalogue import (
    ColumnNote,
    find_row,
    format_object_id,
    parse_object_id,
    read_catalogue,
    read_column_notes,
    read_metadata,
    write_catalogue,
)
from storage.errors import SchemaMismatch, StorageError

NOTES = {
    "release": ColumnNote("", "RELEASE code"),
    "brickid": ColumnNote("", "BRICKID"),
    "objid": ColumnNote("", "OBJID"),
    "ra": ColumnNote("deg", "right ascension"),
    "p_spiral": ColumnNote("1", "probability of a spiral"),
}


def _part(start: int, n: int) -> pd.DataFrame:
    objid = np.arange(start, start + n)
    return pd.DataFrame(
        {
            "release": np.int32(10000),
            "brickid": np.int32(5),
            "objid": objid,
            "ra": objid / 10,
            "p_spiral": (objid / 100).astype(np.float32),
        }
    )


def test_parts_become_one_table_with_metadata_and_notes(tmp_path):
    path = write_catalogue(tmp_path / "c", iter([_part(0, 3), _part(3, 2)]), {"model": 7}, NOTES)
    assert path.parent == tmp_path / "c"
    table, metadata = read_catalogue(tmp_path / "c")
    assert table["objid"].tolist() == [0, 1, 2, 3, 4]
    assert table["p_spiral"].dtype == np.float32
    assert metadata == read_metadata(tmp_path / "c") == {"model": 7}
    assert read_column_notes(tmp_path / "c") == NOTES


def test_one_object_is_found_by_its_id(tmp_path):
    write_catalogue(tmp_path, [_part(0, 50)], {}, NOTES)
    row = find_row(tmp_path, "10000-5-42")
    assert row is not None
    assert (row["objid"], row["ra"]) == (42, 4.2)
    assert find_row(tmp_path, "10000-5-50") is None
    assert find_row(tmp_path, "10000-6-42") is None


@pytest.mark.parametrize("text", ["", "1-2", "1-2-3-4", "a-b-c", "1-2-x", "1--3"])
def test_bad_object_ids_are_refused(text):
    with pytest.raises(SchemaMismatch, match="such as 10000-349541-123"):
        parse_object_id(text)


def test_object_ids_go_both_ways():
    assert parse_object_id(format_object_id(10000, 349541, 123)) == (10000, 349541, 123)


def _failing():
    yield _part(0, 3)
    raise RuntimeError("worker died")


def test_a_failure_leaves_the_old_catalogue_and_no_rubbish(tmp_path):
    write_catalogue(tmp_path, [_part(0, 2)], {"model": 1}, NOTES)
    with pytest.raises(RuntimeError, match="worker died"):
        write_catalogue(tmp_path, _failing(), {"model": 2}, NOTES)
    assert read_metadata(tmp_path) == {"model": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["catalogue.parquet"]


@pytest.mark.parametrize(
    ("parts", "error", "reason"),
    [
        ([], StorageError, "needs at least one"),
        ([_part(0, 1).drop(columns="objid")], SchemaMismatch, "absent id columns .'objid'."),
        ([_part(0, 1).assign(extra=1)], SchemaMismatch, "columns without note .'extra'."),
        ([_part(0, 1), _part(1, 1).drop(columns="ra")], SchemaMismatch, "the first had"),
    ],
)
def test_bad_parts_are_refused(tmp_path, parts, error, reason):
    with pytest.raises(error, match=reason):
        write_catalogue(tmp_path, parts, {}, NOTES)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_catalogue_says_what_to_do(tmp_path):
    with pytest.raises(StorageError, match="run predict first"):
        read_catalogue(tmp_path)
