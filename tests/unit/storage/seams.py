"""A field of stars where bricks meet, written as parts of their official images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from tiny_bricks import TinyBrick

from storage.brick_overlap import needed_neighbours
from storage.bricks import Brick, brick_at, brick_wcs
from storage.cutouts import pixel_to_sky, sky_to_pixel
from storage.legacysurvey import BRICK_SIZE_PIXELS
from storage.maskbits import MaskBit

FWHM_ARCSEC = 1.1
SIGMA_PIXELS = FWHM_ARCSEC / 0.262 / 2.3548
INVVAR = 1e4  # noise of 0.01 nanomaggies a pixel
REACH = 260  # pixels of every image around the place


@dataclass
class Seam:
    """Stars around a corner of a brick's primary area."""

    brick: Brick
    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray

    @classmethod
    def at(cls, dec: float, stars: int = 30) -> "Seam":
        rng = np.random.default_rng(5)
        brick = brick_at(150.2, dec)
        corner_y, corner_x = sky_to_pixel(brick_wcs(brick), brick.ra2, brick.dec1)
        y = corner_y + rng.uniform(-100, 100, stars)
        x = corner_x + rng.uniform(-100, 100, stars)
        ra, dec_of = pixel_to_sky(brick_wcs(brick), y, x)
        return cls(brick, ra, dec_of, rng.uniform(5, 100, stars))

    def add(self, ra: float, dec: float, flux: float) -> None:
        self.ra, self.dec = np.append(self.ra, ra), np.append(self.dec, dec)
        self.flux = np.append(self.flux, flux)

    def render(self, wcs: WCS, top: int, left: int, shape: tuple[int, int]) -> np.ndarray:
        """Draw the stars, sampled at the pixels' centres, in any projection."""
        image = np.zeros(shape)
        y, x = sky_to_pixel(wcs, self.ra, self.dec)
        rows, columns = np.arange(shape[0]) + top, np.arange(shape[1]) + left
        for row, column, flux in zip(y, x, self.flux, strict=True):
            across = np.exp(-0.5 * ((columns - column) / SIGMA_PIXELS) ** 2)
            along = np.exp(-0.5 * ((rows - row) / SIGMA_PIXELS) ** 2)
            image += flux / (2 * np.pi * SIGMA_PIXELS**2) * np.outer(along, across)
        return image.astype(np.float32)

    def write(self, root: Path, brick: Brick) -> TinyBrick | None:
        """Write the part of a brick's image around the corner; None where it is not on it."""
        wcs = brick_wcs(brick)
        y, x = sky_to_pixel(wcs, self.brick.ra2, self.brick.dec1)
        top, left = (max(int(place) - REACH, 0) for place in (y, x))
        bottom, right = (min(int(place) + REACH, BRICK_SIZE_PIXELS) for place in (y, x))
        if top >= bottom or left >= right:
            return None
        tiny = TinyBrick(root, brick, bands=("g",), origin=(top, left))
        shape = (bottom - top, right - left)
        tiny.images["g"] = self.render(wcs, top, left, shape)
        tiny.write_coadd("image", "g", tiny.images["g"])
        tiny.write_coadd("invvar", "g", np.full(shape, INVVAR, np.float32))
        rows, columns = np.indices(shape)
        sky = pixel_to_sky(wcs, rows.ravel() + top, columns.ravel() + left)
        other = ~brick.owns(*sky).reshape(shape)
        tiny.write_coadd("maskbits", None, other * np.int32(MaskBit.NPRIMARY))
        return tiny

    def write_all(self, root: Path, size: int) -> TinyBrick:
        """Write the brick and those that its cutouts need; return the brick."""
        for other in needed_neighbours(self.brick, size):
            self.write(root, other)
        written = self.write(root, self.brick)
        assert written is not None
        return written
