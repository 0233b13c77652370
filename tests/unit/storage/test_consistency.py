from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from storage.bricks import brick_from_name, brick_wcs, discover_bricks
from storage.coadd_headers import run_cards
from storage.coadds import read_coadds
from storage.consistency import check_catalogue, compare_catalogue
from storage.cutouts import pixel_to_sky
from storage.errors import IncompleteBrick, InconsistentBrick
from storage.fits_files import read_table_header
from storage.flux_check import LEAST_SOURCES, flux_ratios
from storage.legacysurvey import locate_brick_files
from storage.maskbits import MaskBit
from storage.schema import catalogue_columns
from storage.tractor import read_tractor

BRICK = brick_from_name("1238p245")
SIZE, BANDS, SIGMA = 480, ("g", "z"), 1.8
RUN = {"LEGPIPEV": "DR10.0.1", "RUNDATE": "2022-06-29T17:23:35", "DRVERSIO": 10000}


@pytest.fixture
def table() -> pd.DataFrame:
    """Return stars on a grid, 60 pixels apart, so that none has a companion."""
    y, x = (values.ravel() for values in np.mgrid[35.3:460:60, 35.7:460:60])
    ra, dec = pixel_to_sky(brick_wcs(BRICK, SIZE), y, x)
    values = dict.fromkeys(catalogue_columns(BANDS), np.nan) | {"by": y, "bx": x}
    for number, band in enumerate(BANDS, start=1):
        values[f"flux_{band}"] = number * np.linspace(20, 200, len(y))
        values[f"flux_ivar_{band}"] = 100.0
        values[f"nobs_{band}"] = 3.0
    identity = {"release": 10000, "brickid": BRICK.brickid, "objid": np.arange(len(y)), "type": 0}
    return pd.DataFrame({**identity, "ra": ra, "dec": dec, **values})


@pytest.fixture
def coadds(table: pd.DataFrame) -> xr.Dataset:
    rng = np.random.default_rng(2)
    image = rng.normal(0.02, 0.01, (len(BANDS), SIZE, SIZE))
    rows = np.arange(SIZE)
    for y, x, *fluxes in table[["by", "bx", "flux_g", "flux_z"]].to_numpy():
        along, across = (np.exp(-0.5 * ((rows - place) / SIGMA) ** 2) for place in (y, x))
        star = np.outer(along, across) / (2 * np.pi * SIGMA**2)
        image += np.array(fluxes)[:, np.newaxis, np.newaxis] * star
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), image.astype(np.float32)),
            "invvar": (("band", "y", "x"), np.full(image.shape, 1e4, np.float32)),
            "maskbits": (("y", "x"), np.zeros((SIZE, SIZE), np.int32)),
        },
        coords={"band": list(BANDS)},
        attrs={
            "brickname": BRICK.brickname,
            "wcs": brick_wcs(BRICK, SIZE).to_header_string(),
            "release_code": 10000,
            "cards": run_cards(RUN),
            "missing_bands": [],
        },
    )


def test_a_catalogue_of_the_pixels_has_nothing_to_say(
    coadds: xr.Dataset, table: pd.DataFrame
) -> None:
    assert check_catalogue(coadds, table, RUN) == []
    assert check_catalogue(coadds, table, {}) == []  # sweeps have no such cards
    ratios = flux_ratios(coadds, table)
    assert [len(ratios[band]) for band in BANDS] == [56, 56]  # the last column is too near the edge
    assert np.concatenate(list(ratios.values())) == pytest.approx(1.0, abs=0.05)


