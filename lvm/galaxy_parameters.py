"""The numbers that describe a galaxy, as `downstream.parameters` asks for them, from a catalogue.

What a catalogue did not measure is not known: a flux without exposures, the shape of a point, the
axis ratio of a galaxy that was fitted round, the index of a profile that has it fixed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvm.ellipticity import axis_ratio

Array = np.ndarray[Any, np.dtype[Any]]

ZERO_POINT = 22.5  # magnitude of one nanomaggy
# Magnitudes are asinh magnitudes (Lupton et al. 1999): the usual ones of fluxes well above this one
# [nanomaggy], which is near the error of a coadd, and finite where noise makes a flux negative.
FLUX_SOFTENING = 0.05
# Sérsic indices that a model sets: PSF, EXP and DEV. A fitted one is never exactly that.
SET_INDICES = (0.0, 1.0, 4.0)


@dataclass(frozen=True)
class Parameter:
    """One number asked for.

    Parameters
    ----------
    centre, scale : of the population, roughly; scores are given in units of the scale, so that
        they can be compared between samples and averaged over parameters
    outlier : residual that counts as a blunder
    unit : for axes of figures
    """

    name: str
    centre: float
    scale: float
    outlier: float
    unit: str = ""


SHAPES = (
    Parameter("log_radius", 0.0, 0.3, 0.3, "log10 arcsec"),
    Parameter("axis_ratio", 0.6, 0.25, 0.3),
    Parameter("e1", 0.0, 0.25, 0.3),
    Parameter("e2", 0.0, 0.25, 0.3),
    Parameter("log_sersic", 0.3, 0.3, 0.5, "log10"),
)
REDSHIFT = Parameter("redshift", 0.25, 0.15, 0.15)  # its residuals are those over 1 + z


def parameters_asked(bands: Sequence[str], redshift: bool) -> tuple[Parameter, ...]:
    """Return the parameters in the order of the columns of `catalogue_parameters`."""
    magnitudes = (Parameter(f"mag_{band}", 19.0, 1.5, 0.75, "mag") for band in bands)
    return (*magnitudes, *SHAPES, *((REDSHIFT,) if redshift else ()))


def catalogue_parameters(
    columns: Mapping[str, Array], bands: Sequence[str], redshift: str = ""
) -> Array:
    """Return the parameters (object, parameter) float32 of catalogue columns, NaN where not known.

    Parameters
    ----------
    columns : flux_<band> [nanomaggy] (0: not observed), shape_r [arcsec] (0: a point), shape_e1 and
        shape_e2 (both 0: not fitted), sersic; and the one called `redshift` (0 or less: none)
    redshift : empty: not asked for
    """
    radius, e1, e2, index = (
        np.asarray(columns[name], dtype=np.float64)
        for name in ("shape_r", "shape_e1", "shape_e2", "sersic")
    )
    ratio = axis_ratio(e1, e2)
    fitted = np.isfinite(ratio)
    free = (index > 0) & ~np.isin(index, SET_INDICES)
    found = [
        *(asinh_magnitude(np.asarray(columns[f"flux_{band}"], np.float64)) for band in bands),
        np.log10(np.where(radius > 0, radius, np.nan)),
        ratio,
        np.where(fitted, e1, np.nan),
        np.where(fitted, e2, np.nan),
        np.log10(np.where(free, index, np.nan)),
    ]
    if redshift:
        known = np.asarray(columns[redshift], dtype=np.float64)
        found.append(np.where(known > 0, known, np.nan))
    return np.stack(found, axis=1).astype(np.float32)


def asinh_magnitude(flux: Array) -> Array:
    """Return asinh magnitudes of fluxes [nanomaggy]; NaN for exactly 0, which is not observed."""
    bent = np.arcsinh(flux / (2 * FLUX_SOFTENING)) + math.log(FLUX_SOFTENING)
    return np.where(flux != 0, ZERO_POINT - 2.5 / math.log(10) * bent, np.nan)
