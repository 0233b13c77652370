"""Defects of a coadd and the mask bits that flag them: saturation, bleeds, rays, trails.

Flagged pixels keep whatever the defect left in the image, and their inverse variance is 0, as in
the survey's coadds where every exposure is masked.
"""

import numpy as np
from numpy.typing import NDArray

from storage.maskbits import MaskBit
from storage.synthetic.exposures import BandExposures
from storage.synthetic.scene import Scene
from storage.synthetic.sky import STAR_CODE

FloatImage = NDArray[np.float32]
BoolImage = NDArray[np.bool_]

SATURATION = {"g": 26.0, "r": 26.0, "i": 32.0, "z": 42.0}
"""Pixel value [nanomaggies] where DECam saturates: the peak of a star of about 15.5 mag."""
RAYS_PER_MEGAPIXEL = 3.0  # only those left where all exposures but one are masked
TRAIL_PROBABILITY = 0.15  # satellite trails that survive in one band of one brick
TRAIL_HALF_WIDTH = 5.0  # flagged on either side [pixels]
BRIGHT_LIMIT, MEDIUM_LIMIT = 13.0, 16.0  # G magnitudes of the two star masks (DR9 bit masks page)
GALAXY_MASK_MAGNITUDE, GALAXY_MASK_RADIUS = 15.8, 4.5  # stands for the SGA: bright and large


def saturate(image: FloatImage, scene: Scene, exposures: BandExposures) -> BoolImage:
    """Clip the pixels above saturation in place and bleed them along the rows.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32 [nanomaggies]
        One band, noiseless.
    scene : Scene
    exposures : BandExposures

    Returns
    -------
    ndarray, shape (y, x), bool
        Saturated and bleeding pixels.
    """
    band = exposures.band
    level = SATURATION[band]
    flagged = image > level
    index = scene.bands.index(band)
    peak = scene.flux[:, index] * 0.055 / np.maximum(exposures.width, 0.5) ** 2
    for source in np.flatnonzero((scene.sources["code"] == STAR_CODE) & (peak > level)):
        ratio = peak[source] / level
        length = int(min(14 * ratio**0.55, 0.45 * scene.window.size))
        thickness = int(np.clip(1.2 * ratio**0.25, 1, 5))
        _bleed(image, flagged, (scene.y[source], scene.x[source]), (length, thickness))
    image[flagged] = np.minimum(image[flagged], np.float32(level))
    return flagged


def _bleed(
    image: FloatImage, flagged: BoolImage, centre: tuple[float, float], extent: tuple[int, int]
) -> None:
    size = image.shape[0]
    y, x = round(centre[0]), round(centre[1])
    top, bottom = max(y - extent[1], 0), min(y + extent[1] + 1, size)
    left, right = max(x - extent[0], 0), min(x + extent[0] + 1, size)
    if top >= bottom or left >= right:
        return
    distance = np.abs(np.arange(left, right) - x) / max(extent[0], 1)
    trail = np.float32(0.35 * image[flagged].max(initial=1.0)) * (1 - distance) ** 2
    image[top:bottom, left:right] += trail.astype(np.float32)
    flagged[top:bottom, left:right] = True


def strike(rng: np.random.Generator, exposures: BandExposures, rate: float) -> FloatImage:
    """Return what cosmic rays and satellites leave in one band, zero elsewhere.

    Parameters
    ----------
    rng : numpy.random.Generator
    exposures : BandExposures
    rate : float
        `artefact_rate` of SyntheticConfig.

    Returns
    -------
    ndarray, shape (y, x), float32 [nanomaggies]
        Every non-zero pixel is to be flagged.
    """
    size = exposures.nexp.shape[0]
    defects = np.zeros((size, size), dtype=np.float32)
    for _ in range(rng.poisson(RAYS_PER_MEGAPIXEL * rate * size**2 / 1e6)):
        length = rng.exponential(7.0) + 2
        steps = np.arange(0, length, 0.5)
        turn = rng.uniform(0, 2 * np.pi)
        start = rng.uniform(0, size, 2)
        y = np.round(start[0] + steps * np.sin(turn)).astype(int)
        x = np.round(start[1] + steps * np.cos(turn)).astype(int)
        keep = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        energy = exposures.sigma * rng.lognormal(3.6, 0.8)
        defects[y[keep], x[keep]] = energy * rng.uniform(0.5, 1.0, int(keep.sum()))
    if rng.random() < TRAIL_PROBABILITY * rate:
        _trail(rng, defects, exposures.sigma)
    return defects


