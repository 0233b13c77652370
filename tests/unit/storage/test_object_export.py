"""Exported tables say what the store says, to every reader, and appear whole or not at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits, votable
from astropy.table import Table
from astropy_healpix import HEALPix

from storage import hats_export, object_export
from storage.brick_store import read_objects
from storage.catalogue import METADATA_KEY
from storage.errors import NothingToDo, SchemaMismatch, StorageError
from storage.export_columns import KEY_COLUMNS, export_columns
from storage.hats_export import choose_cells, healpix_29
from storage.object_export import export_objects
from storage.repository import read_session, transaction
from storage.schema import SurveyLayout
from storage.survey_group import create_survey

SURVEY = "dr10/south"
COUNTS = {"0001p000": 70, "0002p000": 5, "0003p000": 64}


@pytest.fixture
def session(repository, ingest, make_block) -> Any:
    blocks = {
        name: make_block(number, brickid=place, seed=place)
        for place, (name, number) in enumerate(COUNTS.items(), start=1)
    }
    for block in blocks.values():
        block["catalogue"][0, 3] = np.nan
    ingest(repository, blocks)
    return read_session(repository)


@pytest.fixture
def stored(session: Any) -> pd.DataFrame:
    return read_objects(session, SURVEY)


def compare(found: pd.DataFrame, stored: pd.DataFrame) -> None:
    assert sorted(found.columns) == sorted(stored.columns)
    for name in stored.columns:
        ours, theirs = found[name].to_numpy(), stored[name].to_numpy()
        if ours.dtype.kind in "OUST":
            assert [str(text) for text in ours] == [str(text) for text in theirs]
        else:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("block_rows", [1, 71, 100_000])
def test_parquet_for_pandas(
    tmp_path: Path, session: Any, stored: pd.DataFrame, monkeypatch: Any, block_rows: int
) -> None:
    monkeypatch.setattr(object_export, "BLOCK_ROWS", block_rows)
    plan = export_objects(session, SURVEY, tmp_path / "a.parquet", creator="test 1")
    assert plan.rows == sum(COUNTS.values())
    compare(pd.read_parquet(tmp_path / "a.parquet"), stored)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == {1: 3, 71: 2, 100_000: 1}[block_rows]
    field = file.schema_arrow.field("flux_r")
    assert field.metadata[b"unit"] == b"nanomaggy"
    said = json.loads(file.schema_arrow.metadata[METADATA_KEY])
    assert said["survey"] == SURVEY
    assert said["snapshot_id"] == session.snapshot_id
    assert said["creator"] == "test 1"


def test_parquet_for_astropy(tmp_path: Path, session: Any, stored: pd.DataFrame) -> None:
    export_objects(session, SURVEY, tmp_path / "a.parquet")
    table = Table.read(tmp_path / "a.parquet")
    compare(table.to_pandas(), stored)
    assert table["ra"].unit == units.deg
    assert table["flux_r"].unit == units.Unit("nanomaggy")
    assert "band r" in table["flux_r"].description
    assert table.meta["survey"] == SURVEY


def test_parquet_for_topcat(tmp_path: Path, session: Any) -> None:
    export_objects(session, SURVEY, tmp_path / "a.parquet")
    metadata = pq.read_schema(tmp_path / "a.parquet").metadata
    assert metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    path = tmp_path / "columns.xml"
    path.write_bytes(metadata[b"IVOA.VOTable-Parquet.content"])
    described = votable.parse(path, verify="ignore").get_first_table()
    names = [field.name for field in described.fields]
    assert names == pq.read_schema(tmp_path / "a.parquet").names
    ra = described.fields[names.index("ra")]
    assert (ra.datatype, str(ra.unit), ra.ucd) == ("double", "deg", "pos.eq.ra;meta.main")
    assert "DATA" not in path.read_text()


def test_fits(tmp_path: Path, session: Any, stored: pd.DataFrame, monkeypatch: Any) -> None:
    monkeypatch.setattr(object_export, "BLOCK_ROWS", 71)
    export_objects(session, SURVEY, tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        hdus.verify("exception")
        table, header = hdus["OBJECTS"].data, hdus["OBJECTS"].header
        columns = {name: np.asarray(table[name]) for name in table.names}
    native = {name: v.astype(v.dtype.newbyteorder("=")) for name, v in columns.items()}
    compare(pd.DataFrame(native), stored)
    place = list(columns).index("flux_r") + 1
    assert header[f"TUNIT{place}"] == "nanomaggy"
    assert "band r" in header[f"TCOMM{place}"]
    assert header["SURVEY"] == SURVEY
    assert json.loads(header["PROVENAN"])["snapshot_id"] == session.snapshot_id
    assert (tmp_path / "a.fits").stat().st_size % 2880 == 0
    with pytest.warns(units.UnitsWarning, match="nanomaggy"):  # as for the survey's own files
        assert str(Table.read(tmp_path / "a.fits")["flux_r"].unit) == "nanomaggy"


def test_ecsv(tmp_path: Path, session: Any, stored: pd.DataFrame) -> None:
    export_objects(session, SURVEY, tmp_path / "a.ecsv")
    table = Table.read(tmp_path / "a.ecsv")
    compare(table.to_pandas(), stored)
    assert table["dec"].unit == units.deg
    assert table.meta["snapshot_id"] == session.snapshot_id


def test_chosen_columns_and_unknown_ones(tmp_path: Path, session: Any) -> None:
    export_objects(session, SURVEY, tmp_path / "a.parquet", columns=["flux_z", "type"])
    names = pq.read_schema(tmp_path / "a.parquet").names
    assert names == [*KEY_COLUMNS, "type", "flux_z"]
    with pytest.raises(SchemaMismatch, match="flux_q"):
        export_objects(session, SURVEY, tmp_path / "b.parquet", columns=["flux_q"])
    assert sorted(path.name for path in tmp_path.glob("*.p*")) == ["a.parquet"]


def test_every_column_has_a_meaning() -> None:
    columns = export_columns(SurveyLayout(bands=("g", "i")))
    assert all(column.description and column.description != column.name for column in columns)


@pytest.mark.parametrize("name", ["a.parquet", "a.fits", "a.ecsv", "a.hats"])
def test_nothing_is_replaced_unasked(tmp_path: Path, session: Any, name: str) -> None:
    target = tmp_path / name
    export_objects(session, SURVEY, target)
    with pytest.raises(StorageError, match="--overwrite"):
        export_objects(session, SURVEY, target)
    plan = export_objects(session, SURVEY, target, overwrite=True, columns=["type"])
    assert len(plan.columns) == len(KEY_COLUMNS) + 1
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("name", ["a.parquet", "a.fits", "a.ecsv", "a.hats"])
def test_a_broken_export_leaves_nothing_and_keeps_the_old(
    tmp_path: Path, session: Any, monkeypatch: Any, name: str
) -> None:
    target = tmp_path / name
    export_objects(session, SURVEY, target, columns=["type"])
    before = {path: path.read_bytes() for path in tmp_path.glob("a*/**/*") if path.is_file()}
    monkeypatch.setattr(object_export, "BLOCK_ROWS", 1)
    whole, calls = object_export.valid_rows, [0]

    def fail(table: pd.DataFrame) -> Any:
        calls[0] += 1
        if calls[0] > 2:
            raise OSError("disk")
        return whole(table)

    monkeypatch.setattr(object_export, "valid_rows", fail)
    with pytest.raises(OSError, match="disk"):
        export_objects(session, SURVEY, target, overwrite=True)
    assert target.exists()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert list(tmp_path.glob(".*")) == []


def test_what_cannot_be_exported(tmp_path: Path, session: Any, repository, layout) -> None:
    with pytest.raises(SchemaMismatch, match="end its name with one of .parquet"):
        export_objects(session, SURVEY, tmp_path / "a.xls")
    with pytest.raises(StorageError, match="dr1/south"):
        export_objects(session, "dr1/south", tmp_path / "a.parquet")
    with transaction(repository, "empty") as writable:
        create_survey(writable, "dr9/north", layout)
    with pytest.raises(NothingToDo, match="no object"):
        export_objects(read_session(repository), "dr9/north", tmp_path / "a.parquet")


def test_hats_by_its_note(
    tmp_path: Path, session: Any, stored: pd.DataFrame, monkeypatch: Any
) -> None:
    monkeypatch.setattr(hats_export, "ROWS_OF_A_CELL", 4)
    monkeypatch.setattr(object_export, "BLOCK_ROWS", 71)
    folder = tmp_path / "mine.hats"
    export_objects(session, SURVEY, folder)
    lines = (folder / "hats.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert properties["hats_nrows"] == str(len(stored))
    assert properties["dataproduct_type"] == "object"
    assert int(properties["hats_max_rows"]) <= 4
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset",
        "hats.properties",
        "partition_info.csv",
    ]
    partitions = pd.read_csv(folder / "partition_info.csv")
    assert partitions["Norder"].max() == int(properties["hats_order"]) > 0
    seen = []
    for order, number in partitions.itertuples(index=False):
        path = folder / "dataset" / f"Norder={order}" / "Dir=0" / f"Npix={number}.parquet"
        part = pq.ParquetFile(path).read().to_pandas()
        grid = HEALPix(nside=2**order, order="nested")
        inside = grid.lonlat_to_healpix(
            part["ra"].to_numpy() * units.deg, part["dec"].to_numpy() * units.deg
        )
        assert (inside == number).all()
        assert part["_healpix_29"].is_monotonic_increasing
        assert ((part["_healpix_29"].to_numpy() >> 2 * (29 - order)) == number).all()
        seen.append(part)
    found = pd.concat(seen).sort_values("row").drop(columns="_healpix_29")
    compare(found, stored)


def test_hats_for_pyarrow_and_astropy(tmp_path: Path, session: Any, stored: pd.DataFrame) -> None:
    folder = tmp_path / "mine.hats"
    export_objects(session, SURVEY, folder)
    dataset = pa.dataset.parquet_dataset(folder / "dataset" / "_metadata")
    assert dataset.count_rows() == len(stored)
    assert len(dataset.files) == len(pd.read_csv(folder / "partition_info.csv"))
    schema = pq.read_schema(folder / "dataset" / "_common_metadata")
    assert schema.names[0] == "_healpix_29"
    table = Table.read(dataset.files[0], format="parquet")
    assert table["flux_r"].unit == units.Unit("nanomaggy")


def test_cells_split_where_there_are_many() -> None:
    counts = np.zeros(12 * 4**3, np.int64)
    counts[:64] = 10  # cell 0 of order 0 is full, 640 objects
    counts[64] = 100  # one cell of order 3 has more than may be
    counts[200] = 1
    cells = choose_cells(counts, most=40)
    held = [
        counts[number * 4 ** (3 - order) : (number + 1) * 4 ** (3 - order)].sum()
        for order, number in zip(cells.order, cells.number, strict=True)
    ]
    assert sum(held) == counts.sum()
    assert sorted(held) == [1, *[40] * 16, 100]
    assert cells.order.tolist() == [2] * 16 + [3, 0]
    assert (np.diff(cells.first) > 0).all()


def test_objects_without_position_are_no_hats_catalogue(
    tmp_path: Path, repository, ingest, make_block
) -> None:
    block = make_block(3)
    block["ra"][1] = np.nan
    ingest(repository, {"a": block})
    session = read_session(repository)
    with pytest.raises(SchemaMismatch, match="export to .parquet"):
        export_objects(session, SURVEY, tmp_path / "a.hats")
    assert list(tmp_path.glob("*.hats")) == []
    assert export_objects(session, SURVEY, tmp_path / "a.parquet").rows == 3


def test_index_of_order_29() -> None:
    ra, dec = np.array([0.0, 123.4, 359.9]), np.array([89.9, -33.0, 0.0])
    grid = HEALPix(nside=2**6, order="nested")
    expected = grid.lonlat_to_healpix(ra * units.deg, dec * units.deg)
    assert (healpix_29(ra, dec) >> 2 * 23).tolist() == expected.tolist()
