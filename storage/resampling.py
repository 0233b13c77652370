"""Pixels of a coadd at places between its pixels: a spline for flux, the nearest for the rest.

A hole (invvar 0 in a band) is filled from its nearest pixels with data before the spline is made,
or the step at its edge would ring; the places in the hole themselves stay without data.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from storage.maskbits import MaskBit

#: Pixels that the coefficients of a spline reach: each adds 0.43 of the one before, 24 add 2e-9.
SPLINE_REACH = 24
_SAME_PIXEL = 1e-4  # farthest from a pixel's centre that counts as there
_ORDER = 5


@dataclass(frozen=True)
class Resampled:
    """Pixels at asked places: image, invvar (band, place) float32; maskbits (place,) int32."""

    image: NDArray[np.float32]
    invvar: NDArray[np.float32]
    maskbits: NDArray[np.int32]


class Section:
    """A part of a coadd that is asked for its pixels at many places.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    top, left : int
        Row and column of its first pixel in the whole image.
    """

    def __init__(self, coadds: xr.Dataset, top: int, left: int) -> None:
        self.image = coadds["image"].to_numpy()
        self.invvar = coadds["invvar"].to_numpy()
        self.maskbits = coadds["maskbits"].to_numpy()
        self.top, self.left = top, left
        self._splines: list[NDArray[np.float64]] = []

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> Resampled:
        """Return the pixels at places of the whole image; those outside the part are its edge's.

        Parameters
        ----------
        y, x : ndarray, shape (place,)
            Zero-based positions [pixel] in the whole image.
        """
        y, x = y - self.top, x - self.left
        rows, columns = (
            np.clip(np.floor(position + 0.5), 0, length - 1).astype(np.intp)
            for position, length in zip((y, x), self.maskbits.shape, strict=True)
        )
        invvar = self.invvar[:, rows, columns]
        image = self.image[:, rows, columns]
        if max(np.abs(y - rows).max(), np.abs(x - columns).max()) > _SAME_PIXEL:
            image = self._interpolate(y, x)
            image[invvar == 0] = 0
        maskbits = self.maskbits[rows, columns] | np.int32(MaskBit.NPRIMARY)
        return Resampled(image, invvar, maskbits)

    def _interpolate(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float32]:
        if not self._splines:
            self._splines = [
                ndimage.spline_filter(_without_holes(image, invvar), _ORDER)
                for image, invvar in zip(self.image, self.invvar, strict=True)
            ]
        values = [
            ndimage.map_coordinates(spline, (y, x), order=_ORDER, prefilter=False, mode="mirror")
            for spline in self._splines
        ]
        return np.array(values, np.float32)


def _without_holes(image: NDArray[np.float32], invvar: NDArray[np.float32]) -> NDArray[np.float32]:
    holes = invvar == 0
    if not holes.any() or holes.all():
        return image
    nearest = ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
    filled: NDArray[np.float32] = image[tuple(nearest)]
    return filled
