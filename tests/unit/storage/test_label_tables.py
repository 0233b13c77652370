import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from storage.errors import CorruptFile, SchemaMismatch, StorageError
from storage.label_tables import read_label_table

VOTES = {"BRICKID": [7, 7], "OBJID": [1, 2], "votes_edge_on": [3, 0], "votes_spiral": [1, 40]}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_votes_are_read_from_every_kind_of_file(tmp_path, suffix):
    path = tmp_path / f"votes{suffix}"
    if suffix == ".csv":
        pd.DataFrame(VOTES).to_csv(path, index=False)
    elif suffix == ".parquet":
        pd.DataFrame(VOTES).to_parquet(path)
    else:
        Table(VOTES).write(path)
    table = read_label_table(path)
    found = {(row.objid, row.answer): row.count for row in table.itertuples(index=False, name="R")}
    assert set(found) == {(1, "edge-on"), (1, "spiral"), (2, "spiral")}
    assert table.loc[(table.objid == 2), "count"].tolist() == [40.0]


def test_plain_answers_count_once(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("release,brickid,objid,answer\n9010,7,1,spiral\n9010,7,2,\n")
    table = read_label_table(path)
    assert table.to_dict("records") == [
        {"release": 9010, "brickid": 7, "objid": 1, "answer": "spiral", "count": 1.0}
    ]


def test_columns_of_a_table_without_ids_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,label\na,spiral\n")
    with pytest.raises(SchemaMismatch, match="name"):
        read_label_table(path)


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(StorageError, match="no such table"):
        read_label_table(tmp_path / "absent.csv")
    broken = tmp_path / "broken.fits"
    broken.write_bytes(np.zeros(100, np.uint8).tobytes())
    with pytest.raises(CorruptFile, match=r"broken\.fits"):
        read_label_table(broken)
    text = tmp_path / "t.txt"
    text.write_text("x")
    with pytest.raises(SchemaMismatch, match="csv"):
        read_label_table(text)