def _trail(rng: np.random.Generator, defects: FloatImage, sigma: float) -> None:
    """Draw a straight satellite trail, a little variable in brightness."""
    size = defects.shape[0]
    turn = rng.uniform(0, np.pi)
    through = rng.uniform(0.15, 0.85, 2) * size
    axis = np.arange(size, dtype=np.float32)
    across = (axis[:, None] - np.float32(through[0])) * np.float32(np.cos(turn))
    across = across - (axis[None, :] - np.float32(through[1])) * np.float32(np.sin(turn))
    near = np.abs(across) < TRAIL_HALF_WIDTH
    profile = np.exp(-0.5 * (across[near] / np.float32(2.0)) ** 2)
    level = sigma * rng.uniform(2.0, 14.0) * rng.uniform(0.85, 1.15, profile.size)
    defects[near] += (profile * level).astype(np.float32)


def mask_map(scene: Scene, flags: dict[str, tuple[BoolImage, BoolImage]]) -> NDArray[np.int32]:
    """Return the MASKBITS map.

    Parameters
    ----------
    scene : Scene
    flags : dict
        By band: (saturated, struck) pixels, each of shape (y, x), bool.

    Returns
    -------
    ndarray, shape (y, x), int32
    """
    size = scene.window.size
    bits = np.zeros((size, size), dtype=np.int32)
    bits[~scene.window.primary_map()] |= int(MaskBit.NPRIMARY)
    for band, (saturated, struck) in flags.items():
        bits[saturated] |= int(MaskBit[f"SATUR_{band.upper()}"])
        bits[saturated | struck] |= int(MaskBit[f"ALLMASK_{band.upper()}"])
    _mask_sources(bits, scene)
    return bits


def wise_maps(bits: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the WISE mask maps: around bright stars only, W2 over less sky than W1."""
    bright = (bits & int(MaskBit.BRIGHT)) != 0
    return bright.astype(np.uint8), (bright & ((bits & int(MaskBit.SATUR_Z)) != 0)).astype(np.uint8)


def _mask_sources(bits: NDArray[np.int32], scene: Scene) -> None:
    star = scene.sources["code"] == STAR_CODE
    # Gaia's G lies close to r for most stars.
    magnitude = 22.5 - 2.5 * np.log10(np.maximum(scene.sources["flux"][:, 1], 1e-9))
    for index in np.flatnonzero(star & (magnitude < MEDIUM_LIMIT)):
        # DR9: mask radius in pixels of a star of magnitude m (legacysurvey.org, page "bitmasks").
        radius = min(1800.0, 150.0 * 2.5 ** ((11.0 - magnitude[index]) / 3.0))
        centre = (scene.y[index], scene.x[index])
        _or_ellipse(bits, centre, (radius, 1.0, 0.0), MaskBit.MEDIUM)
        if magnitude[index] < BRIGHT_LIMIT:
            _or_ellipse(bits, centre, (0.5 * radius, 1.0, 0.0), MaskBit.BRIGHT)
    rows = scene.sources
    large = (rows["mag_z"] < GALAXY_MASK_MAGNITUDE) & (rows["radius"] > GALAXY_MASK_RADIUS) & ~star
    for index in np.flatnonzero(large):
        row = rows[index]
        shape = (3.0 * float(row["radius"]) / 0.262, float(row["axis_ratio"]), float(row["angle"]))
        _or_ellipse(bits, (scene.y[index], scene.x[index]), shape, MaskBit.GALAXY)


def _or_ellipse(
    bits: NDArray[np.int32],
    centre: tuple[float, float],
    shape: tuple[float, float, float],
    bit: MaskBit,
) -> None:
    """Set a bit in an ellipse of (semi-major axis [pixels], b/a, angle [radian])."""
    size, (radius, ratio, angle) = bits.shape[0], shape
    top, bottom = max(int(centre[0] - radius), 0), min(int(centre[0] + radius) + 2, size)
    left, right = max(int(centre[1] - radius), 0), min(int(centre[1] + radius) + 2, size)
    if top >= bottom or left >= right:
        return
    y = np.arange(top, bottom)[:, None] - centre[0]
    x = np.arange(left, right)[None, :] - centre[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / ratio
    region = bits[top:bottom, left:right]
    region[along**2 + across**2 < radius**2] |= int(bit)
