"""Joint distributions of the pretend sky: magnitudes, redshifts, sizes, colours, classes.

Numbers only, drawn for many galaxies or stars at once; nothing here knows positions or pixels.
The relations are simple fits to well-known ones (each constant says which), chosen so that the
red and the blue sequence are real while the morphology classes overlap in colour.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Galaxies brighter than z [AB mag] per square degree: 3800 at z = 20 (the survey's selection),
# Euclidean 0.6 dex/mag at the bright end flattening to 0.25 at the limit (deep-field counts).
COUNT_MAGNITUDES = np.array(
    [12.5, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.5]
)
COUNT_CUMULATIVE = np.array(
    [0.9, 5.5, 19.0, 66.0, 200.0, 560.0, 1500.0, 3800.0, 8500.0, 17500.0, 33000.0, 75000.0]
)
BRIGHT_LIMIT = 20.0
"""z magnitude [AB] of the survey's default selection; `density` and `bright_tilt` act above it."""

GIANT_LIMIT = 15.0
"""z magnitude [AB] above which galaxies keep their real number, or they would cover everything."""
TILT_LIMIT = 16.5
"""z magnitude [AB] where the tilt is largest; it falls back to nothing at GIANT_LIMIT."""

STAR_MAGNITUDES = np.array([10.5, 13.0, 16.0, 18.0, 20.0, 22.0, 24.5])
STAR_CUMULATIVE = np.array([15.0, 90.0, 440.0, 1100.0, 2300.0, 4200.0, 7600.0])

# Share of elliptical, edge-on, spiral, other: near the volunteers' shares for bright galaxies.
CLASS_FRACTIONS = (0.33, 0.16, 0.35, 0.16)

HUBBLE_DISTANCE_MPC = 4283.0  # c / (70 km/s/Mpc)
OMEGA_MATTER = 0.3
ARCSEC_PER_RADIAN = 206265.0


def draw_magnitudes(
    rng: np.random.Generator, area: float, density: float, tilt: float
) -> FloatArray:
    """Draw z magnitudes of the galaxies in an area of sky.

    Parameters
    ----------
    area : float
        Area [square degree].
    density, tilt : float
        `density` and `bright_tilt` of SyntheticConfig.

    Returns
    -------
    ndarray, shape (n,), float64 [AB mag]
    """
    counts = (COUNT_MAGNITUDES, COUNT_CUMULATIVE)
    dense = draw_from_counts(rng, area * density, counts, tilt)
    real = draw_from_counts(rng, area, counts, 0.0)
    chosen = (dense >= GIANT_LIMIT) & (dense < BRIGHT_LIMIT)
    return np.concatenate([dense[chosen], real[(real < GIANT_LIMIT) | (real >= BRIGHT_LIMIT)]])


def draw_star_magnitudes(rng: np.random.Generator, area: float, density: float) -> FloatArray:
    """Draw z magnitudes [AB] of the stars in `area` square degrees at high Galactic latitude."""
    return draw_from_counts(rng, area * density, (STAR_MAGNITUDES, STAR_CUMULATIVE), 0.0)


def draw_from_counts(
    rng: np.random.Generator, area: float, counts: tuple[FloatArray, FloatArray], tilt: float
) -> FloatArray:
    """Draw a Poisson number of magnitudes from cumulative counts, flattened by `tilt` dex/mag."""
    grid = np.linspace(counts[0][0], counts[0][-1], 1201)
    cumulative = 10 ** np.interp(grid, counts[0], np.log10(counts[1]))
    steps = np.diff(cumulative, prepend=0.0)
    bright = grid < BRIGHT_LIMIT
    rise = np.minimum(BRIGHT_LIMIT - grid, BRIGHT_LIMIT - TILT_LIMIT)
    fall = (grid - GIANT_LIMIT) * (BRIGHT_LIMIT - TILT_LIMIT) / (TILT_LIMIT - GIANT_LIMIT)
    tilted = steps * 10 ** (tilt * np.clip(np.minimum(rise, fall), 0.0, None))
    tilted[bright] *= steps[bright].sum() / tilted[bright].sum()
    total = np.cumsum(tilted)
    number = rng.poisson(total[-1] * area)
    drawn: FloatArray = np.interp(rng.uniform(0.0, total[-1], number), total, grid)
    return drawn


def draw_classes(rng: np.random.Generator, number: int) -> NDArray[np.uint8]:
    """Draw class codes (indices of MORPHOLOGY_CLASSES), shape (number,), uint8."""
    return rng.choice(len(CLASS_FRACTIONS), number, p=CLASS_FRACTIONS).astype(np.uint8)


def draw_redshifts(rng: np.random.Generator, magnitude: FloatArray) -> FloatArray:
    """Draw redshifts: median 0.15 at z = 18 and 0.29 at z = 20, 0.17 dex of scatter."""
    median = 0.09 * 10 ** (0.145 * (magnitude - 16.5))
    return np.clip(median * 10 ** rng.normal(0.0, 0.17, magnitude.size), 0.008, 1.4)


@lru_cache(maxsize=1)
def _distance_table() -> tuple[FloatArray, FloatArray]:
    grid = np.linspace(0.0, 1.5, 601)
    inverse = 1.0 / np.sqrt(OMEGA_MATTER * (1 + grid) ** 3 + 1 - OMEGA_MATTER)
    steps = 0.5 * (inverse[1:] + inverse[:-1]) * np.diff(grid)
    return grid, HUBBLE_DISTANCE_MPC * np.concatenate([[0.0], np.cumsum(steps)])


