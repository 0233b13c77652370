"""Which neighbours a brick's cutouts may need pixels of; geometry alone, no file is looked at.

A coadd reaches 66 to 82 pixels beyond the brick's primary area, the less the nearer the pole. So
152-pixel cutouts of primary objects stay inside it up to |Dec| 74, and larger ones leave it
everywhere.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from storage.bricks import BRICK_SIZE_DEG, Brick, brick_at, brick_wcs
from storage.cutouts import pixel_to_sky, sky_to_pixel
from storage.legacysurvey import BRICK_SIZE_PIXELS

_ALONG_AN_EDGE = 17  # where objects are imagined; 200 pixels apart on an edge of a primary area
_ACROSS_A_CUTOUT = 5
_ROWS_OF_THE_SKY = 721
_REFERENCE_RA = 180.0  # all bricks of a row are alike; here none of them crosses RA 0


def needed_neighbours(brick: Brick, size: int, primary_only: bool = True) -> tuple[Brick, ...]:
    """Return the bricks whose coadds the cutouts of a brick may need.

    Parameters
    ----------
    brick : Brick
    size : int
        Side of the cutouts [pixel].
    primary_only : bool
        Objects are in the brick's primary area; else they may be anywhere on its image.

    Returns
    -------
    tuple of Brick
        In order of BRICKID; empty where no cutout can leave the image.
    """
    found: dict[int, Brick] = {}
    for row_dec, offsets in _missing_sky(
        brick.dec, round(brick.ra2 - brick.ra1, 6), size, primary_only
    ):
        one = brick_at(brick.ra, row_dec)
        width = one.ra2 - one.ra1
        for column in np.unique(np.mod(brick.ra + offsets, 360.0) // width):
            other = brick_at((float(column) + 0.5) * width, row_dec)
            found[other.brickid] = other
    found.pop(brick.brickid, None)
    return tuple(found[brickid] for brickid in sorted(found))


@lru_cache(maxsize=4 * _ROWS_OF_THE_SKY)
def _missing_sky(
    dec: float, width: float, size: int, primary_only: bool
) -> tuple[tuple[float, NDArray[np.float64]], ...]:
    """Return where cutouts of a row of bricks leave their images.

    That is, for each row of bricks that has such sky, its Dec and offsets in RA from the centre of
    the brick that they leave [deg].
    """
    half = width / 2
    brick = Brick(
        brickname="",
        brickid=0,
        ra=_REFERENCE_RA,
        dec=dec,
        ra1=_REFERENCE_RA - half,
        ra2=_REFERENCE_RA + half,
        dec1=max(dec - BRICK_SIZE_DEG / 2, -90.0),
        dec2=min(dec + BRICK_SIZE_DEG / 2, 90.0),
    )
    wcs = brick_wcs(brick)
    if primary_only:
        edge_ra, edge_dec = _outline(brick.ra1, brick.ra2, brick.dec1, brick.dec2)
        y, x = sky_to_pixel(wcs, edge_ra, edge_dec)
    else:
        x, y = _outline(0, BRICK_SIZE_PIXELS - 1, 0, BRICK_SIZE_PIXELS - 1)
    offsets = np.linspace(-(size // 2), size - 1 - size // 2, _ACROSS_A_CUTOUT)
    offsets += np.sign(offsets) * 0.5  # either way: the cutout is cut around the nearest pixel
    rows = (y[:, np.newaxis, np.newaxis] + offsets[:, np.newaxis] + 0 * offsets).ravel()
    columns = (x[:, np.newaxis, np.newaxis] + offsets + 0 * offsets[:, np.newaxis]).ravel()
    # So a whole pixel is missing where a place is more than one pixel off the outermost centre.
    low, high = -1.0, float(BRICK_SIZE_PIXELS)
    outside = (rows < low) | (rows >= high) | (columns < low) | (columns >= high)
    missing_ra, missing_dec = pixel_to_sky(wcs, rows[outside], columns[outside])
    row = np.floor((missing_dec + 90.0) / BRICK_SIZE_DEG + 0.5)
    return tuple(
        (float(number) * BRICK_SIZE_DEG - 90.0, missing_ra[row == number] - _REFERENCE_RA)
        for number in np.unique(row)
    )


def _outline(
    low_x: float, high_x: float, low_y: float, high_y: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (x, y) of points on the outline of a box."""
    x = np.linspace(low_x, high_x, _ALONG_AN_EDGE)
    y = np.linspace(low_y, high_y, _ALONG_AN_EDGE)
    return (
        np.concatenate([x, x, np.full_like(y, low_x), np.full_like(y, high_x)]),
        np.concatenate([np.full_like(x, low_y), np.full_like(x, high_y), y, y]),
    )
