"""Pictures whose truth is known: of the pretend sky, and of galaxies that Hubble saw.

Both come as batches with `target_map`, a picture without noise at a PSF of 0.7 arcsec, and with the
survey's inverse variance; making them worse is `lvm.degradation`'s.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits

from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.synthetic import SyntheticConfig
from storage.synthetic.brick import prepare_brick
from storage.synthetic.exposures import SIGMA, SOURCE_VARIANCE
from storage.synthetic.scene import render_scene
from storage.synthetic.sky import STAR_CODE
from storage.synthetic.windows import chosen_bricks

SIZE = 104  # pixels: the network's 80, and room for the filters
SHARP_FWHM = 0.7  # arcsec: 2.7 pixels, the sharpest PSF that the survey's pixels can hold
FAINTEST = 20.0  # z magnitude of galaxies that are restored: what the survey cycle works on
BANDS = ("g", "r", "z")
HUBBLE_SCALE, HUBBLE_FWHM = 0.03, 0.1  # arcsec: pixel and PSF of the stamps
NEARER = 3.0  # stamps of 1 to 3 arcsec are enlarged so that a galaxy covers tens of survey pixels
LARGE_GALAXY = "galsim_147246/147246.0_150.416558_1.998697_masknoise.fits"  # 16 arcsec wide
# r magnitudes at which Hubble's own noise is 0.3 to 0.8 of the survey's in a survey pixel.
STAMP_MAGNITUDES, LARGE_MAGNITUDE = (21.5, 22.5), 20.0
COLOURS = (0.9, 0.0, -0.6)  # g - r, r - r, z - r of a typical galaxy: the stamps have one band


@dataclass(frozen=True)
class SkyConfig:
    """Size of a pretend survey whose galaxies are restored."""

    count: int
    brick_size: int
    seed: int


def pretend_pictures(config: SkyConfig) -> dict[str, np.ndarray]:
    """Return galaxies of a pretend survey, brighter than `FAINTEST`, with their neighbours."""
    sky = SyntheticConfig(
        count=config.count,
        brick_size=config.brick_size,
        density=8.0,
        bright_tilt=0.2,
        seed=config.seed,
        artefact_rate=0.0,
    )
    parts = [_brick_pictures(sky, brick.brickname) for brick in chosen_bricks(sky)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _brick_pictures(sky: SyntheticConfig, brickname: str) -> dict[str, np.ndarray]:
    prepared = prepare_brick(sky, brickname)
    scene, measured = prepared.scene, prepared.measured
    survey = render_scene(scene, prepared.exposures)
    sharp = replace(scene, widths=np.full_like(scene.widths, SHARP_FWHM))
    truth = render_scene(sharp, prepared.exposures)
    invvar = np.stack(
        [
            _with_photons(prepared.exposures[band].invvar, survey[index], band)
            for index, band in enumerate(sky.bands)
        ]
    )
    rows = scene.sources[measured.index]
    galaxy = (rows["code"] != STAR_CODE) & (rows["mag_z"] < FAINTEST)
    y, x = np.rint(measured.y).astype(int), np.rint(measured.x).astype(int)
    half = SIZE // 2
    inside = (np.minimum(y, x) >= half) & (np.maximum(y, x) <= sky.brick_size - half)
    places = [(y[at] - half, x[at] - half) for at in np.flatnonzero(galaxy & inside)]
    return _batch(
        np.stack([truth[:, top : top + SIZE, left : left + SIZE] for top, left in places]),
        np.stack([invvar[:, top : top + SIZE, left : left + SIZE] for top, left in places]),
    )


def hubble_pictures(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Return the COSMOS galaxies of a folder as the survey would see them, if they were near.

    The pictures in g and z are those in F814W with other fluxes. The stamps carry noise of their
    own, which no method can know: magnitudes are chosen so that it stays below the survey's.
    """
    rng = np.random.default_rng(seed)
    with fits.open(folder / "real_galaxy_images_extension_dev20.fits") as stamps:
        found = [np.asarray(stamp.data, dtype=np.float64) for stamp in stamps[1:]]
    large = np.asarray(fits.getdata(folder / LARGE_GALAXY), dtype=np.float64)
    pictures = [_hubble_picture(one, rng.uniform(*STAMP_MAGNITUDES), NEARER) for one in found]
    truth = np.stack([*pictures, _hubble_picture(large, LARGE_MAGNITUDE, 1.0)])
    survey = np.stack([np.full(truth.shape[2:], SIGMA[band] ** -2.0) for band in BANDS])
    invvar = np.stack(
        [
            np.stack([_with_photons(survey[i], one[i], band) for i, band in enumerate(BANDS)])
            for one in truth
        ]
    )
    return _batch(truth, invvar)


def _hubble_picture(stamp: np.ndarray, magnitude: float, nearer: float) -> np.ndarray:
    """Return (band, y, x) [nanomaggies] of a stamp at the survey's pixels and the sharp PSF."""
    light = (stamp - np.median(_border(stamp))) * _taper(stamp.shape)
    galaxy = galsim.InterpolatedImage(galsim.Image(light, scale=HUBBLE_SCALE * nearer))
    missing = galsim.Gaussian(fwhm=np.sqrt(SHARP_FWHM**2 - (HUBBLE_FWHM * nearer) ** 2))
    seen = galsim.Convolve(galaxy, missing).drawImage(
        nx=SIZE, ny=SIZE, scale=PIXEL_SCALE_ARCSEC, method="no_pixel", offset=(0.5, 0.5)
    )
    share = seen.array / seen.array.sum()
    flux = [10.0 ** (-0.4 * (magnitude + colour - 22.5)) for colour in COLOURS]
    return np.stack([share * one for one in flux]).astype(np.float32)


def _border(stamp: np.ndarray) -> np.ndarray:
    return np.concatenate([stamp[0], stamp[-1], stamp[:, 0], stamp[:, -1]])


def _taper(shape: tuple[int, ...]) -> np.ndarray:
    """Return a window that falls to 0 over the outer fifth of a stamp, whose border is no edge."""
    y, x = (np.abs(np.linspace(-1.0, 1.0, side)) for side in shape)
    radius = np.maximum(y[:, None], x)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((radius - 0.8) / 0.2, 0.0, 1.0))


def _with_photons(invvar: np.ndarray, image: np.ndarray, band: str) -> np.ndarray:
    """Return inverse variances with the photon noise of sources, 0 where there was no exposure."""
    photons = SOURCE_VARIANCE[band] * np.maximum(image, 0.0)
    return np.where(invvar > 0, 1.0 / (1.0 / np.maximum(invvar, 1e-30) + photons), 0.0)


def _batch(truth: np.ndarray, invvar: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "image": truth.astype(np.float32),
        "invvar": invvar.astype(np.float32),
        "target_map": truth.astype(np.float32),
    }
