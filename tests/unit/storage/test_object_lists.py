"""Listed objects: by id, by position, from sweep files; what a sweep says of a brick."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from storage.brick_lists import brick_areas
from storage.bricks import brick_at, brick_from_id, brick_from_name
from storage.errors import BrickNotFound, SchemaMismatch
from storage.object_lists import listed_bricks, match_listed, sweep_catalogue
from storage.sweeps import bricks_covered, sweep_files, sweeps_for
from storage.tractor import ObjectType

BRICK = brick_at(150.0, 2.2)
ARCSEC = 1 / 3600


@pytest.fixture
def objects() -> pd.DataFrame:
    """Return five objects of a brick, 3 arcsec apart in declination."""
    number = np.arange(5)
    return pd.DataFrame(
        {
            "release": 9010,
            "brickid": BRICK.brickid,
            "objid": number * 2,
            "ra": BRICK.ra,
            "dec": BRICK.dec + 3 * ARCSEC * number,
        }
    )


def write(path: Path, table: pd.DataFrame) -> str:
    if path.name.endswith(".parquet"):
        table.to_parquet(path)
    elif path.name.endswith(".csv"):
        table.to_csv(path, index=False)
    else:
        Table.from_pandas(table).write(path)
    return str(path)


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.parquet", "a.csv", "a.ecsv"])
def test_ids_in_any_form_of_table(tmp_path: Path, objects: pd.DataFrame, name: str) -> None:
    listed = pd.DataFrame(
        {"BRICKID": [BRICK.brickid, 7, BRICK.brickid, BRICK.brickid], "OBJID": [8, 4, 2, 3]}
    )
    found = match_listed(objects, write(tmp_path / name, listed), 1.0)
    assert found.mask.tolist() == [False, True, False, False, True]
    assert found.notes == ("1 listed objects of the brick are not in its catalogue",)


def test_the_release_counts_where_the_list_has_it(tmp_path: Path, objects: pd.DataFrame) -> None:
    objects.loc[1, "release"] = 9012
    listed = objects[["brickid", "objid", "release"]].assign(release=9012)
    found = match_listed(objects, write(tmp_path / "a.csv", listed), 1.0)
    assert found.mask.tolist() == [False, True, False, False, False]
    other = match_listed(objects, write(tmp_path / "b.csv", listed.assign(release=10000)), 1.0)
    assert not other.mask.any()
    assert "the list is of release [10000], the catalogue of [9010, 9012]" in other.notes[0]


def test_positions_match_the_nearest_object(tmp_path: Path, objects: pd.DataFrame) -> None:
    near = objects["dec"].to_numpy()
    listed = pd.DataFrame(
        {
            "ra": [BRICK.ra + 0.9 * ARCSEC, BRICK.ra, BRICK.ra, 10.0, (BRICK.ra + 180) % 360],
            "dec": [near[1], near[3] + 1.1 * ARCSEC, near[4] - 0.2 * ARCSEC, 10.0, near[0]],
        }
    )
    path = write(tmp_path / "a.fits", listed)
    found = match_listed(objects, path, 1.0)
    assert found.mask.tolist() == [False, True, False, False, True]
    assert found.notes == ("1 listed objects of the brick are not in its catalogue",)
    assert match_listed(objects, path, 1.2).mask.tolist() == [False, True, False, True, True]


def test_positions_across_ra_0(tmp_path: Path) -> None:
    brick = brick_at(0.0, 2.2)
    objects = pd.DataFrame(
        {"release": 1, "brickid": brick.brickid, "objid": [1], "ra": [0.00001], "dec": [brick.dec]}
    )
    listed = pd.DataFrame({"ra": [359.99999], "dec": [brick.dec]})
    assert match_listed(objects, write(tmp_path / "a.csv", listed), 1.0).mask.all()


def test_objects_without_position_and_empty_bricks(tmp_path: Path, objects: pd.DataFrame) -> None:
    path = write(tmp_path / "a.csv", pd.DataFrame({"ra": [BRICK.ra], "dec": [BRICK.dec]}))
    assert not match_listed(objects.assign(ra=np.nan), path, 1.0).mask.any()
    assert len(match_listed(objects[:0], path, 1.0).mask) == 0


def test_a_changed_list_is_read_again(tmp_path: Path, objects: pd.DataFrame) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"brickid,objid\n{BRICK.brickid},0\n")
    assert match_listed(objects, str(path), 1.0).mask.sum() == 1
    path.write_text(f"brickid,objid\n{BRICK.brickid},0\n{BRICK.brickid},2\n")
    assert match_listed(objects, str(path), 1.0).mask.sum() == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [("id\n1\n", "neither brickid and objid nor ra and dec"), ("ra,dec\n1,91\n", "degrees")],
)
def test_lists_that_are_none(tmp_path: Path, objects: pd.DataFrame, text: str, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(SchemaMismatch, match=word):
        match_listed(objects, str(path), 1.0)


def test_lists_that_are_too_long(
    tmp_path: Path, objects: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.object_lists.MOST_ROWS", 4)
    path = write(tmp_path / "a.csv", objects)
    with pytest.raises(SchemaMismatch, match="more than 4 rows; split it"):
        match_listed(objects, path, 1.0)


def test_a_list_costs_memory_for_its_ids_only(tmp_path: Path) -> None:
    """A hundred thousand rows of 4,000 bytes are 400 MB; a block of rows is read at a time."""
    number, width = 100_000, 998
    columns = [fits.Column("BRICKID", "J"), fits.Column("OBJID", "J")]
    columns.append(fits.Column("REST", f"{width}E"))
    header = fits.BinTableHDU.from_columns(columns, nrows=0).header
    header["NAXIS2"] = number
    path = tmp_path / "sweep-000p000-010p005.fits"
    with path.open("wb") as handle:
        handle.write(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
        start, size = handle.tell(), number * int(header["NAXIS1"])
        handle.write(np.array([7, 3], ">i4").tobytes())
        handle.truncate(start + size + -size % 2880)  # the rest are zeros that take no disk
    table = pd.DataFrame({"brickid": 7, "objid": [3], "ra": 0.0, "dec": 0.0})
    tracemalloc.start()
    try:
        assert match_listed(table, str(path), 1.0).mask.all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6


def test_which_boxes_a_brick_is_in(tmp_path: Path) -> None:
    names = [
        "sweep-190m005-200p000.fits",
        "sweep-200m005-210p000.fits",
        "sweep-190p000-200p005.fits",
        "sweep-350p085-360p090.fits",
        "sweep-190m005-200p000-extra.fits",
        "README",
    ]
    for name in names:
        (tmp_path / name).touch()
    found = {
        place: [path.name for path in sweeps_for(tmp_path, brick_at(*place))]
        for place in ((195.0, -2.0), (195.0, 0.0), (205.0, -2.0), (205.0, 2.0), (10.0, 90.0))
    }
    assert found == {
        (195.0, -2.0): [names[0]],
        (195.0, 0.0): [names[0], names[2]],  # the row of bricks on the equator is in both
        (205.0, -2.0): [names[1]],
        (205.0, 2.0): [],
        (10.0, 90.0): [names[3]],  # the brick of the pole is at any RA
    }
    assert len(sweep_files(tmp_path)) == 4
    areas = brick_areas([brick_at(195.0, -2.0).brickname, brick_at(205.0, 2.0).brickname])
    assert bricks_covered(tmp_path, areas).tolist() == [True, False]
    assert listed_bricks(str(tmp_path), areas).tolist() == [True, False]


def test_folders_without_sweeps(tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound, match="holds no sweep file"):
        sweeps_for(tmp_path, BRICK)
    with pytest.raises(BrickNotFound, match="is not there"):
        sweeps_for(tmp_path / "absent", BRICK)


@pytest.mark.parametrize("release", ["DR3", "DR7", "DR8"])
def test_real_sweeps_as_list_and_as_catalogue(real_data: Path, release: str) -> None:
    folder = real_data / "bricks" / f"catalog_schema_{release}"
    seen = 0
    for path in sweep_files(folder):
        with fits.open(path) as hdus:
            ids = hdus[1].data["BRICKID"]
            objids = hdus[1].data["OBJID"]
        for brickid in np.unique(ids)[:12]:
            brick = brick_from_id(int(brickid))
            assert path in sweeps_for(folder, brick)
            catalogue = sweep_catalogue(str(folder), brick, "grz")
            assert catalogue is not None
            table = catalogue.table
            assert sorted(table["objid"]) == sorted(objids[ids == brickid])
            assert table["brick_primary"].all()  # sweeps hold primary objects only
            assert match_listed(table, str(folder), 1.0).mask.all()
            assert np.isfinite(table[["flux_r", "mw_transmission_r"]]).all(axis=None)
            assert (table["shape_r"][table["type"] == ObjectType.EXP] > 0).all()
            seen += len(table)
    assert seen >= 18


def test_bricks_that_a_sweep_does_not_have(real_data: Path) -> None:
    folder = real_data / "bricks" / "catalog_schema_DR8"
    path = folder / "sweep-310m005-320p000.fits"
    assert sweep_catalogue(str(path), brick_from_name("1238p245"), "grz") is None
    assert sweep_catalogue(str(folder), brick_from_name("1238p245"), "grz") is None


def test_a_list_of_ids_is_no_catalogue(tmp_path: Path, objects: pd.DataFrame) -> None:
    path = write(tmp_path / "a.fits", objects)
    assert sweep_catalogue(path, BRICK, "grz") is None