def absolute_magnitude(magnitude: FloatArray, redshift: FloatArray) -> FloatArray:
    """Return the absolute z magnitude in a flat universe, k-corrected by the bandwidth alone."""
    comoving = np.interp(redshift, *_distance_table())
    luminosity_distance = comoving * (1 + redshift) * 1e5  # units of 10 pc
    corrected = magnitude - 5 * np.log10(luminosity_distance) + 2.5 * np.log10(1 + redshift)
    return np.asarray(corrected, dtype=np.float64)


def draw_radii(
    rng: np.random.Generator, code: NDArray[np.uint8], absolute: FloatArray, redshift: FloatArray
) -> FloatArray:
    """Draw half-light radii from the size-luminosity relations of early and late types.

    Parameters
    ----------
    code : ndarray, shape (n,), uint8 — class codes.
    absolute, redshift : ndarray, shape (n,), float64

    Returns
    -------
    ndarray, shape (n,), float64 [arcsec]
    """
    early = code == 0
    slope = np.where(early, -0.22, -0.13)  # Shen et al. 2003, Figs. 4 and 11
    base = np.where(early, 0.56, 0.74)  # log10 kpc at M_z = -21.5
    log_kpc = base + slope * (absolute + 21.5) - 0.35 * np.log10(1 + redshift)
    log_kpc += rng.normal(0.0, np.where(early, 0.13, 0.16))
    angular = np.interp(redshift, *_distance_table()) / (1 + redshift)
    return np.clip(10**log_kpc / (angular * 1e3) * ARCSEC_PER_RADIAN, 0.12, 14.0)


def draw_axis_ratios(rng: np.random.Generator, code: NDArray[np.uint8]) -> FloatArray:
    """Draw apparent axis ratios b/a by class, shape (n,), float64 in (0, 1]."""
    size = code.size
    options = [
        np.clip(1.0 - np.abs(rng.normal(0.0, 0.24, size)), 0.42, 1.0),
        rng.uniform(0.10, 0.27, size),
        rng.uniform(0.36, 1.0, size),
        rng.uniform(0.42, 1.0, size),
    ]
    return np.asarray(np.choose(code, options), dtype=np.float64)


def draw_redness(
    rng: np.random.Generator, code: NDArray[np.uint8], absolute: FloatArray
) -> FloatArray:
    """Draw the place between blue (0) and red (1) sequence; the classes overlap widely.

    A tenth of the ellipticals are blue, edge-on discs are reddened by dust, mergers may be dry.
    """
    size = code.size
    blue_early = rng.random(size) < 0.14
    early = np.where(blue_early, rng.uniform(0.2, 0.85, size), rng.normal(0.93, 0.07, size))
    dry = rng.random(size) < 0.4
    other = np.where(dry, rng.normal(0.75, 0.18, size), rng.normal(0.25, 0.18, size))
    options = [early, rng.normal(0.62, 0.24, size), rng.normal(0.5, 0.25, size), other]
    redness = np.choose(code, options) - 0.05 * (absolute + 21.0)
    return np.asarray(np.clip(redness, 0.0, 1.05), dtype=np.float64)


def galaxy_colours(redness: FloatArray, redshift: FloatArray) -> FloatArray:
    """Return magnitudes relative to z, bands g, r, i, z, for a place between the sequences.

    Parameters
    ----------
    redness : ndarray, shape (...), float64
        0 blue, 1 red; values beyond extrapolate (young clumps, dusty cores).
    redshift : ndarray, shape (...), float64

    Returns
    -------
    ndarray, shape (..., 4), float64 [mag]
        m_band - m_z.
    """
    # Observed red sequence: g - r = 0.95 at 0.1 and 1.6 at 0.4; r - z = 0.65 at 0.1, 2 at 0.9.
    red_gr = 0.72 + 2.3 * np.minimum(redshift, 0.40)
    red_rz = 0.55 + 0.9 * redshift + 1.3 * np.maximum(redshift - 0.4, 0.0)
    blue_gr = 0.30 + 0.9 * np.minimum(redshift, 0.40)
    blue_rz = 0.16 + 0.5 * redshift
    green = blue_gr + redness * (red_gr - blue_gr)
    reddest = blue_rz + redness * (red_rz - blue_rz)
    return np.stack([green + reddest, reddest, 0.42 * reddest, np.zeros_like(reddest)], axis=-1)


def draw_star_colours(rng: np.random.Generator, magnitude: FloatArray) -> FloatArray:
    """Draw m_band - m_z of stars along the stellar locus, shape (n, 4) for g, r, i, z."""
    dwarf = rng.random(magnitude.size) < np.clip(0.25 + 0.07 * (magnitude - 16.0), 0.15, 0.8)
    hot_gr = np.clip(rng.gamma(4.0, 0.12, magnitude.size) + 0.12, 0.1, 1.3)
    cool_rz = rng.uniform(0.75, 2.0, magnitude.size)
    green = np.where(dwarf, rng.normal(1.48, 0.06, magnitude.size), hot_gr)
    reddest = np.where(dwarf, cool_rz, 0.55 * hot_gr - 0.06)
    reddest = reddest + rng.normal(0.0, 0.03, magnitude.size)
    return np.stack([green + reddest, reddest, 0.4 * reddest, np.zeros_like(reddest)], axis=-1)
