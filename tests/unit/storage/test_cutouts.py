from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bricks import BRICK, SIZE, TinyBrick

from storage.bricks import brick_from_id, brick_wcs
from storage.coadds import read_coadds
from storage.cutouts import (
    CutoutConfig,
    Cutouts,
    cutout,
    cutout_objects,
    pixel_to_sky,
    sky_to_pixel,
)
from storage.errors import SchemaMismatch
from storage.legacysurvey import locate_brick_files
from storage.maskbits import MaskBit
from storage.schema import SurveyLayout
from storage.tractor import read_tractor
from storage.validation import validate

BANDS = ("g", "r", "z")


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBrick:
    return TinyBrick(tmp_path).write()


@pytest.fixture
def coadds(tiny: TinyBrick) -> xr.Dataset:
    return read_coadds(locate_brick_files(tiny.root, BRICK.brickname), BRICK, BANDS)


def cut(tiny: TinyBrick, coadds: xr.Dataset, config: CutoutConfig) -> Cutouts:
    path = locate_brick_files(tiny.root, BRICK.brickname).tractor
    return cutout_objects(coadds, read_tractor(path, BRICK, BANDS).table, config)


@settings(max_examples=50)
@given(st.integers(1000, 661_000), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_pixels_are_astropys_with_origin_zero(brickid: int, east: float, north: float) -> None:
    brick = brick_from_id(brickid)
    wcs = brick_wcs(brick)
    ra, dec = brick.ra + east / np.cos(np.radians(brick.dec)), brick.dec + north
    y, x = sky_to_pixel(wcs, ra, dec)
    expected_x, expected_y = wcs.all_world2pix(ra, dec, 0)
    assert (float(y), float(x)) == (float(expected_y), float(expected_x))
    back = pixel_to_sky(wcs, y, x)
    assert (float(back[0]) % 360, float(back[1])) == pytest.approx((ra % 360, dec), abs=1e-8)


def test_the_brick_centre_is_at_half_the_last_pixel() -> None:
    y, x = sky_to_pixel(brick_wcs(BRICK), BRICK.ra, BRICK.dec)
    assert (float(y), float(x)) == pytest.approx((1799.5, 1799.5), abs=1e-6)


@pytest.mark.parametrize("size", [8, 9, 152])
@pytest.mark.parametrize("place", [(60.0, 60.0), (0.0, 0.0), (119.0, 3.4), (59.6, 80.49)])
def test_the_object_is_at_half_the_size(size: int, place: tuple[float, float]) -> None:
    image = np.zeros((2, SIZE, SIZE), np.float32)
    image[:, round(place[0]), round(place[1])] = [1, 2]
    found = cutout(image, *place, size)
    assert found.shape == (2, size, size)
    assert found[:, size // 2, size // 2].tolist() == [1, 2]
    assert np.count_nonzero(found) == 2


def test_outside_is_filled_and_the_result_is_a_copy() -> None:
    image = np.ones((10, 10), np.int32)
    found = cutout(image, 0, 9, 4, fill=7)
    assert found.tolist() == [[7, 7, 7, 7], [7, 7, 7, 7], [1, 1, 1, 7], [1, 1, 1, 7]]
    found[...] = 5
    assert (image == 1).all()
    assert (cutout(image, 500, -500, 4, fill=7) == 7).all()


def test_sources_land_in_the_middle_in_every_band(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    cutouts = cut(tiny, coadds, CutoutConfig(size=20, edge="pad", min_inside=0.1))
    middle = cutouts.dataset["image"].to_numpy()[:, :, 10, 10]
    assert middle.tolist() == [[50, 100, 150], [40, 80, 120], [30, 60, 90]]
    assert cutouts.without == {}
    validate(cutouts.dataset, SurveyLayout(BANDS, size=20))


def test_drop_refuses_what_leaves_the_image(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    cutouts = cut(tiny, coadds, CutoutConfig(size=20))
    assert cutouts.without == {"edge": (12,)}
    assert cutouts.dataset["objid"].values.tolist() == [10, 11]
    assert cut(tiny, coadds, CutoutConfig(size=10)).without == {}  # rows 0 to 9: just inside


def test_pad_says_that_outside_there_is_nothing(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    cutouts = cut(tiny, coadds, CutoutConfig(size=20, edge="pad", min_inside=0.5))
    padded = cutouts.dataset.isel(object=2)
    assert (padded["maskbits"].values[:5] == int(MaskBit.NPRIMARY)).all()
    assert not padded["invvar"].values[:, :5].any()
    assert not padded["image"].values[:, :, :5].any()
    assert (padded["invvar"].values[:, 5:, 5:] > 0).all()
    assert cut(tiny, coadds, CutoutConfig(20, "pad", 0.6)).without == {"edge": (12,)}


def test_objects_without_data_are_refused(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    coadds["invvar"].values[:, 30, 71] = 0
    coadds["invvar"].values[:2, 60, 60] = 0  # one band left
    assert cut(tiny, coadds, CutoutConfig(size=10)).without == {"no_data": (11,)}


def test_objects_far_away_or_nowhere_are_at_the_edge(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    table = tiny.table()
    table["dec"][0] += 1.0
    table["ra"][1] = np.nan
    tiny.write_tractor(table)
    config = CutoutConfig(size=10, edge="pad", min_inside=0.01)
    assert cut(tiny, coadds, config).without == {"edge": (10, 11)}


def test_no_object_gives_an_empty_block(tiny: TinyBrick, coadds: xr.Dataset) -> None:
    tiny.write_tractor(tiny.table()[:0])
    dataset = cut(tiny, coadds, CutoutConfig(size=10)).dataset
    validate(dataset, SurveyLayout(BANDS, size=10))
    assert dataset.sizes["object"] == 0


@pytest.mark.parametrize("options", [{"size": 0}, {"edge": "wrap"}, {"min_inside": 0.0}])
def test_rules_that_make_no_sense(options: dict) -> None:
    with pytest.raises(SchemaMismatch):
        CutoutConfig(**options)
