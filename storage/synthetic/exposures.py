"""What the pretend telescope did over a brick: seeing, depth, exposures, chip gaps, sky noise.

Each band of each brick has its own random stream, so bricks differ and overlaps are two looks at
one sky. Numbers follow the DR9 pixels of brick 0591m305 and the DECaLS medians.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.synthetic.config import SYNTHETIC_BANDS, SyntheticConfig
from storage.synthetic.windows import Window

FloatImage = NDArray[np.float32]

EXPOSURE_STREAM = 7002  # separates exposures from the sky's stream (sky.py)
SIGMA = {"g": 0.0020, "r": 0.0025, "i": 0.0045, "z": 0.0088}
"""Median pixel noise [nanomaggies]: brick 0591m305 of DR9 has 0.0020, 0.0025, 0.0089 in g, r, z."""
WIDTH = {"g": 1.29, "r": 1.18, "i": 1.13, "z": 1.11}
"""Median PSF width [arcsec] of DECaLS (DR9 description)."""
SOURCE_VARIANCE = {"g": 1.6e-5, "r": 2.2e-5, "i": 3.5e-5, "z": 7.0e-5}
"""Photon noise of sources [nanomaggies]: variance per flux, from the invvar under bright pixels."""
CHIP_COLUMNS, CHIP_ROWS = 4146, 2120  # DECam chip pitch in x and y [pixels]
GAP_COLUMNS, GAP_ROWS = 201, 153  # DECam gaps between chips [pixels]
RESAMPLED_SIGMA = 0.95  # pixel scatter over 1/sqrt(invvar): Lanczos coadds are a little smoother
KERNEL_SIDE, KERNEL_CORNER = 0.085, 0.040
"""3x3 kernel of the noise: neighbours correlate by 0.18, diagonal ones by 0.09, as measured."""


@dataclass(frozen=True)
class BandExposures:
    """One band of one brick.

    Parameters
    ----------
    band : str
    width : float
        PSF width at the image centre [arcsec].
    slope : tuple of float
        Relative change of the width from edge to edge in (y, x).
    sigma : float
        Median pixel noise of the coadd [nanomaggies].
    nexp : ndarray, shape (y, x), int16
        Good exposures; 0 has no data.
    invvar : ndarray, shape (y, x), float32 [1/nanomaggies^2]
        Without the photon noise of sources.
    """

    band: str
    width: float
    slope: tuple[float, float]
    sigma: float
    nexp: NDArray[np.int16]
    invvar: FloatImage

    def width_at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the PSF width [arcsec] at pixels (y, x)."""
        size = self.nexp.shape[0]
        tilt = self.slope[0] * (y / size - 0.5) + self.slope[1] * (x / size - 0.5)
        return np.asarray(self.width * (1 + np.clip(tilt, -0.1, 0.1)), dtype=np.float64)

    def width_map(self) -> FloatImage:
        """Return the psfsize map [arcsec], zero without exposures."""
        axis = np.arange(self.nexp.shape[0], dtype=np.float64)
        width = self.width_at(axis[:, None], axis[None, :])
        return np.where(self.nexp > 0, width, 0.0).astype(np.float32)


def band_generator(config: SyntheticConfig, brick: Brick, band: str) -> np.random.Generator:
    """Return the random stream of one band of one brick, the same in any order of bricks."""
    index = SYNTHETIC_BANDS.index(band)
    return np.random.default_rng([config.seed, brick.brickid, EXPOSURE_STREAM, index])


def expose(
    rng: np.random.Generator, window: Window, band: str, artefact_rate: float
) -> BandExposures:
    """Draw seeing, depth and exposures of one band of a brick.

    Parameters
    ----------
    rng : numpy.random.Generator
        The stream of `band_generator`.
    window : Window
    band : str
    artefact_rate : float
        0 leaves out the strips without any data.
    """
    width = float(WIDTH[band] * np.clip(rng.lognormal(0.0, 0.09), 0.78, 1.35))
    sigma = float(SIGMA[band] * np.clip(rng.lognormal(0.0, 0.13), 0.7, 1.5))
    passes = int(rng.integers(3, 6))
    nexp = np.zeros((window.size, window.size), dtype=np.int16)
    for _ in range(passes):
        nexp += _chip_coverage(rng, window)
    if rng.random() < 0.7 * artefact_rate:
        _cut_strip(rng, nexp)
    depth = nexp.astype(np.float32) / np.float32(passes) / np.float32(sigma) ** 2
    invvar = depth * _depth_texture(rng, window.size)
    return BandExposures(
        band=band,
        width=width,
        slope=(float(rng.normal(0, 0.04)), float(rng.normal(0, 0.04))),
        sigma=sigma,
        nexp=nexp,
        invvar=invvar.astype(np.float32),
    )


def correlated_noise(rng: np.random.Generator, size: int) -> FloatImage:
    """Return unit-variance noise correlated as resampled coadds are, shape (size, size)."""
    white = rng.standard_normal((size + 2, size + 2), dtype=np.float32)
    sides = white[:-2, 1:-1] + white[2:, 1:-1] + white[1:-1, :-2] + white[1:-1, 2:]
    corners = white[:-2, :-2] + white[:-2, 2:] + white[2:, :-2] + white[2:, 2:]
    noise = white[1:-1, 1:-1] + np.float32(KERNEL_SIDE) * sides
    noise += np.float32(KERNEL_CORNER) * corners
    noise /= np.float32(np.sqrt(1 + 4 * KERNEL_SIDE**2 + 4 * KERNEL_CORNER**2))
    return np.asarray(noise, dtype=np.float32)


def _chip_coverage(rng: np.random.Generator, window: Window) -> NDArray[np.int16]:
    """Return 1 where an exposure has a chip and 0 in its gaps, on the window."""
    x = np.arange(window.size) + window.x0 + rng.integers(0, CHIP_COLUMNS)
    y = np.arange(window.size) + window.y0 + rng.integers(0, CHIP_ROWS)
    columns = x % CHIP_COLUMNS >= GAP_COLUMNS
    rows = y % CHIP_ROWS >= GAP_ROWS
    return (rows[:, None] & columns[None, :]).astype(np.int16)


def _cut_strip(rng: np.random.Generator, nexp: NDArray[np.int16]) -> None:
    """Remove every exposure on a strip, where the gaps of all passes fall together."""
    size = nexp.shape[0]
    width = int(rng.integers(8, 16 + size // 60))
    start = int(rng.integers(0, size - width))
    first, last = np.sort(rng.integers(0, size, 2))
    if rng.random() < 0.5:
        nexp[start : start + width, first : last + width] = 0
    else:
        nexp[first : last + width, start : start + width] = 0


def _depth_texture(rng: np.random.Generator, size: int) -> FloatImage:
    """Return the relative depth: waves over the brick, and pixel scatter from resampling."""
    axis = np.linspace(0, 2 * np.pi, size, dtype=np.float32)
    texture = rng.standard_normal((size, size), dtype=np.float32)
    texture *= np.float32(0.045)
    texture += 1
    for _ in range(3):
        wave = rng.normal(0, 2.0, 2).astype(np.float32)
        phase = wave[0] * axis[:, None] + wave[1] * axis[None, :]
        texture += np.float32(0.02) * np.sin(phase + np.float32(rng.uniform(0, 6.28)))
    return np.maximum(texture, np.float32(0.5))
