"""What a Tractor run would have measured: fluxes, shapes and types of the detected sources.

Measurements are the truth plus noise at the local depth; no pixels are fitted. Sources below the
detection limit, and faint ones that hide in a brighter neighbour, get no row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.synthetic.exposures import BandExposures
from storage.synthetic.scene import Scene
from storage.synthetic.sky import STAR_CODE

FloatArray = NDArray[np.float64]

DETECTION_SNR = 6.0  # of the survey's detection maps
CORRELATION = 1.3  # resampled noise: an aperture's error is this much above independent pixels'
FWHM_OVER_SIGMA = 2.355
HIDDEN_RATIO = 6.0  # a source this much fainter than a neighbour it overlaps is not deblended
PAIR_REACH_PIXELS = 60.0
CHUNK = 256


@dataclass(frozen=True)
class Measurements:
    """Measured sources of one brick, in order of objid.

    Parameters
    ----------
    index : ndarray, shape (n,), int64 — row in Scene.sources.
    y, x : ndarray, shape (n,), float64 — measured place [pixels].
    flux, flux_ivar, fracflux : ndarray, shape (n, band), float64
    snr : ndarray, shape (n,), float64 — all bands together.
    type : ndarray, shape (n,), U3
    radius, e1, e2, sersic : ndarray, shape (n,), float64 — as the columns shape_* and sersic.
    blendedness : ndarray, shape (n,), float64
        Share of the light under the source's profile that belongs to others, in the last band.
    """

    index: NDArray[np.int64]
    y: FloatArray
    x: FloatArray
    flux: FloatArray
    flux_ivar: FloatArray
    fracflux: FloatArray
    snr: FloatArray
    type: NDArray[np.str_]
    radius: FloatArray
    e1: FloatArray
    e2: FloatArray
    sersic: FloatArray
    blendedness: FloatArray


def measure_sources(
    scene: Scene, exposures: dict[str, BandExposures], rng: np.random.Generator
) -> Measurements:
    """Measure the detected sources whose centre is on the image.

    Parameters
    ----------
    scene : Scene
    exposures : dict of BandExposures
    rng : numpy.random.Generator
        The brick's own stream: overlapping bricks measure one source twice, differently.
    """
    error = flux_errors(scene, exposures)
    with np.errstate(divide="ignore"):
        ivar = np.where(np.isfinite(error), error**-2.0, 0.0)
    expected = np.sqrt((scene.flux**2 * ivar).sum(axis=1))
    candidates = np.flatnonzero(scene.inside & (expected > DETECTION_SNR))
    share = _contamination(scene, candidates)
    kept = np.flatnonzero(~share[1])
    kept = kept[np.argsort(scene.y[candidates[kept]], kind="stable")]
    found, fracflux = candidates[kept], share[0][kept]
    snr = expected[found]
    flux = np.where(ivar[found] > 0, _measured_flux(scene, found, error[found], rng), 0.0)
    blurred = scene.widths[found].mean(axis=1) / PIXEL_SCALE_ARCSEC / np.maximum(snr, 1.0)
    shapes = _shapes(scene, found, snr, rng)
    return Measurements(
        index=found,
        y=scene.y[found] + rng.normal(size=found.size) * blurred / FWHM_OVER_SIGMA,
        x=scene.x[found] + rng.normal(size=found.size) * blurred / FWHM_OVER_SIGMA,
        flux=flux,
        flux_ivar=ivar[found],
        fracflux=fracflux,
        snr=snr,
        blendedness=fracflux[:, -1] / (1 + fracflux[:, -1]),
        type=shapes[0],
        radius=shapes[1],
        e1=shapes[2],
        e2=shapes[3],
        sersic=shapes[4],
    )


def flux_errors(scene: Scene, exposures: dict[str, BandExposures]) -> FloatArray:
    """Return the flux error of each source in each band [nanomaggies]; inf without data."""
    size = scene.window.size
    y = np.clip(np.rint(scene.y).astype(int), 0, size - 1)
    x = np.clip(np.rint(scene.x).astype(int), 0, size - 1)
    columns = []
    for index, band in enumerate(scene.bands):
        area = effective_area(scene.widths[:, index], scene.sources["radius"].astype(np.float64))
        invvar = exposures[band].invvar[y, x].astype(np.float64)
        with np.errstate(divide="ignore"):
            columns.append(CORRELATION * np.sqrt(area / invvar))
    return np.stack(columns, axis=1)


def effective_area(width: FloatArray, radius: FloatArray) -> FloatArray:
    """Return the noise-equivalent area [pixels] of a profile of `radius` seen with PSF `width`."""
    sigma = np.hypot(width / FWHM_OVER_SIGMA, 0.6 * radius) / PIXEL_SCALE_ARCSEC
    return np.asarray(4 * np.pi * sigma**2, dtype=np.float64)


def _measured_flux(
    scene: Scene, found: NDArray[np.int64], error: FloatArray, rng: np.random.Generator
) -> FloatArray:
    noise = rng.normal(size=error.shape) * np.where(np.isfinite(error), error, 0.0)
    # Models never fit perfectly: 1.5 % for smooth galaxies, more for irregular ones.
    misfit = np.where(scene.sources["code"][found] == 3, 0.05, 0.015)[:, None]
    flux = scene.flux[found] * (1 + misfit * rng.normal(size=error.shape)) + noise
    return np.asarray(flux, dtype=np.float64)


def _contamination(scene: Scene, chosen: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return (neighbours' flux over own under the profile, hidden in a neighbour)."""
    everyone = np.flatnonzero(scene.inside | is_bright(scene))
    y, x = scene.y[everyone], scene.x[everyone]
    spread = _spread(scene, everyone)
    fracflux = np.zeros((chosen.size, len(scene.bands)))
    hidden = np.zeros(chosen.size, dtype=np.bool_)
    for start in range(0, chosen.size, CHUNK):
        rows = chosen[start : start + CHUNK]
        own = _spread(scene, rows)[:, None]
        square = (scene.y[rows, None] - y) ** 2 + (scene.x[rows, None] - x) ** 2
        other = (rows[:, None] != everyone) & (square < PAIR_REACH_PIXELS**2)
        total = own**2 + spread**2
        overlap = np.where(other, 2 * own**2 / total * np.exp(-0.5 * square / total), 0.0)
        for band in range(len(scene.bands)):
            share = overlap @ scene.flux[everyone, band]
            fracflux[start : start + CHUNK, band] = share / scene.flux[rows, band]
        brighter = scene.flux[everyone, -1] > HIDDEN_RATIO * scene.flux[rows, -1][:, None]
        close = square < (1.1 * np.maximum(own, 0.8 * spread)) ** 2
        hidden[start : start + CHUNK] = (other & brighter & close).any(axis=1)
    return fracflux, hidden


