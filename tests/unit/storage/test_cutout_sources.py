"""Sources are where the cutouts have them, across the borders of bricks too."""

import numpy as np
import pandas as pd
import pytest
from measured_survey import sky_patch

from storage.bricks import brick_wcs
from storage.cutout_sources import SOURCE_COLUMNS, sources_in_cutouts
from storage.cutouts import cutout, pixel_to_sky, sky_to_pixel
from storage.errors import SchemaMismatch
from storage.schema import SurveyLayout

LAYOUT = SurveyLayout(("g", "r", "z"), size=64)
LEFT, RIGHT = sky_patch(2, 1)


def table(brick, y, x, **columns):
    """Return rows of the object table for sources at pixels of a brick."""
    ra, dec = pixel_to_sky(brick_wcs(brick), y, x)
    defaults = {"shape_r": 1.31, "shape_e1": 0.0, "shape_e2": 0.0, "flux_r": 10.0}
    frame = pd.DataFrame({"ra": ra, "dec": dec, "bx": x, "by": y, "brickid": brick.brickid})
    return frame.assign(**(defaults | columns))


def test_neighbours_are_at_the_pixels_that_the_cutout_shows():
    y = np.array([100.3, 110.7, 90.0, 140.0])
    x = np.array([200.6, 215.2, 190.4, 200.0])
    objects = table(LEFT, y, x)
    [found] = sources_in_cutouts(objects, LAYOUT, np.array([0]))
    assert found.shape == (3, len(SOURCE_COLUMNS))  # the fourth is 40 pixels away
    scene = np.zeros((300, 300))
    scene[np.rint(y).astype(int), np.rint(x).astype(int)] = [1, 2, 3, 4]
    shown = cutout(scene, y[0], x[0], LAYOUT.size)
    nearest = np.rint(found[:, :2]).astype(int)
    assert shown[nearest[:, 1], nearest[:, 0]].tolist() == [1, 3, 2]
    first = np.floor([x[0] + 0.5, y[0] + 0.5]) - LAYOUT.size // 2
    np.testing.assert_allclose(found[0, :2], [x[0], y[0]] - first, atol=1e-3)


def test_a_source_of_the_next_brick_is_found_where_it_is():
    y, x = np.array([1000.2]), np.array([3.4])
    at_edge = table(LEFT, y, x)
    beyond = table(LEFT, y + 5.0, x - 12.0)
    by, bx = sky_to_pixel(brick_wcs(RIGHT), beyond["ra"], beyond["dec"])
    objects = pd.concat([at_edge, table(RIGHT, by, bx)], ignore_index=True)
    found = sources_in_cutouts(objects, LAYOUT, np.array([0, 1]))
    apart = found[0, 1, :2] - found[0, 0, :2]
    np.testing.assert_allclose(apart, [-12.0, 5.0], atol=1e-3)
    assert np.isfinite(found[1]).all()  # seen from the other side too


def test_twins_of_two_bricks_are_one_source():
    y, x = np.array([1000.0, 1004.0]), np.array([10.0, 14.0])
    mine = table(LEFT, y, x)
    by, bx = sky_to_pixel(brick_wcs(RIGHT), mine["ra"], mine["dec"])
    twin = table(RIGHT, by[1:] + 0.8, bx[1:])  # 0.2 arcsec off
    objects = pd.concat([mine, twin], ignore_index=True)
    found = sources_in_cutouts(objects, LAYOUT, np.array([0, 2]))
    assert np.isfinite(found[:, :, 0]).sum(axis=1).tolist() == [2, 2]


def test_shapes_are_in_pixels_and_turn_against_the_sky():
    y, x = np.array([50.0, 90.0, 300.0]), np.array([50.0, 50.0, 300.0])
    objects = table(
        LEFT,
        y,
        x,
        shape_r=[2.62, 0.0, 1.0],
        shape_e1=[0.5, 0.0, 0.0],
        shape_e2=[0.0, 0.0, 0.5],
        flux_r=[100.0, -1.0, np.nan],
    )
    found = sources_in_cutouts(objects, LAYOUT, np.array([0, 2, 1]))
    radius, mag, ratio, angle = found[:, 0, 2:].T
    np.testing.assert_allclose(radius, [10.0, 1 / 0.262, 0.0], rtol=1e-5)
    np.testing.assert_allclose(mag, [17.5, 30.0, 30.0])
    np.testing.assert_allclose(ratio, [1 / 3, 1 / 3, 1.0], rtol=1e-5)
    # North-south is along y; e2 > 0 points north-east, which is up and to the left.
    np.testing.assert_allclose(np.degrees(angle), [90.0, 135.0, 0.0], atol=1e-4)


def test_a_pretend_brick_has_another_first_pixel():
    y, x = np.array([100.3, 103.0]), np.array([200.6, 204.0])
    objects = table(LEFT, y, x)
    objects["bx"] -= 1520.5
    objects["by"] -= 60.5
    [found] = sources_in_cutouts(objects, LAYOUT, np.array([0]))
    own = np.array([200.6 - 1520.5, 100.3 - 60.5])
    np.testing.assert_allclose(found[0, :2], own - np.floor(own + 0.5) + 32, atol=1e-3)
    np.testing.assert_allclose(found[1, :2] - found[0, :2], [3.4, 2.7], atol=1e-3)


def test_a_table_without_shapes_is_refused():
    objects = table(LEFT, np.array([5.0]), np.array([5.0]))
    with pytest.raises(SchemaMismatch, match="shape_r"):
        sources_in_cutouts(objects.drop(columns="shape_r"), LAYOUT, np.array([0]))
    with pytest.raises(SchemaMismatch, match="ra"):
        sources_in_cutouts(objects.assign(ra=np.nan), LAYOUT, np.array([0]))
