"""Which part of an official brick a reduced image shows, and its WCS header.

A full brick is the whole 3600-pixel image. A smaller one is a crop whose place depends on the
brick alone (even or odd column and row), so that the bricks of a 2x2 block meet and overlap.
"""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from storage.bricks import Brick, brick_at, brick_from_name, brick_wcs
from storage.cutouts import pixel_to_sky, sky_to_pixel
from storage.legacysurvey import BRICK_SIZE_PIXELS, PIXEL_SCALE_ARCSEC
from storage.synthetic.config import SyntheticConfig

# First brick of the default block: rows near the equator all have 1440 columns, so that the corners
# of four bricks coincide; RA 150 is at high Galactic latitude, where the star counts hold.
DEFAULT_COLUMN, DEFAULT_ROW = 600, 364
DEGREES_PER_BRICK = 0.25


@dataclass(frozen=True)
class Window:
    """The written part of a brick's image.

    Parameters
    ----------
    brick : Brick
    size : int
        Side [pixels].
    x0, y0 : int
        First column and row in the official 3600-pixel image.
    """

    brick: Brick
    size: int
    x0: int
    y0: int

    @property
    def wcs(self) -> WCS:
        """TAN projection of the written image."""
        wcs = brick_wcs(self.brick)
        wcs.wcs.crpix = wcs.wcs.crpix - np.array([self.x0, self.y0])
        wcs.array_shape = (self.size, self.size)
        return wcs

    def pixels(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return zero-based (y, x) of sky positions [deg]."""
        return sky_to_pixel(self.wcs, ra, dec)

    def sky(
        self, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (ra, dec) [deg] of zero-based pixels."""
        return pixel_to_sky(self.wcs, y, x)

    def primary_map(self) -> NDArray[np.bool_]:
        """Return which pixels the brick owns, shape (size, size), bool."""
        y, x = np.indices((self.size, self.size))
        ra, dec = pixel_to_sky(self.wcs, y.ravel(), x.ravel())
        return self.brick.owns(ra, dec).reshape(self.size, self.size)

    def header(self) -> fits.Header:
        """Return the cards that every coadd of the brick has."""
        brick, wcs = self.brick, self.wcs
        step = PIXEL_SCALE_ARCSEC / 3600.0
        cards = [
            ("SURVEY", "Brickyard synthetic", "A pretend survey: nothing here was observed"),
            ("BRICK", brick.brickname, "LegacySurveys brick RRRr[pm]DDd"),
            ("BRICKID", brick.brickid, "LegacySurveys brick id"),
            ("RAMIN", brick.ra1, "Brick RA min (deg)"),
            ("RAMAX", brick.ra2, "Brick RA max (deg)"),
            ("DECMIN", brick.dec1, "Brick Dec min (deg)"),
            ("DECMAX", brick.dec2, "Brick Dec max (deg)"),
            ("CENTRA", brick.ra, "Brick center RA (deg)"),
            ("CENTDEC", brick.dec, "Brick center Dec (deg)"),
            ("BRICK_X0", self.x0, "First column in the official image"),
            ("BRICK_Y0", self.y0, "First row in the official image"),
            ("CTYPE1", "RA---TAN", "TANgent plane"),
            ("CTYPE2", "DEC--TAN", "TANgent plane"),
            ("CRVAL1", brick.ra, "Reference RA"),
            ("CRVAL2", brick.dec, "Reference Dec"),
            ("CRPIX1", float(wcs.wcs.crpix[0]), "Reference x"),
            ("CRPIX2", float(wcs.wcs.crpix[1]), "Reference y"),
            ("CD1_1", -step, "CD matrix"),
            ("CD1_2", 0.0, "CD matrix"),
            ("CD2_1", 0.0, "CD matrix"),
            ("CD2_2", step, "CD matrix"),
            ("EQUINOX", 2000.0, "WCS epoch"),
            ("IMAGEW", float(self.size), "Image width"),
            ("IMAGEH", float(self.size), "Image height"),
        ]
        return fits.Header(cards)


def brick_window(brick: Brick, size: int) -> Window:
    """Return the window of a brick written with `size` pixels a side.

    Even columns keep the high-RA side and even rows the high-Dec side, odd ones the opposite, so a
    brick with even column and row meets its three neighbours towards higher RA and Dec.
    """
    free = BRICK_SIZE_PIXELS - size
    column = round(brick.ra1 / (brick.ra2 - brick.ra1))
    row = round((brick.dec + 90.0) / DEGREES_PER_BRICK)
    # RA grows towards smaller x, Dec towards larger y.
    return Window(brick, size, 0 if column % 2 == 0 else free, free if row % 2 == 0 else 0)


def chosen_bricks(config: SyntheticConfig) -> tuple[Brick, ...]:
    """Return the bricks of a configuration: the named ones, or `count` of adjoining 2x2 blocks."""
    if config.bricks:
        return tuple(brick_from_name(name) for name in config.bricks)
    bricks = []
    for index in range(config.count):
        block, place = divmod(index, 4)
        column = DEFAULT_COLUMN + 2 * block + place % 2
        row = DEFAULT_ROW + place // 2
        bricks.append(brick_at((column + 0.5) * DEGREES_PER_BRICK, row * DEGREES_PER_BRICK - 90.0))
    return tuple(bricks)
