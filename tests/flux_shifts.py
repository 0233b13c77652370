"""How far rounding moves fluxes: apertures and a PSF-weighted sum all over an image."""

import numpy as np
import numpy.typing as npt

PSF_SIGMA = 1.1 / 0.262 / 2.355  # [pixel]
APERTURES = (3.5, 7.0, 14.0)  # radii [pixel]
_SIDE, _STEP = 29, 4  # of the square around a flux, and between two of them [pixel]

Image = npt.NDArray[np.float32]


def largest_flux_shift(image: Image, stored: Image, invvar: Image) -> float:
    """Return the largest change of a flux by rounding, in units of the flux's own error.

    Parameters
    ----------
    image, stored, invvar : ndarray, shape (y, x), float32
        Pixels, the same after rounding, inverse variance. Fluxes over pixels without data, which
        have no error, are left out; 0 where none is left.
    """
    y, x = np.mgrid[:_SIDE, :_SIDE] - _SIDE // 2
    weights = [(np.hypot(y, x) <= radius).ravel().astype(np.float64) for radius in APERTURES]
    weights.append(np.exp(-(y**2 + x**2) / (2 * PSF_SIGMA**2)).ravel())
    weight = np.stack(weights, axis=1)
    change = _squares(stored.astype(np.float64) - image.astype(np.float64))
    weighing = _squares(invvar.astype(np.float64))
    whole = (weighing > 0).all(axis=1)
    error = np.sqrt((1 / weighing[whole]) @ weight**2)
    return float(np.max(np.abs(change[whole] @ weight) / error, initial=0.0))


def _squares(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the pixels around every fourth pixel, shape (place, pixel)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (_SIDE, _SIDE))
    return windows[::_STEP, ::_STEP].reshape(-1, _SIDE * _SIDE)
