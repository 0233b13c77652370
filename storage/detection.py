"""Sources of a brick that has no tractor catalogue, found with SExtractor's method (`sep`).

A fallback that must be asked for: positions are isophotal, fluxes are Kron (AUTO) sums over the
coadd of each band, nothing is fitted, blends are split by contrast only and the Galactic
transmission stays unknown. Columns that need a fit are NaN; the type is DETECTED.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sep
import xarray as xr
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.coadds import wcs_of
from storage.cutouts import pixel_to_sky
from storage.errors import StorageError
from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.mask_policy import MASK_POLICIES, MaskPolicy
from storage.schema import catalogue_columns
from storage.tractor import ObjectType


@dataclass(frozen=True)
class DetectionConfig:
    """Settings of the search.

    Parameters
    ----------
    threshold_sigma : float
        Height of a source's pixels above the background, in units of the pixel noise.
    min_area : int
        Connected pixels above it.
    kron_factor : float
        Aperture of the flux in Kron radii; 2.5 is SExtractor's, and holds 94 % of a galaxy.
    """

    threshold_sigma: float = 3.0
    min_area: int = 9
    kron_factor: float = 2.5


def detect_sources(
    coadds: xr.Dataset,
    brick: Brick,
    config: DetectionConfig | None = None,
    policy: MaskPolicy = MASK_POLICIES["legacy"],
) -> pd.DataFrame:
    """Find sources on the inverse-variance weighted mean of the bands.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    brick : Brick
        Decides which sources are primary.
    config : DetectionConfig, optional
    policy : MaskPolicy
        Whose bad pixels are left out.

    Returns
    -------
    DataFrame
        The columns of `storage.tractor.Tractor.table`; objid counts from 0 in order of y, then x.
    """
    config = config or DetectionConfig()
    invvar = coadds["invvar"].to_numpy()
    weight = invvar.sum(axis=0)
    usable = policy.usable(coadds["maskbits"].to_numpy(), weight)
    if not usable.any():
        return _table(coadds, brick, np.zeros(0, dtype=[("x", "f8"), ("y", "f8")]), {})
    total = (coadds["image"].to_numpy() * invvar).sum(axis=0)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    noise = np.ones_like(mean)
    np.divide(1.0, np.sqrt(weight), out=noise, where=weight > 0)
    sources = _extract(mean, noise, ~usable, config)
    sources = sources[np.lexsort((sources["x"], sources["y"]))]
    return _table(coadds, brick, sources, _measure(coadds, mean, sources, config))


def _extract(
    mean: NDArray[np.float32],
    noise: NDArray[np.float32],
    mask: NDArray[np.bool_],
    config: DetectionConfig,
) -> NDArray[Any]:
    try:
        flat = mean - sep.Background(mean, mask=mask).back()
        sources: NDArray[Any] = sep.extract(
            flat, config.threshold_sigma, err=noise, mask=mask, minarea=config.min_area
        )
    except Exception as error:  # sep raises plain Exception for its buffers
        raise StorageError(
            f"source detection failed ({error}); raise threshold_sigma, or give a catalogue"
        ) from error
    good = np.isfinite(sources["x"]) & (sources["a"] > 0) & (sources["b"] > 0)
    return np.asarray(sources[good])


def _measure(
    coadds: xr.Dataset, mean: NDArray[np.float32], sources: NDArray[Any], config: DetectionConfig
) -> dict[str, NDArray[np.float64]]:
    """Return flux, flux_ivar and nobs of each band, half-light radius, ellipticity."""
    ellipse = (sources["a"], sources["b"], sources["theta"])
    at = (sources["x"], sources["y"])
    kron, _ = sep.kron_radius(mean, *at, *ellipse, 6.0)
    # SExtractor's PHOT_AUTOPARAMS: no aperture below 3.5 pixels, or faint sources lose their flux.
    kron = np.maximum(
        config.kron_factor * np.nan_to_num(kron), 3.5 / np.sqrt(ellipse[0] * ellipse[1])
    )
    columns: dict[str, NDArray[np.float64]] = {}
    for index, band in enumerate(str(value) for value in coadds["band"].values):
        invvar = coadds["invvar"].to_numpy()[index]
        noise = 1.0 / np.sqrt(np.where(invvar > 0, invvar, 1.0))
        flux, error, _ = sep.sum_ellipse(
            coadds["image"].to_numpy()[index], *at, *ellipse, kron, err=noise, mask=invvar <= 0
        )
        measured = np.isfinite(flux) & (error > 0)
        columns[f"flux_{band}"] = np.where(measured, flux, np.nan)
        columns[f"flux_ivar_{band}"] = np.where(measured, error, np.inf) ** -2.0
    total, _, _ = sep.sum_ellipse(mean, *at, *ellipse, kron)
    radius, _ = sep.flux_radius(mean, *at, 6.0 * ellipse[0], 0.5, normflux=total)
    columns["shape_r"] = radius * PIXEL_SCALE_ARCSEC
    ratio = ellipse[1] / ellipse[0]
    ellipticity = (1.0 - ratio) / (1.0 + ratio)
    angle = ellipse[2] - np.pi / 2  # position angle from north through east; x runs west
    columns["shape_e1"] = ellipticity * np.cos(2 * angle)
    columns["shape_e2"] = ellipticity * np.sin(2 * angle)
    return columns


def _table(
    coadds: xr.Dataset,
    brick: Brick,
    sources: NDArray[Any],
    measured: dict[str, NDArray[np.float64]],
) -> pd.DataFrame:
    bands = [str(band) for band in coadds["band"].values]
    ra, dec = pixel_to_sky(wcs_of(coadds), sources["y"], sources["x"])
    maskbits = coadds["maskbits"].to_numpy()
    rows, columns = (
        np.clip(np.rint(sources[axis]).astype(int), 0, length - 1)
        for axis, length in zip(("y", "x"), maskbits.shape, strict=True)
    )
    measured = measured | {
        "bx": sources["x"],
        "by": sources["y"],
        "maskbits": maskbits[rows, columns].astype(float),
    }
    if "psfsize" in coadds:
        sizes = dict(zip(bands, coadds["psfsize"].to_numpy(), strict=True))
        measured |= {f"psfsize_{band}": np.full(len(ra), sizes[band]) for band in bands}
    identity = pd.DataFrame(
        {
            "release": np.full(len(ra), coadds.attrs["release_code"], np.int32),
            "brickid": np.full(len(ra), brick.brickid, np.int32),
            "objid": np.arange(len(ra), dtype=np.int64),
            "ra": ra,
            "dec": dec,
            "type": np.full(len(ra), ObjectType.DETECTED, np.uint8),
            "brick_primary": brick.owns(ra, dec),
        }
    )
    values = pd.DataFrame(measured, index=identity.index)
    values = values.reindex(columns=list(catalogue_columns(bands))).astype(np.float32)
    return pd.concat([identity, values], axis=1)
