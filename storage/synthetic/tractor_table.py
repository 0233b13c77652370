"""The tractor catalogue of a brick with the columns of DR10, from Measurements.

Columns that a pretend survey has nothing to say about (proper motions, WISE light) hold plausible
values or the survey's "missing" ones, so that readers meet the real schema.
"""

from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from storage.legacysurvey import EXTINCTION_COEFFICIENTS, PIXEL_SCALE_ARCSEC
from storage.maskbits import MaskBit
from storage.synthetic.config import SYNTHETIC_BANDS
from storage.synthetic.exposures import BandExposures
from storage.synthetic.measure import (
    FWHM_OVER_SIGMA,
    FloatArray,
    Measurements,
    effective_area,
)
from storage.synthetic.scene import Scene
from storage.synthetic.sky import STAR_CODE

RELEASE_CODE = 10000  # DR10
APERTURES_ARCSEC = np.array([0.5, 0.75, 1.0, 1.5, 2.0, 3.5, 5.0, 7.0])
FIBRE_RADIUS_ARCSEC, FIBRE_SEEING_ARCSEC = 0.75, 1.0  # DESI fibres of 1.5 arcsec in 1 arcsec seeing
GALAXY_DEPTH_RADIUS_ARCSEC = 0.45  # galdepth is for an exponential of this half-light radius
WISE_COLOURS = {"w1": 1.5, "w2": 1.2, "w3": 0.6, "w4": 0.5}  # z flux times this, roughly
WISE_EXTINCTION = {"w1": 0.184, "w2": 0.113, "w3": 0.0241, "w4": 0.00910}
WISE_SIGMA = {"w1": 0.25, "w2": 0.7, "w3": 25.0, "w4": 200.0}  # [nanomaggies, Vega] of unWISE
FITBIT_LARGE_GALAXY = 1 << 9
ANYMASK_SATURATED, ANYMASK_RAY = 1 << 1, 1 << 4
BAND_COLUMNS = (
    "flux", "flux_ivar", "fiberflux", "fibertotflux", "fracflux", "rchisq",
    "fracmasked", "fracin", "psfsize", "psfdepth", "galdepth",
)  # fmt: skip
UNITS = {
    "ra": "deg", "dec": "deg", "ra_ivar": "1/deg^2", "dec_ivar": "1/deg^2", "ebv": "mag",
    "shape_r": "arcsec", "shape_r_ivar": "1/arcsec^2", "bx": "pix", "by": "pix",
}  # fmt: skip
UNIT_OF_PREFIX = {
    "flux_ivar": "1/nanomaggy^2", "apflux_ivar": "1/nanomaggy^2", "psfdepth": "1/nanomaggy^2",
    "galdepth": "1/nanomaggy^2", "psfsize": "arcsec", "flux": "nanomaggy",
    "fiberflux": "nanomaggy", "fibertotflux": "nanomaggy", "apflux": "nanomaggy",
}  # fmt: skip


def tractor_units(names: Sequence[str]) -> dict[str, str]:
    """Return the units of catalogue columns as the survey spells them."""
    units = {name: UNITS.get(name) or UNIT_OF_PREFIX.get(name.rsplit("_", 1)[0]) for name in names}
    return {name: unit for name, unit in units.items() if unit}


def tractor_table(
    scene: Scene,
    measured: Measurements,
    exposures: dict[str, BandExposures],
    bits: NDArray[np.int32],
    rng: np.random.Generator,
) -> Table:
    """Build the catalogue, one row per measured source; objid is the row number.

    Parameters
    ----------
    scene : Scene
    measured : Measurements
    exposures : dict of BandExposures
    bits : ndarray, shape (y, x), int32 — the MASKBITS map.
    rng : numpy.random.Generator
    """
    table = _identity(scene, measured, bits)
    table["dchisq"] = _model_gains(measured, rng)
    _add_reference(table, scene, measured)
    for band in SYNTHETIC_BANDS:
        _add_band(table, band, (scene, measured, exposures, bits), rng)
    _add_wise(table, scene, measured, rng)
    _add_shapes(table, measured)
    return table


