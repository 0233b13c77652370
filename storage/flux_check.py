"""Fluxes of bright isolated sources summed on the coadds, over those of the catalogue.

A sanity check, not photometry: a circle that holds 9/10 or more of a small source, minus the sky
around it. Whether the ratios are good enough is judged by `storage.consistency`.
"""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import KDTree

from storage.coadds import wcs_of
from storage.cutouts import sky_to_pixel
from storage.maskbits import DEFAULT_BAD_BITS

LEAST_SOURCES = 10  # fewer ratios make no median
_MOST_SOURCES = 60  # of a band, the brightest: 20 ms a brick
_LEAST_SIGMA = 20.0
_LARGEST_RADIUS_ARCSEC = 1.0  # of half the light, or the circle would cut a galaxy
_APERTURE, _SKY = 12, (18, 24)  # [pixel]: 3.1 arcsec, and the ring of the sky
_NEIGHBOURHOOD, _FAINTER = 28.0, 0.1  # [pixel], and what a companion in it may have of the flux


def flux_ratios(coadds: xr.Dataset, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return, by band, summed flux over catalogue flux of bright isolated small sources.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    table : DataFrame
        All objects, from `storage.tractor.read_tractor`.

    Returns
    -------
    dict of str to ndarray, shape (source,), float64
        Sources that saturate, are masked, lack data or have companions are left out.
    """
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    ratios = {}
    for index, band in enumerate(str(value) for value in coadds["band"].values):
        flux = table[f"flux_{band}"].to_numpy(np.float64)
        sources = _bright(table, flux, band)
        sources = sources[_isolated(y, x, flux, sources)]
        pixels = [coadds[name].to_numpy() for name in ("image", "invvar", "maskbits")]
        image, invvar, maskbits = pixels[0][index], pixels[1][index], pixels[2]
        found: list[float] = []
        for source in sources[np.argsort(-flux[sources], kind="stable")]:
            if len(found) == _MOST_SOURCES:
                break
            box = _box(y[source], x[source], maskbits.shape)
            if box is None or (maskbits[box] & int(DEFAULT_BAD_BITS)).any():
                continue
            if (invvar[box] > 0).all():
                found.append(_summed(image[box]) / flux[source])
        ratios[band] = np.array(found, np.float64)
    return ratios


def _bright(table: pd.DataFrame, flux: NDArray[np.float64], band: str) -> NDArray[np.intp]:
    sigma = flux * np.sqrt(table[f"flux_ivar_{band}"].to_numpy(np.float64))
    small = ~(table["shape_r"].to_numpy(np.float64) > _LARGEST_RADIUS_ARCSEC)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(small & (flux > 0) & (sigma > _LEAST_SIGMA))


def _isolated(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    flux: NDArray[np.float64],
    sources: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Tell which sources have no companion that would add to their sum."""
    placed = np.flatnonzero(np.isfinite(y) & np.isfinite(x) & (flux > 0))
    good = np.isin(sources, placed)
    if not good.any():
        return good
    tree = KDTree(np.column_stack([y[placed], x[placed]]))
    at = np.column_stack([y[sources[good]], x[sources[good]]])
    around = tree.query_ball_point(at, _NEIGHBOURHOOD)
    alone = [
        flux[placed[near]].sum() - flux[source] <= _FAINTER * flux[source]
        for source, near in zip(sources[good], around, strict=True)
    ]
    good[good] = alone
    return good


def _box(y: float, x: float, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Return the pixels around a place, or None where they leave the image."""
    row, column = round(y), round(x)
    reach = _SKY[1]
    if min(row, column) < reach or row + reach >= shape[0] or column + reach >= shape[1]:
        return None
    return slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)


def _summed(box: NDArray[np.float32]) -> float:
    reach = _SKY[1]
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    circle = distance <= _APERTURE
    sky = np.median(box[(distance >= _SKY[0]) & (distance <= _SKY[1])])
    return float((box[circle] - sky).sum(dtype=np.float64))
