import numpy as np
import pytest
import xarray as xr
from tiny_bricks import BRICK

from storage.bricks import brick_wcs
from storage.cutouts import sky_to_pixel
from storage.detection import DetectionConfig, detect_sources
from storage.maskbits import MaskBit
from storage.schema import OBJECT_COLUMNS, catalogue_columns
from storage.tractor import ObjectType

SIZE = 256
BANDS = ("g", "z")


@pytest.fixture
def coadds() -> xr.Dataset:
    """Return a field with a round source of 100 nanomaggies and one drawn out along y (north)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIZE, :SIZE]
    round_one = np.exp(-((y - 80) ** 2 + (x - 90.5) ** 2) / (2 * 3.0**2)) / (2 * np.pi * 9)
    long_one = np.exp(-((y - 180) ** 2) / 200 - (x - 160) ** 2 / 18) / (2 * np.pi * 30)
    sky = 100 * (round_one + long_one)
    image = np.stack([sky, 2 * sky]) + rng.normal(0, 0.01, (2, SIZE, SIZE))
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), image.astype(np.float32)),
            "invvar": (("band", "y", "x"), np.full(image.shape, 1e4, np.float32)),
            "maskbits": (("y", "x"), np.zeros((SIZE, SIZE), np.int32)),
            "psfsize": ("band", np.array([1.3, np.nan], np.float32)),
        },
        coords={"band": list(BANDS)},
        attrs={"wcs": brick_wcs(BRICK, SIZE).to_header_string(), "release_code": 9010},
    )


def test_places_fluxes_and_shapes(coadds: xr.Dataset) -> None:
    table = detect_sources(coadds, BRICK)
    y, x = sky_to_pixel(brick_wcs(BRICK, SIZE), table["ra"], table["dec"])
    assert y == pytest.approx([80, 180], abs=0.1)
    assert x == pytest.approx([90.5, 160], abs=0.1)
    assert table["flux_g"].to_numpy() == pytest.approx(100, rel=0.08)
    assert table["flux_z"].to_numpy() == pytest.approx(200, rel=0.08)
    assert (table["flux_ivar_g"] > 0).all()
    assert table["shape_r"][0] == pytest.approx(3.0 * 1.177 * 0.262, rel=0.1)
    assert abs(table["shape_e1"][0]) < 0.05
    assert table["shape_e1"][1] > 0.4  # along north: position angle 0


def test_columns_are_those_of_a_catalogue(coadds: xr.Dataset) -> None:
    table = detect_sources(coadds, BRICK)
    assert list(table) == [*OBJECT_COLUMNS, "brick_primary", *catalogue_columns(BANDS)]
    assert set(table["type"]) == {ObjectType.DETECTED}
    assert table["objid"].tolist() == [0, 1]
    assert set(table["release"]) == {9010}
    assert table["psfsize_g"].tolist() == pytest.approx([1.3, 1.3])
    assert table["mw_transmission_z"].isna().all()


def test_masked_and_empty_pixels_give_no_source(coadds: xr.Dataset) -> None:
    coadds["maskbits"].values[40:120, 40:140] = int(MaskBit.BRIGHT)
    assert len(detect_sources(coadds, BRICK)) == 1
    coadds["invvar"].values[...] = 0
    assert len(detect_sources(coadds, BRICK)) == 0


def test_a_band_without_data_has_no_flux(coadds: xr.Dataset) -> None:
    coadds["image"].values[1] = 0
    coadds["invvar"].values[1] = 0
    table = detect_sources(coadds, BRICK)
    assert len(table) == 2
    assert table["flux_z"].isna().all()
    assert (table["flux_ivar_z"] == 0).all()
    assert table["flux_g"].notna().all()


def test_threshold(coadds: xr.Dataset) -> None:
    assert len(detect_sources(coadds, BRICK, DetectionConfig(threshold_sigma=1000))) == 0
