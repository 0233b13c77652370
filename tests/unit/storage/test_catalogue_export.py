"""A release's files hold the same rows, say what they are, and are refused when bricks disagree."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from astropy.table import Table

from storage import catalogue_export
from storage.catalogue import (
    ColumnNote,
    find_row,
    read_bricks,
    read_catalogue,
    read_column_notes,
    write_table,
)
from storage.catalogue_export import BrickFile, write_release_files
from storage.errors import SchemaMismatch, StorageError

NOTES = {
    "object_id": ColumnNote("", "id"),
    "release": ColumnNote("", "RELEASE code"),
    "brickid": ColumnNote("", "BRICKID"),
    "objid": ColumnNote("", "OBJID"),
    "brickname": ColumnNote("", "brick"),
    "ra": ColumnNote("deg", "right ascension"),
    "dec": ColumnNote("deg", "declination"),
    "p_spiral": ColumnNote("1", "probability of a spiral"),
    "answer": ColumnNote("", "class"),
}
PROVENANCE = {"survey": "dr10/south", "snapshot_id": "S", "acknowledgement": "thanks"}


def rows_of(number: int, count: int) -> pd.DataFrame:
    objid = np.arange(count, dtype=np.int64)
    return pd.DataFrame(
        {
            "object_id": [f"10000-{number}-{place}" for place in objid],
            "release": np.int32(10000),
            "brickid": np.int32(number),
            "objid": objid,
            "brickname": f"b{number}",
            "ra": number * 40.0 + objid / 100,
            "dec": objid / 50 - 1,
            "p_spiral": (objid / count).astype(np.float32),
            "answer": np.where(objid % 2, "spiral", "elliptical").astype(object),
        }
    )


@pytest.fixture
def files(tmp_path: Path) -> list[BrickFile]:
    """Return the files of three bricks, the last name first."""
    found = []
    for number, count in ((3, 2), (1, 5), (2, 1)):
        path = write_table(tmp_path / f"b{number}.parquet", [rows_of(number, count)], {}, NOTES)
        found.append(BrickFile(f"b{number}", path, count))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


@pytest.mark.parametrize("block", [1, 100_000])
def test_all_files_hold_the_rows_of_all_bricks(files, folder, monkeypatch, block):
    monkeypatch.setattr(catalogue_export, "BLOCK_ROWS", block)
    assert write_release_files(folder, files, PROVENANCE) == ("parquet", "fits", "hats")
    rows, metadata = read_catalogue(folder)
    wanted = pd.concat([rows_of(1, 5), rows_of(2, 1), rows_of(3, 2)], ignore_index=True)
    pd.testing.assert_frame_equal(rows, wanted, check_dtype=False)
    assert rows["p_spiral"].dtype == np.float32
    assert metadata == PROVENANCE
    assert find_row(folder, "10000-3-1")["answer"] == "spiral"
    table = Table.read(folder / "catalogue.fits")
    assert list(table["object_id"]) == wanted["object_id"].tolist()
    assert table["answer"][0].strip() == "elliptical"
    assert str(table["ra"].unit) == "deg"
    widths = [table[name].dtype.itemsize for name in ("object_id", "brickname", "answer")]
    assert widths == [len("10000-1-0"), len("b1"), len("elliptical")]  # each its own
    sky = ds.dataset(folder / "dataset", exclude_invalid_files=True).to_table().to_pandas()
    assert sorted(sky["object_id"]) == sorted(wanted["object_id"])
    assert sky["_healpix_29"].is_monotonic_increasing or sky["brickid"].nunique() > 1
    assert "hats_nrows=8" in (folder / "hats.properties").read_text()


def test_columns_keep_unit_and_meaning(files, folder):
    write_release_files(folder, files, PROVENANCE, ["parquet"])
    notes = read_column_notes(folder)
    assert notes["ra"] == NOTES["ra"]
    assert notes["p_spiral"].description == "probability of a spiral"
    assert not (folder / "catalogue.fits").exists()


def test_rows_of_some_bricks_are_found_by_their_names(files, folder):
    write_release_files(folder, files, PROVENANCE, ["parquet"])
    found = read_bricks(folder, ["b3", "b1"], ["brickname", "objid"])
    assert found["brickname"].tolist() == ["b1"] * 5 + ["b3"] * 2


def test_objects_without_a_position_get_no_hats(tmp_path, folder):
    path = write_table(tmp_path / "b.parquet", [rows_of(1, 3).assign(ra=np.nan)], {}, NOTES)
    formats = write_release_files(folder, [BrickFile("b1", path, 3)], PROVENANCE)
    assert formats == ("parquet", "fits")
    assert not (folder / "dataset").exists()


def test_what_does_not_fit_is_refused(files, folder, tmp_path):
    with pytest.raises(StorageError, match="no brick has a row"):
        write_release_files(folder, [], PROVENANCE)
    with pytest.raises(SchemaMismatch, match="choose from parquet"):
        write_release_files(folder, files, PROVENANCE, ["votable"])
    with pytest.raises(SchemaMismatch, match="2 rows of .*expected 7"):
        write_release_files(folder, [BrickFile("b3", files[0].path, 7)], PROVENANCE)
    other = write_table(tmp_path / "o.parquet", [rows_of(4, 2).drop(columns="dec")], {}, NOTES)
    with pytest.raises(SchemaMismatch, match="predict the brick again"):
        write_release_files(folder, [*files, BrickFile("b4", other, 2)], PROVENANCE)
    odd = write_table(
        tmp_path / "t.parquet", [rows_of(5, 2).assign(ra=np.array([1, 2], np.int8))], {}, NOTES
    )
    with pytest.raises(SchemaMismatch, match="column 'ra' is int8"):
        write_release_files(folder, [BrickFile("b5", odd, 2)], PROVENANCE)
