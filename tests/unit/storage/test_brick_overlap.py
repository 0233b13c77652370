import numpy as np
import pytest

from storage.brick_overlap import needed_neighbours
from storage.bricks import brick_at, brick_from_id, brick_wcs, neighbours
from storage.cutouts import first_pixel, pixel_to_sky, sky_to_pixel
from storage.legacysurvey import BRICK_SIZE_PIXELS


def names(dec: float, size: int, primary_only: bool = True) -> set[str]:
    found = needed_neighbours(brick_at(150.3, dec), size, primary_only)
    return {brick.brickname for brick in found}


def test_cutouts_of_the_survey_fit_up_to_dec_74() -> None:
    needing = [dec for dec in np.arange(-89.0, 89.0, 0.25) if names(float(dec), 152)]
    assert min(abs(dec) for dec in needing) == 74.25
    assert names(-74.25, 152) == {"1498m745", "1507m745"}


@pytest.mark.parametrize("dec", [0.0, 30.0, 60.0, -80.0])
def test_large_cutouts_need_every_neighbour(dec: float) -> None:
    every = {brick.brickname for brick in neighbours(brick_at(150.3, dec))}
    assert names(dec, 256) == every


def test_objects_of_the_overlap_always_leave_the_image() -> None:
    assert names(0.0, 152) == set()
    assert len(names(0.0, 152, primary_only=False)) == 8
    assert names(0.0, 1) == set()


@pytest.mark.parametrize("brickid", [331_000, 560_000, 655_000, 1200, 1])
def test_what_a_cutout_lacks_is_owned_by_a_needed_neighbour(brickid: int) -> None:
    brick, rng = brick_from_id(brickid), np.random.default_rng(brickid)
    wcs = brick_wcs(brick)
    needed = needed_neighbours(brick, 200)
    for ra, dec in zip(
        rng.choice([brick.ra1 + 1e-7, brick.ra2 - 1e-7, rng.uniform(brick.ra1, brick.ra2)], 40),
        rng.choice([brick.dec1, brick.dec2, rng.uniform(brick.dec1, brick.dec2)], 40),
        strict=True,
    ):
        y, x = sky_to_pixel(wcs, ra, dec)
        top, left = first_pixel(float(y), float(x), 200)
        rows, columns = (values.ravel() for values in np.mgrid[:200:9, :200:9])
        rows, columns = rows + top, columns + left
        last = BRICK_SIZE_PIXELS - 1
        outside = (rows < 0) | (rows > last) | (columns < 0) | (columns > last)
        sky = pixel_to_sky(wcs, rows[outside], columns[outside])
        owned = np.zeros(outside.sum(), bool)
        for other in needed:
            owned |= other.owns(*sky)
        assert owned.all()
