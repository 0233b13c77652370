import numpy as np
import pytest

from storage.bricks import brick_from_name, brick_wcs
from storage.synthetic import SyntheticConfig
from storage.synthetic.windows import brick_window, chosen_bricks


def test_full_brick_is_the_official_image() -> None:
    brick = brick_from_name("1126p222")
    window = brick_window(brick, 3600)
    assert (window.x0, window.y0) == (0, 0)
    assert window.header()["CRPIX1"] == 1800.5
    np.testing.assert_allclose(window.wcs.wcs.crpix, brick_wcs(brick).wcs.crpix)


@pytest.mark.parametrize("size", [260, 1800])
def test_four_reduced_bricks_overlap_at_their_common_corner(size: int) -> None:
    bricks = chosen_bricks(SyntheticConfig(count=4))
    corner = np.array([bricks[0].ra2]), np.array([bricks[0].dec2])
    for brick in bricks:
        y, x = brick_window(brick, size).pixels(*corner)
        # 82 pixels is the margin that the survey leaves around a primary area.
        for value in (y[0], x[0]):
            assert min(abs(value - 82), abs(value - (size - 82))) < 3
            assert 0 < value < size


def test_reduced_window_is_a_crop_of_the_official_projection() -> None:
    brick = brick_from_name("1501p010")
    window = brick_window(brick, 400)
    ra, dec = window.sky(np.array([17.0]), np.array([250.0]))
    full = brick_window(brick, 3600).pixels(ra, dec)
    np.testing.assert_allclose(
        (full[0][0], full[1][0]), (17 + window.y0, 250 + window.x0), atol=1e-6
    )


def test_more_bricks_keep_the_first_ones() -> None:
    few = chosen_bricks(SyntheticConfig(count=2))
    many = chosen_bricks(SyntheticConfig(count=9))
    assert many[:2] == few
    assert len({brick.brickid for brick in many}) == 9
