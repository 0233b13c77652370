from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage.errors import CorruptFile, SchemaMismatch, StorageError
from storage.image_labels import answers, match_rows, positions, read_image_table, rows_where

TABLE = Path("labels.csv")


def written(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_big_identifiers_survive_a_gap_in_their_column(tmp_path: Path) -> None:
    path = written(tmp_path, "id,label\n588018054574375038,spiral\n,odd\n")
    _, text = read_image_table(path)
    assert match_rows(path, text, ["588018054574375038"], None) == {"588018054574375038": 0}


def test_the_column_with_most_file_names_is_found() -> None:
    text = pd.DataFrame({"objid": ["9", "8", "3"], "file": ["a/3.jpg", "4.PNG", "5"]})
    assert match_rows(TABLE, text, ["3", "4", "5"], None) == {"3": 0, "4": 1, "5": 2}
    assert match_rows(TABLE, text, ["3", "4", "5"], "objid") == {"3": 2}


def test_a_picture_with_two_rows_has_the_first() -> None:
    assert match_rows(TABLE, pd.DataFrame({"id": ["1.0", "1"]}), ["1"], None) == {"1": 0}


def test_columns_that_do_not_fit() -> None:
    text = pd.DataFrame({"id": ["1"]})
    with pytest.raises(SchemaMismatch, match="no column names the pictures"):
        match_rows(TABLE, text, ["2"], None)
    with pytest.raises(SchemaMismatch, match="no column 'name'"):
        match_rows(TABLE, text, ["1"], "name")


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such table"):
        read_image_table(tmp_path / "none.csv")
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(CorruptFile):
        read_image_table(tmp_path / "a.parquet")
    with pytest.raises(CorruptFile):
        read_image_table(written(tmp_path, ""))


def test_positions_of_pictures_with_a_row() -> None:
    table = pd.DataFrame({"RA": [10.0, 20.0], "Dec": ["1.5", "-"]})
    ra, dec = positions(table, {"a": 0, "b": 1}, ["b", "a", "c"])
    assert ra[:2].tolist() == [20.0, 10.0]
    assert dec[1] == 1.5
    assert np.isnan([ra[2], dec[0], dec[2]]).all()
    assert np.isnan(positions(table[[]], {"a": 0}, ["a"])).all()


def test_rows_where() -> None:
    table = pd.DataFrame({"kind": ["merger", "spiral"], "t06-odd": [0.2, 0.1]})
    assert rows_where(TABLE, table, None).all()
    kept = rows_where(TABLE, table, "kind != 'merger' or `t06-odd` > 0.5")
    assert kept.tolist() == [False, True]
    with pytest.raises(SchemaMismatch, match="cannot filter"):
        rows_where(TABLE, table, "nothing > 1")


def test_one_answer_a_row() -> None:
    table = pd.DataFrame({"derived_label": ["spiral", None, " edge "]})
    found = answers(TABLE, table, None, {}, None)
    assert found.values.tolist() == [[0, "spiral", 1.0], [2, "edge", 1.0]]


def test_vote_columns_are_found() -> None:
    table = pd.DataFrame({"votes_spiral": [3, 0], "votes_edge_on": [1, 2]})
    found = answers(TABLE, table, None, {}, None)
    assert found.values.tolist() == [[0, "spiral", 3.0], [0, "edge-on", 1.0], [1, "edge-on", 2.0]]


def test_fractions_times_voters() -> None:
    table = pd.DataFrame({"smooth_fraction": [0.25, np.nan], "n": [40, 50], "label": ["x", "y"]})
    found = answers(TABLE, table, None, {"smooth_fraction": "elliptical"}, "n")
    assert found.values.tolist() == [[0, "elliptical", 10.0]]


def test_no_answer_at_all() -> None:
    assert len(answers(TABLE, pd.DataFrame({"ra": [1.0]}), None, {}, None)) == 0
    with pytest.raises(SchemaMismatch, match="no column"):
        answers(TABLE, pd.DataFrame({"ra": [1.0]}), "label", {}, None)