def is_bright(scene: Scene) -> NDArray[np.bool_]:
    """Return which sources spill light far from their centre."""
    return np.asarray(scene.sources["mag_z"] < 19.0)


def _spread(scene: Scene, chosen: NDArray[np.int64]) -> FloatArray:
    radius = scene.sources["radius"][chosen].astype(np.float64)
    width = scene.widths[chosen, -1]
    return np.asarray(np.hypot(width / FWHM_OVER_SIGMA, 0.8 * radius) / PIXEL_SCALE_ARCSEC)


def _shapes(
    scene: Scene, found: NDArray[np.int64], snr: FloatArray, rng: np.random.Generator
) -> tuple[NDArray[np.str_], FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return (type, shape_r, e1, e2, sersic) as the model selection by S/N would give them."""
    rows, size = scene.sources[found], found.size
    radius = rows["radius"].astype(np.float64)
    resolved = (radius / scene.widths[found].mean(axis=1)) ** 2 * snr * rng.lognormal(0, 0.3, size)
    ratio = rows["axis_ratio"].astype(np.float64)
    early = rows["bulge_fraction"] > 0.4
    # SER needs a much better fit than EXP or DEV, so only bright and resolved sources get it.
    sersic_wins = (snr * rng.lognormal(0, 0.6, size) > 500) & (resolved > 80)
    kind = np.where(early, "DEV", "EXP")
    kind = np.where(sersic_wins, "SER", kind)
    kind = np.where((resolved < 14) | ((ratio > 0.8) & (resolved < 30)), "REX", kind)
    kind = np.where((resolved < 2.5) | (rows["code"] == STAR_CODE), "PSF", kind)
    scatter = 1.0 / np.maximum(snr, 5.0)
    extended = kind != "PSF"
    measured = radius * np.exp(np.hypot(2.0 * scatter, 0.04) * rng.normal(size=size))
    elongated = extended & (kind != "REX")
    # Tractor's angle runs from north to east: 90 degrees behind the image's +x to +y.
    angle = 2 * (rows["angle"].astype(np.float64) - np.pi / 2)
    modulus = np.clip((1 - ratio) / (1 + ratio) + scatter * rng.normal(size=size), 0.0, 0.95)
    index = np.where(rows["code"] == 0, rows["bulge_index"], 0.9 + 2.5 * rows["bulge_fraction"])
    # Structure that a smooth profile cannot hold pulls the index about, most in odd galaxies.
    scatter_of_index = np.where(rows["code"] == 3, 0.45, 0.22)
    index = np.clip(index * rng.lognormal(0, scatter_of_index), 0.5, 6.0)
    sersic = np.choose(
        np.select([kind == "SER", kind == "DEV", kind == "PSF"], [0, 1, 2], 3),
        [index, np.full(size, 4.0), np.zeros(size), np.ones(size)],
    )
    return (
        kind.astype("U3"),
        np.where(extended, measured, 0.0),
        np.where(elongated, modulus * np.cos(angle), 0.0),
        np.where(elongated, modulus * np.sin(angle), 0.0),
        np.asarray(sersic, dtype=np.float64),
    )
