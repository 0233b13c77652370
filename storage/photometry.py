"""Fluxes and magnitudes: nanomaggies inside, AB magnitudes only at the edge."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.legacysurvey import AB_ZERO_POINT


def flux_to_mag(flux: ArrayLike) -> NDArray[np.float64]:
    """Convert flux [nanomaggies] to AB magnitude; NaN where the flux is not positive."""
    values = np.asarray(flux, np.float64)
    positive = np.where(values > 0, values, np.nan)
    mag: NDArray[np.float64] = AB_ZERO_POINT - 2.5 * np.log10(positive)
    return mag


def mag_to_flux(mag: ArrayLike) -> NDArray[np.float64]:
    """Convert AB magnitude to flux [nanomaggies]."""
    flux: NDArray[np.float64] = 10.0 ** (0.4 * (AB_ZERO_POINT - np.asarray(mag, np.float64)))
    return flux


def invvar_to_sigma(invvar: ArrayLike) -> NDArray[np.float64]:
    """Convert inverse variance [1/nanomaggy^2] to noise [nanomaggies]; inf where it is 0."""
    values = np.asarray(invvar, np.float64)
    sigma = np.full(values.shape, np.inf)
    np.divide(1.0, np.sqrt(np.maximum(values, 0.0)), out=sigma, where=values > 0)
    return sigma


def deredden(flux: ArrayLike, mw_transmission: ArrayLike) -> NDArray[np.float64]:
    """Divide flux by the Galactic transmission; NaN where the transmission is not positive."""
    transmission = np.asarray(mw_transmission, np.float64)
    corrected: NDArray[np.float64] = np.asarray(flux, np.float64) / np.where(
        transmission > 0, transmission, np.nan
    )
    return corrected
