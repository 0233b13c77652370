"""Bricks written through forks come back whole, in place, and open in xarray."""

import asyncio
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from storage.batches import read_cutouts
from storage.brick_store import (
    RowRange,
    allocate,
    create_survey,
    ledger,
    read_layout,
    read_objects,
    valid_rows,
    write_cutouts,
)
from storage.errors import SchemaMismatch, StorageError
from storage.repository import fork, open_repository, read_session, transaction
from storage.schema import CATALOGUE_UNITS_ATTRIBUTE, OBJECT_COLUMNS, SurveyLayout
from storage.survey_group import list_surveys

SURVEY = "dr10/south"


def _stored_shards(session, name: str) -> list[int]:
    async def collect() -> list[int]:
        return [place[0] async for place in session.chunk_coordinates(f"/{SURVEY}/{name}")]

    return sorted(asyncio.run(collect()))


def test_cutouts_come_back_within_the_stored_precision(repository, ingest, make_block):
    blocks = {"0001p000": make_block(70, brickid=1), "0002p000": make_block(5, brickid=2)}
    ingest(repository, blocks)
    session = read_session(repository)
    rows = ledger(session, SURVEY)["row_start"]
    assert np.abs(blocks["0001p000"]["image"].values).max() > 30
    for name, block in blocks.items():
        start = int(rows[name])
        found = read_cutouts(session, SURVEY, np.arange(start, start + block.sizes["object"]))
        sigma = 1 / np.sqrt(block["invvar"].values)
        assert (np.abs(found["image"] - block["image"].values) <= sigma / 32768).all()
        np.testing.assert_array_equal(found["invvar"], block["invvar"].values)
        np.testing.assert_array_equal(found["maskbits"], block["maskbits"].values)


def test_count_in_is_count_out_and_ids_stay_with_their_rows(repository, ingest, make_block):
    blocks = {f"000{i}p000": make_block(n, brickid=i) for i, n in enumerate((65, 1, 64), start=1)}
    ingest(repository, blocks)
    objects = read_objects(read_session(repository), SURVEY)
    assert len(objects) == 130
    assert objects["row"].is_monotonic_increasing
    for name, block in blocks.items():
        part = objects[objects["brickname"] == name]
        for column in OBJECT_COLUMNS:
            np.testing.assert_array_equal(part[column], block[column].values)
        np.testing.assert_array_equal(part["flux_r"], block["catalogue"].sel(column="flux_r"))


def test_some_bricks_without_the_catalogue(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3), "b": make_block(4, brickid=2)})
    session = read_session(repository)
    objects = read_objects(session, SURVEY, bricknames=["b", "unknown"], catalogue=False)
    assert list(objects.columns) == ["row", "brickname", *OBJECT_COLUMNS]
    assert objects["row"].tolist() == [64, 65, 66, 67]
    assert len(read_objects(session, SURVEY, bricknames=[])) == 0
    some = read_objects(session, SURVEY, bricknames=["b"], columns=("objid",), catalogue=False)
    pd.testing.assert_frame_equal(some, objects[["row", "brickname", "objid"]])


def test_xarray_opens_it_with_names_units_and_coordinates(tmp_path, repository, ingest, make_block):
    block = make_block(3)
    ingest(repository, {"0001p000": block})
    store = read_session(open_repository(tmp_path / "survey")).store
    dataset = xr.open_zarr(store, group=SURVEY, consolidated=False)
    assert dataset["image"].dims == ("object", "band", "y", "x")
    assert dataset["image"].attrs["units"] == "nanomaggy"
    assert dataset["invvar"].attrs["units"] == "1/nanomaggy^2"
    assert dataset["band"].values.tolist() == ["g", "r", "z"]
    assert {"ra", "dec", "objid", "brickid", "release"} <= set(dataset.coords)
    assert dataset["type"].attrs["flag_meanings"].split()[2] == "EXP"
    units = dataset["catalogue"].attrs[CATALOGUE_UNITS_ATTRIBUTE]
    assert dict(zip(dataset["column"].values, units, strict=True))["shape_r"] == "arcsec"
    one = dataset.isel(object=0).sel(band="r")
    sigma = 1 / np.sqrt(block["invvar"].values[0, 1])
    assert (np.abs(one["image"].values - block["image"].values[0, 1]) <= sigma / 32768).all()
    assert (dataset["objid"].values[3:] == -1).all()


def test_padding_is_not_stored(repository, ingest, make_block):
    ingest(repository, {"a": make_block(3), "b": make_block(1, brickid=2)})
    assert _stored_shards(read_session(repository), "image") == [0, 1]
    with transaction(repository, "room") as room:
        allocate(room, SURVEY, {"c": 640})
    assert _stored_shards(read_session(repository), "image") == [0, 1]


def test_creating_again_does_nothing_and_another_layout_is_refused(repository, layout):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
    with transaction(repository, "again") as session:
        create_survey(session, SURVEY, layout)
        assert not session.has_uncommitted_changes
        with pytest.raises(SchemaMismatch, match="or another store"):
            create_survey(session, SURVEY, SurveyLayout(bands=("g", "r", "z"), size=16))


def test_layout_is_read_back_even_without_a_pixel_scale(repository):
    jpeg = SurveyLayout(("r", "g", "b"), 8, "jpeg intensity", float("nan"), ("flux_g",))
    with transaction(repository, "create") as session:
        create_survey(session, "images/gz2", jpeg)
        create_survey(session, "images/gz2", jpeg)
        found = read_layout(session, "images/gz2")
    assert np.isnan(found.pixel_scale)
    assert (found.bands, found.size, found.unit) == (jpeg.bands, jpeg.size, jpeg.unit)
    assert found.columns == jpeg.columns


def test_surveys_are_listed(repository, layout):
    assert list_surveys(read_session(repository)) == []
    with transaction(repository, "create") as session:
        create_survey(session, "images/gz2_sdss", layout)
        create_survey(session, SURVEY, layout)
    assert list_surveys(read_session(repository)) == [SURVEY, "images/gz2_sdss"]


def test_unknown_survey_says_what_to_do(repository):
    with pytest.raises(StorageError, match="'dr9/north/bricks' is not in this snapshot"):
        ledger(read_session(repository), "dr9/north")


@pytest.mark.parametrize(
    "rows", [RowRange(32, 64), RowRange(0, 63), RowRange(0, 64), RowRange(128, 128)]
)
def test_ranges_that_are_not_the_bricks_own_are_refused(repository, layout, make_block, rows):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
        allocate(session, SURVEY, {"a": 65})
    with transaction(repository, "write") as session:
        child = fork(session)
        with pytest.raises(SchemaMismatch, match="use the range of allocate"):
            write_cutouts(child, SURVEY, rows, make_block(65))


def test_fork_can_be_written_after_pickling(repository, layout, make_block):
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, layout)
        rows = allocate(session, SURVEY, {"a": 3})["a"]
    with transaction(repository, "write") as session:
        child = pickle.loads(pickle.dumps(fork(session)))
        write_cutouts(child, SURVEY, rows, make_block(3))
        session.merge(pickle.loads(pickle.dumps(child)))
    found = read_cutouts(read_session(repository), SURVEY, [2], ["maskbits"])
    np.testing.assert_array_equal(found["maskbits"][0], make_block(3)["maskbits"].values[2])


def test_valid_rows_skip_padding(repository, ingest, make_block):
    ingest(repository, {"a": make_block(2), "b": make_block(3, brickid=2)})
    assert valid_rows(ledger(read_session(repository), SURVEY)).tolist() == [0, 1, 64, 65, 66]
