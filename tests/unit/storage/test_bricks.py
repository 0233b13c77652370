from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.bricks import (
    NUMBER_OF_BRICKS,
    brick_at,
    brick_from_id,
    brick_from_name,
    brick_wcs,
    discover_bricks,
    neighbours,
    read_survey_bricks,
)
from storage.errors import BrickNotFound, CorruptFile, StorageError

brickids = st.integers(1, NUMBER_OF_BRICKS)


@pytest.mark.parametrize(
    ("name", "brickid"),
    [("0959p805", 657438), ("1238p245", 467899), ("1102p240", 465217), ("3301m007", 327368)],
)
def test_numbers_of_real_headers(name: str, brickid: int) -> None:
    assert brick_from_name(name).brickid == brickid
    assert brick_from_id(brickid).brickname == name


@pytest.mark.parametrize(
    ("ra", "dec", "name"), [(112.6, 22.2, "1126p222"), (190.1086, 1.2005, "1901p012")]
)
def test_positions_of_the_documentation(ra: float, dec: float, name: str) -> None:
    assert brick_at(ra, dec).brickname == name


def test_the_sky_has_the_official_number_of_bricks() -> None:
    assert brick_at(0.0, 90.0).brickid == NUMBER_OF_BRICKS
    assert brick_at(0.0, -90.0).brickid == 1


@settings(max_examples=200)
@given(brickids)
def test_id_name_and_position_agree(brickid: int) -> None:
    brick = brick_from_id(brickid)
    assert brick_from_name(brick.brickname) == brick
    assert brick_at(brick.ra, brick.dec) == brick
    assert bool(brick.owns(brick.ra, brick.dec))


@settings(max_examples=200)
@given(st.floats(0, 360, exclude_max=True), st.floats(-90, 90))
def test_every_position_is_owned_by_its_brick_and_by_no_neighbour(ra: float, dec: float) -> None:
    brick = brick_at(ra, dec)
    assert bool(brick.owns(ra, dec))
    assert not any(bool(other.owns(ra, dec)) for other in neighbours(brick))


@pytest.mark.parametrize("row", [*range(0, 721, 90), 1, 359, 361, 719])
def test_the_numbers_beside_an_edge_are_owned_by_one_brick(row: int) -> None:
    middle = row * 0.25 - 90.0
    edges = [*np.clip([middle - 0.125, middle + 0.125], -90, 90)]
    decs = [
        beside for edge in sorted(set(edges)) for beside in beside_of(edge) if abs(beside) <= 90
    ]
    for dec in [middle, *decs]:
        row_brick = brick_at(0.0, dec)
        width = row_brick.ra2 - row_brick.ra1
        edges = [brick_at(ra, dec).ra2 for ra in np.linspace(0.5 * width, 359.9, 4)]
        for ra in [beside for edge in [0.0, 360.0, *edges] for beside in beside_of(edge)]:
            brick = brick_at(ra, dec)
            near = [other for other in neighbours(brick) if bool(other.owns(ra, dec))]
            assert bool(brick.owns(ra, dec)), (ra, dec, brick)
            assert not near, (ra, dec, brick, near)


def beside_of(edge: float) -> list[float]:
    """Return a number and the nearest below and above that a computer has."""
    return [float(np.nextafter(edge, -np.inf)), edge, float(np.nextafter(edge, np.inf))]


@settings(max_examples=100)
@given(brickids)
def test_neighbourhood_is_mutual(brickid: int) -> None:
    brick = brick_from_id(brickid)
    near = neighbours(brick)
    assert len(near) >= 5
    assert all(brick in neighbours(other) for other in near)


def test_areas_sum_to_the_sphere() -> None:
    rows = [brick_at(0.0, dec) for dec in np.arange(-90, 90.1, 0.25)]
    area = sum(np.sin(np.radians(b.dec2)) - np.sin(np.radians(b.dec1)) for b in rows)
    assert area == pytest.approx(2.0)


def test_wcs_has_the_brick_centre_between_the_middle_pixels() -> None:
    wcs = brick_wcs(brick_from_name("1238p245"))
    x, y = wcs.all_world2pix(123.887195121951, 24.5, 0)
    assert (float(x), float(y)) == pytest.approx((1799.5, 1799.5), abs=1e-6)


@pytest.mark.parametrize("name", ["1238q245", "12", "1238p246", "9999p000"])
def test_names_that_are_no_brick(name: str) -> None:
    with pytest.raises(BrickNotFound):
        brick_from_name(name)


@pytest.mark.parametrize("brickid", [0, NUMBER_OF_BRICKS + 1])
def test_ids_that_are_no_brick(brickid: int) -> None:
    with pytest.raises(BrickNotFound):
        brick_from_id(brickid)


@pytest.mark.parametrize("position", [(0.0, 90.5), (np.nan, 0.0)])
def test_positions_off_the_sphere(position: tuple[float, float]) -> None:
    with pytest.raises(BrickNotFound):
        brick_at(*position)


def test_survey_table_with_overflowed_brickid_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "survey-bricks-dr9-south.fits.gz"
    table = Table({"brickname": ["1238p245"], "brickid": np.array([-1], np.int16), "nexp_g": [3]})
    table.write(path)
    assert list(read_survey_bricks(path)["brickid"]) == [467899]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptFile):
        read_survey_bricks(path)
    with pytest.raises(StorageError, match="no such table"):
        read_survey_bricks(tmp_path / "none.fits.gz")


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("DERIVED_minibrick_0591m305", ["0591m305"]),
        ("dr6_brick_0959p805", ["0959p805"]),
        ("obiwan_brick_1238p245", ["1238p245"]),
        ("obiwan_brick_1102p240", ["1102p240"]),
        ("catalog_schema_DR8", ["3301m002", "3301m007", "3303p000"]),
        ("psfsize_maps", ["1358p297", "3366m010"]),
        ("misc", []),
    ],
)
def test_real_folders(real_data: Path, folder: str, names: list[str]) -> None:
    assert discover_bricks(real_data / "bricks" / folder) == names


def test_real_survey_table(real_data: Path) -> None:
    table = read_survey_bricks(real_data / "bricks/dr6_brick_0959p805/survey-bricks.fits.gz")
    brick = brick_from_name("0959p805")
    assert table["ra1"][0] == pytest.approx(brick.ra1)
    assert table["brickid"][0] == brick.brickid