def _identity(scene: Scene, measured: Measurements, bits: NDArray[np.int32]) -> Table:
    """Return a table with what says which source a row is, where, and under which mask bits."""
    brick, size = scene.window.brick, measured.index.size
    ra, dec = scene.window.sky(measured.y, measured.x)
    place = _nearest(measured, scene.window.size)
    table = Table()
    table["release"] = np.full(size, RELEASE_CODE, dtype=np.int16)
    table["brickid"] = np.full(size, brick.brickid, dtype=np.int32)
    table["brickname"] = np.full(size, brick.brickname, dtype="S8")
    table["objid"] = np.arange(size, dtype=np.int32)
    true = scene.sources[measured.index]
    # By the true place: two noisy positions could make a source at the border primary in both.
    table["brick_primary"] = brick.owns(true["ra"], true["dec"])
    table["maskbits"] = bits[place]
    galaxy_bit = (bits[place] & int(MaskBit.GALAXY)) != 0
    table["fitbits"] = np.where(galaxy_bit, FITBIT_LARGE_GALAXY, 0).astype(np.int16)
    table["type"] = measured.type.astype("S3")
    table["ra"], table["dec"] = ra, dec
    precision = (measured.snr * 3600 * 2) ** 2 / scene.widths[measured.index].mean(axis=1) ** 2
    table["ra_ivar"] = table["dec_ivar"] = precision.astype(np.float32)
    table["bx"], table["by"] = measured.x.astype(np.float32), measured.y.astype(np.float32)
    table["ebv"] = scene.ebv[measured.index].astype(np.float32)
    table["mjd_min"], table["mjd_max"] = np.full(size, 56600.0), np.full(size, 58900.0)
    return table


