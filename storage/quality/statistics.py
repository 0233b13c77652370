"""What is measured of one brick while its pixels are in memory: some numbers that fit into JSON.

The ingest calls `brick_statistics` and keeps the result in the brick's receipt, so that a whole
survey can be checked later without opening an image. Nothing is judged here; see `checks`.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.maskbits import DEFAULT_BAD_BITS, MaskBit, usable_pixels
from storage.photometry import flux_to_mag
from storage.schema import OBJECT_TYPE_NAMES

# Every 12th row and every 5th pixel of it: 216,000 pixels of a 3600 x 3600 brick. A median of them
# is good to 0.3 % of a pixel's noise, and the grid of 3.1 x 1.3 arcsec sees every star halo.
ROW_STRIDE, COLUMN_STRIDE = 12, 5
_SMALL_PIXELS = 250_000  # smaller images, of crops and tests, are measured whole
_LEAST_BLANK = 100  # fewer pixels than that give no background
_LOW_QUANTILE = 0.158655  # one sigma below the median of a normal distribution
_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_DEPTH_SIGMAS = 5.0
_DIGITS = 6  # significant, of what is stored


def brick_statistics(coadds: xr.Dataset, table: pd.DataFrame) -> dict[str, Any]:
    """Measure the pixels and the catalogue of a brick.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`. The attributes ``with_data`` and ``not_finite``, pixels
        by band, are used where they are given; else pixels with data are counted here and those
        that were not finite stay unknown.
    table : DataFrame
        All objects of the brick, as `storage.tractor.read_tractor` returns them: before selection.

    Returns
    -------
    dict
        ``pixels`` (int) of one band; ``sampled`` (int), those measured for all but ``with_data``
        and ``not_finite``; ``objects`` and ``primary`` (int); ``types``, primary objects by type
        name; ``masked``, fraction of pixels by bit name, bits that occur nowhere left out; ``bad``,
        fraction masked by `DEFAULT_BAD_BITS`; ``bands``, for each band a dict of

        * ``with_data``, ``not_finite``: fraction of all pixels;
        * ``psfsize`` [arcsec], FWHM: median at the primary objects, else of the coadds;
        * ``depth`` [AB mag]: 5 sigma for a point source, from the pixels' invvar and ``psfsize``,
          with a Gaussian PSF;
        * ``psfdepth`` [AB mag]: the same, from the catalogue's median at the primary objects;
        * ``background``, ``noise`` [nanomaggy]: median of the unmasked pixels with data, and their
          sigma on the faint side, where no sources are;
        * ``chi``: that sigma in units of what invvar promises; 1 is honest, less is usual since
          resampling correlates the noise of neighbouring pixels.

        None stands for what cannot be measured.
    """
    primary = table[table["brick_primary"].to_numpy(dtype=bool)]
    maskbits = coadds["maskbits"].to_numpy()
    grid = _grid(maskbits.shape)
    mask = np.ascontiguousarray(maskbits[grid])
    bands = [str(band) for band in coadds["band"].values]
    return {
        "pixels": int(maskbits.size),
        "sampled": int(mask.size),
        "objects": len(table),
        "primary": len(primary),
        "types": _types(primary),
        "masked": _masked(mask),
        "bad": _rounded(np.count_nonzero(mask & int(DEFAULT_BAD_BITS)) / mask.size),
        "bands": {
            band: _band(coadds, primary, index, mask, grid) for index, band in enumerate(bands)
        },
    }


def depth_magnitude(psfdepth: float) -> float:
    """Return the 5-sigma depth [AB mag] of an inverse variance of fluxes [1/nanomaggy^2]."""
    if not psfdepth > 0:
        return math.nan
    return float(flux_to_mag(_DEPTH_SIGMAS / math.sqrt(psfdepth)))


def _grid(shape: tuple[int, ...]) -> tuple[slice, slice]:
    if math.prod(shape) <= _SMALL_PIXELS:
        return slice(None), slice(None)
    return slice(ROW_STRIDE // 2, None, ROW_STRIDE), slice(COLUMN_STRIDE // 2, None, COLUMN_STRIDE)


def _types(table: pd.DataFrame) -> dict[str, int]:
    codes = table["type"].to_numpy(dtype=np.int64)
    numbers = np.bincount(codes, minlength=len(OBJECT_TYPE_NAMES)).tolist()
    return {name: count for name, count in zip(OBJECT_TYPE_NAMES, numbers, strict=True) if count}


def _masked(mask: NDArray[np.int32]) -> dict[str, float | None]:
    counts = {str(bit.name): np.count_nonzero(mask & int(bit)) for bit in MaskBit}
    return {name: _rounded(number / mask.size) for name, number in counts.items() if number}


def _band(
    coadds: xr.Dataset,
    table: pd.DataFrame,
    index: int,
    mask: NDArray[np.int32],
    grid: tuple[slice, slice],
) -> dict[str, float | None]:
    band = str(coadds["band"].values[index])
    whole = coadds["invvar"].to_numpy()[index]
    invvar = np.ascontiguousarray(whole[grid])
    image = coadds["image"].to_numpy()[index][grid]
    usable = usable_pixels(mask, invvar)
    width = _psf_width(coadds, table, index)
    with_data = coadds.attrs.get("with_data", {}).get(band)
    if with_data is None:
        with_data = sum(np.count_nonzero(row) for row in whole > 0)
    not_finite = coadds.attrs.get("not_finite", {}).get(band)
    return {
        "with_data": _rounded(with_data / whole.size),
        "not_finite": None if not_finite is None else _rounded(not_finite / whole.size),
        "psfsize": _rounded(width),
        "depth": _rounded(_pixel_depth(invvar[usable], width)),
        "psfdepth": _rounded(depth_magnitude(_median_positive(table, f"psfdepth_{band}"))),
        **_background(np.asarray(image[usable]), invvar[usable]),
    }


def _psf_width(coadds: xr.Dataset, table: pd.DataFrame, index: int) -> float:
    width = _median_positive(table, f"psfsize_{coadds['band'].values[index]}")
    if math.isnan(width) and "psfsize" in coadds:
        return float(coadds["psfsize"].to_numpy()[index])
    return width


def _pixel_depth(invvar: NDArray[np.float32], width: float) -> float:
    """Weigh the typical pixel with the noise-equivalent area of the PSF, 4 pi sigma^2."""
    if len(invvar) < _LEAST_BLANK or not width > 0:
        return math.nan
    sigma_pixels = width / _FWHM_PER_SIGMA / PIXEL_SCALE_ARCSEC
    return depth_magnitude(float(np.median(invvar)) / (4.0 * math.pi * sigma_pixels**2))


def _background(image: NDArray[np.float32], invvar: NDArray[np.float32]) -> dict[str, float | None]:
    if len(image) < _LEAST_BLANK:
        return {"background": None, "noise": None, "chi": None}
    middle, noise = _faint_side(image)
    _, chi = _faint_side((image - np.float32(middle)) * np.sqrt(invvar))
    return {"background": _rounded(middle), "noise": _rounded(noise), "chi": _rounded(chi)}


def _faint_side(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median, and the sigma of what lies below it; sources lie above."""
    low, middle = round(_LOW_QUANTILE * len(values)), len(values) // 2
    ordered = np.partition(values, (low, middle))
    return float(ordered[middle]), float(ordered[middle] - ordered[low])


def _median_positive(table: pd.DataFrame, column: str) -> float:
    values = table[column].to_numpy(dtype=np.float64) if column in table else np.zeros(0)
    values = values[values > 0]
    return float(np.median(values)) if len(values) else math.nan


def _rounded(value: float) -> float | None:
    """Return a number that JSON can hold, or None where there is none."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