def test_the_pixels_clear_headers_of_another_run(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    notes = check_catalogue(coadds, table, RUN | {"RUNDATE": "2023-08-01T00:00:00"})
    assert len(notes) == 1
    assert "run date 2023-08-01" in notes[0]
    assert "the pixels have the fluxes of 112 sources" in notes[0]


def test_headers_of_another_run_alone_are_not_trusted(
    coadds: xr.Dataset, table: pd.DataFrame
) -> None:
    few = table[: LEAST_SOURCES - 1]
    other = RUN | {"LEGPIPEV": "DR10.3.4"}
    with pytest.raises(InconsistentBrick, match="pipeline version DR10.3.4, the coadds' DR10.0.1"):
        check_catalogue(coadds, few, other)
    assert "contradicts the coadds" in check_catalogue(coadds, few, other, "note")[0]


@pytest.mark.parametrize(
    ("card", "value", "message"),
    [
        ("BRICKNAM", "0001p000", "header says brick 0001p000, the coadds' 1238p245"),
        ("BRICK", "1239p245", "header says brick 1239p245"),
    ],
)
def test_another_brick_is_never_right(
    coadds: xr.Dataset, table: pd.DataFrame, card: str, value: str, message: str
) -> None:
    with pytest.raises(InconsistentBrick, match=message):
        check_catalogue(coadds, table, RUN | {card: value})


def test_another_data_release(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    with pytest.raises(InconsistentBrick, match="objects are of DR9, the coadds of DR10"):
        check_catalogue(coadds, table.assign(release=9012), {})
    assert check_catalogue(coadds, table.assign(release=10002), {}) == []  # of the same release
    coadds.attrs["release_code"] = 0  # a header that says nothing
    assert check_catalogue(coadds, table.assign(release=9012), {}) == []


def test_a_stale_header_is_noted_where_the_objects_fit(
    coadds: xr.Dataset, table: pd.DataFrame
) -> None:
    notes = check_catalogue(coadds, table, {"DRVERSIO": 9010})
    assert notes == ["the catalogue's header says release 9010, its objects [10000]; they are kept"]


def test_fluxes_that_the_pixels_do_not_have(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    wrong = table.assign(flux_z=table["flux_z"] * 3)
    with pytest.raises(InconsistentBrick, match=r"band z: the pixels have 0\.33 times the flux"):
        check_catalogue(coadds, wrong, RUN)
    assert check_catalogue(coadds, table.assign(flux_z=table["flux_z"] * 1.2), RUN) == []


def test_sources_where_there_are_none(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    ra, dec = pixel_to_sky(
        brick_wcs(BRICK, SIZE), table["by"].to_numpy() + 30, table["bx"].to_numpy() - 30
    )
    found = compare_catalogue(coadds, table.assign(ra=ra, dec=dec, bx=np.nan, by=np.nan), RUN)
    assert len(found.proof) == 2
    assert "0.00 times the flux" in found.proof[0].replace("-", "")


def test_positions_of_other_pixels(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    notes = check_catalogue(coadds, table.assign(bx=table["bx"] + 7), RUN)
    assert "bx, by are 7.0 pixels" in notes[0]  # as of a part of a brick
    scattered = table.assign(bx=table["bx"].to_numpy()[::-1])
    with pytest.raises(InconsistentBrick, match="pixels from ra, dec.*with a scatter of"):
        check_catalogue(coadds, scattered, RUN)


def test_exposures_where_there_are_no_data(coadds: xr.Dataset, table: pd.DataFrame) -> None:
    half = coadds.copy(deep=True)
    half["invvar"].values[0, : SIZE // 2] = 0
    with pytest.raises(InconsistentBrick, match="band g: 50% of its objects have exposures"):
        check_catalogue(half, table, RUN)
    known = table.assign(nobs_g=np.where(table["by"] < SIZE // 2, 0.0, 3.0))
    assert check_catalogue(half, known, RUN) == []
    with pytest.raises(InconsistentBrick, match="50% have none where they have"):
        check_catalogue(coadds, known, RUN)
    half.attrs["missing_bands"] = ["g"]
    assert check_catalogue(half, table, RUN) == []


def test_a_whole_brick_holds_its_objects(table: pd.DataFrame) -> None:
    plane = np.broadcast_to(np.float32(0), (1, 3600, 3600))
    coadds = xr.Dataset(
        {
            "image": (("band", "y", "x"), plane),
            "invvar": (("band", "y", "x"), plane),
            "maskbits": (("y", "x"), np.broadcast_to(np.int32(0), (3600, 3600))),
        },
        coords={"band": ["g"]},
        attrs={"brickname": BRICK.brickname, "wcs": brick_wcs(BRICK).to_header_string()},
    )
    y, x = np.linspace(10, 3500, len(table)), np.linspace(3500, 10, len(table))
    ra, dec = pixel_to_sky(brick_wcs(BRICK), y, x)
    placed = table.assign(ra=ra, dec=dec, bx=x, by=y, nobs_g=np.nan)
    assert compare_catalogue(coadds, placed, {}).proof == ()
    shifted = compare_catalogue(coadds, placed.assign(bx=x + 7), {}).proof
    assert "bx, by are 7.0 pixels" in shifted[0]
    away = compare_catalogue(coadds, placed.assign(ra=ra + 0.3), {}).proof
    assert "100% of its objects are not on the image" in away[0]


def test_masked_crowded_and_large_sources_are_not_summed(
    coadds: xr.Dataset, table: pd.DataFrame
) -> None:
    coadds["maskbits"].values[:240] = int(MaskBit.SATUR_G)
    assert len(flux_ratios(coadds, table)["g"]) == 28
    coadds["invvar"].values[1, :, :240] = 0
    assert len(flux_ratios(coadds, table)["z"]) == 12
    assert len(flux_ratios(coadds, table.assign(shape_r=3.0))["g"]) == 0
    crowded = pd.concat([table, table.assign(ra=table["ra"] + 2 / 3600)], ignore_index=True)
    assert len(flux_ratios(coadds, crowded)["g"]) == 0


def test_real_catalogues_fit_their_coadds(real_data: Path) -> None:
    checked = 0
    for folder in sorted((real_data / "bricks").glob("obiwan*")):
        for name in discover_bricks(folder):
            files, brick = locate_brick_files(folder, name), brick_from_name(name)
            try:
                coadds = read_coadds(files, brick, ("z",))
            except IncompleteBrick:
                continue
            assert files.tractor is not None
            found = read_tractor(files.tractor, brick, ("z",)).table
            assert check_catalogue(coadds, found, read_table_header(files.tractor)) == []
            checked += 1
    assert checked == 2