def _nearest(measured: Measurements, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    y = np.clip(np.rint(measured.y), 0, size - 1).astype(np.intp)
    return y, np.clip(np.rint(measured.x), 0, size - 1).astype(np.intp)


def _model_gains(measured: Measurements, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return dchisq of PSF, REX, DEV, EXP, SER: growing up to the chosen model."""
    order = ["PSF", "REX", "DEV", "EXP", "SER"]
    gain = (measured.snr**2)[:, None] * np.array([0.94, 0.97, 0.98, 0.98, 0.99])
    chosen = np.array([order.index(kind) if kind in order else 0 for kind in measured.type])
    gain[np.arange(chosen.size), chosen] = measured.snr**2
    return np.asarray(gain * rng.uniform(0.995, 1.0, gain.shape), dtype=np.float32)


def _add_reference(table: Table, scene: Scene, measured: Measurements) -> None:
    """Add the Gaia columns: stars brighter than G = 21 have an entry, others the empty one."""
    rows = scene.sources[measured.index]
    magnitude = 22.5 - 2.5 * np.log10(np.maximum(rows["flux"][:, 1], 1e-9))
    gaia = (rows["code"] == STAR_CODE) & (magnitude < 21)
    table["ref_cat"] = np.where(gaia, "GE", "  ").astype("S2")
    table["ref_id"] = np.where(gaia, rows["source_id"], 0)
    table["ref_epoch"] = np.where(gaia, 2016.0, 0.0).astype(np.float32)
    table["gaia_phot_g_mean_mag"] = np.where(gaia, magnitude, 0.0).astype(np.float32)
    for name in ("pmra", "pmdec", "parallax", "pmra_ivar", "pmdec_ivar", "parallax_ivar"):
        table[name] = np.zeros(rows.size, dtype=np.float32)


def _add_band(
    table: Table,
    band: str,
    survey: tuple[Scene, Measurements, dict[str, BandExposures], NDArray[np.int32]],
    rng: np.random.Generator,
) -> None:
    """Add the columns of one band; a band without images has zeros, as in DR10."""
    scene, measured, exposures, bits = survey
    transmission = 10 ** (-0.4 * EXTINCTION_COEFFICIENTS[band] * scene.ebv[measured.index])
    columns = {f"mw_transmission_{band}": transmission}
    if band in exposures:
        index = scene.bands.index(band)
        columns |= _fluxes(scene, measured, index)
        columns |= _quality(scene, measured, exposures[band], rng)
    else:
        columns |= {f"{name}_{band}": np.zeros(measured.index.size) for name in BAND_COLUMNS}
        blank = np.zeros((measured.index.size, APERTURES_ARCSEC.size))
        columns |= {f"apflux_{band}": blank, f"apflux_ivar_{band}": blank}
    for name, values in columns.items():
        table[name] = np.asarray(values, dtype=np.float32)
    place = _nearest(measured, scene.window.size)
    count = exposures[band].nexp[place] if band in exposures else np.zeros(len(table), np.int16)
    table[f"nobs_{band}"] = table[f"ngood_{band}"] = count
    local = bits[place]
    saturated = (local & int(MaskBit[f"SATUR_{band.upper()}"])) != 0
    masked = (local & int(MaskBit[f"ALLMASK_{band.upper()}"])) != 0
    flags = np.where(saturated, ANYMASK_SATURATED, np.where(masked, ANYMASK_RAY, 0))
    table[f"anymask_{band}"] = table[f"allmask_{band}"] = flags.astype(np.int16)


def _fluxes(scene: Scene, measured: Measurements, index: int) -> dict[str, FloatArray]:
    band = scene.bands[index]
    flux, ivar = measured.flux[:, index], measured.flux_ivar[:, index]
    radius = scene.sources["radius"][measured.index].astype(np.float64)
    total = 1 + measured.fracflux[:, index]
    fibre = flux * _enclosed(FIBRE_RADIUS_ARCSEC, np.full(flux.size, FIBRE_SEEING_ARCSEC), radius)
    width = scene.widths[measured.index, index]
    share = np.stack([_enclosed(size, width, radius) for size in APERTURES_ARCSEC], axis=1)
    pixels = np.pi * (APERTURES_ARCSEC / PIXEL_SCALE_ARCSEC) ** 2
    area = effective_area(width, radius)[:, None]
    return {
        f"flux_{band}": flux,
        f"flux_ivar_{band}": ivar,
        f"fiberflux_{band}": fibre,
        f"fibertotflux_{band}": fibre * total,
        f"apflux_{band}": (flux * total)[:, None] * share,
        f"apflux_ivar_{band}": ivar[:, None] * area / pixels,
        f"fracflux_{band}": measured.fracflux[:, index],
    }


def _enclosed(aperture: float, width: FloatArray, radius: FloatArray) -> FloatArray:
    """Return the share of light in a round aperture, for Gaussian stand-ins of PSF and profile."""
    sigma = np.hypot(width / FWHM_OVER_SIGMA, 0.75 * radius)
    return np.asarray(1 - np.exp(-0.5 * (aperture / sigma) ** 2), dtype=np.float64)


def _quality(
    scene: Scene, measured: Measurements, exposure: BandExposures, rng: np.random.Generator
) -> dict[str, FloatArray]:
    band, size = exposure.band, measured.index.size
    place = _nearest(measured, scene.window.size)
    invvar = exposure.invvar[place].astype(np.float64)
    width = exposure.width_at(measured.y, measured.x)
    seen = invvar > 0
    galaxy = np.full(size, GALAXY_DEPTH_RADIUS_ARCSEC)
    # Bright structured galaxies leave residuals that grow with S/N.
    misfit = 1 + rng.exponential(0.08, size) * (measured.snr / 300) ** 1.2
    edge = np.minimum(place[0], place[1])
    edge = np.minimum(edge, scene.window.size - 1 - np.maximum(place[0], place[1]))
    return {
        f"rchisq_{band}": np.where(seen, misfit * rng.normal(1.0, 0.04, size), 0.0),
        f"fracmasked_{band}": np.where(seen, rng.beta(1, 30, size), 1.0),
        f"fracin_{band}": np.where(seen, np.clip(0.5 + edge / 20.0, 0.5, 1.0), 0.0),
        f"psfsize_{band}": np.where(seen, width, 0.0),
        f"psfdepth_{band}": invvar / effective_area(width, np.zeros(size)),
        f"galdepth_{band}": invvar / effective_area(width, galaxy),
    }


def _add_wise(table: Table, scene: Scene, measured: Measurements, rng: np.random.Generator) -> None:
    brightness = scene.flux[measured.index, -1]
    for band, factor in WISE_COLOURS.items():
        noise = WISE_SIGMA[band] * rng.normal(size=brightness.size)
        table[f"flux_{band}"] = (factor * brightness + noise).astype(np.float32)
        ivar = np.full(brightness.size, WISE_SIGMA[band] ** -2.0, dtype=np.float32)
        table[f"flux_ivar_{band}"] = ivar
        dust = 10 ** (-0.4 * WISE_EXTINCTION[band] * scene.ebv[measured.index])
        table[f"mw_transmission_{band}"] = dust.astype(np.float32)
        table[f"nobs_{band}"] = np.full(brightness.size, 150, dtype=np.int16)
    for band, bit in (("w1", MaskBit.WISEM1), ("w2", MaskBit.WISEM2)):
        flagged = (np.asarray(table["maskbits"]) & int(bit)) != 0
        table[f"wisemask_{band}"] = flagged.astype(np.uint8)


def _add_shapes(table: Table, measured: Measurements) -> None:
    extended = measured.radius > 0
    precision = np.where(extended, (measured.snr / 2) ** 2, 0.0)
    elongated = extended & (measured.type != "REX")
    table["shape_r"] = measured.radius.astype(np.float32)
    relative = precision / np.maximum(measured.radius, 0.01) ** 2
    table["shape_r_ivar"] = np.where(extended, relative, 0.0).astype(np.float32)
    for name, values in (("e1", measured.e1), ("e2", measured.e2)):
        table[f"shape_{name}"] = values.astype(np.float32)
        ivar = np.where(elongated, precision, 0.0).astype(np.float32)
        table[f"shape_{name}_ivar"] = ivar
    table["sersic"] = measured.sersic.astype(np.float32)
    fitted = np.where(measured.type == "SER", precision / 10, 0.0)
    table["sersic_ivar"] = fitted.astype(np.float32)
