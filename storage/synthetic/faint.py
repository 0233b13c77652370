"""Faint galaxies and stars by the thousand: one inverse FFT per stamp, from tabulated transforms.

A profile of elliptical isophotes is its radial transform at a sheared wave number; PSF and pixel
multiply it. Bulge and disc are added before the inverse transform. Bright or structured sources
go through stamps.py instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.synthetic.kernels import pixel_response, profile_table, psf_table

FloatImage = NDArray[np.float32]

CHUNK = 256
DISC_INDEX, BULGE_INDEX = 1.0, 3.5  # one pair of tables for all faint galaxies


@dataclass(frozen=True)
class FaintSources:
    """Faint sources in one band of one brick; every array has shape (n,).

    Parameters
    ----------
    y, x : ndarray, float64 — zero-based place [pixels].
    flux : ndarray, float64 [nanomaggies]
    width : ndarray, float64 — PSF width [arcsec], rounded by kernels.rounded_width.
    radius, axis_ratio, angle, bulge_fraction : ndarray, float64
        As in SOURCE_DTYPE; radius 0 is a star.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux: NDArray[np.float64]
    width: NDArray[np.float64]
    radius: NDArray[np.float64]
    axis_ratio: NDArray[np.float64]
    angle: NDArray[np.float64]
    bulge_fraction: NDArray[np.float64]


def faint_stamps(sources: FaintSources, size: int) -> Iterator[tuple[FloatImage, int, int]]:
    """Yield (stamp of size x size, y0, x0) for every source.

    Parameters
    ----------
    sources : FaintSources
    size : int
        Stamp side [pixels], even; the caller groups sources by size.
    """
    wave_y = (2 * np.pi * np.fft.fftfreq(size) / PIXEL_SCALE_ARCSEC).astype(np.float32)
    wave_x = (2 * np.pi * np.fft.rfftfreq(size) / PIXEL_SCALE_ARCSEC).astype(np.float32)
    pixel = pixel_response(wave_y, wave_x)
    length = np.hypot(wave_y[:, None], wave_x[None, :])
    for width in np.unique(sources.width):
        seen = pixel * np.interp(length, *psf_table(float(width)), right=0.0).astype(np.float32)
        members = np.flatnonzero(sources.width == width)
        for start in range(0, members.size, CHUNK):
            chosen = members[start : start + CHUNK]
            yield from _draw(sources, chosen, (wave_y, wave_x), seen)


def _draw(
    sources: FaintSources,
    chosen: NDArray[np.intp],
    waves: tuple[NDArray[np.float32], NDArray[np.float32]],
    seen: FloatImage,
) -> Iterator[tuple[FloatImage, int, int]]:
    size = waves[0].size
    y0 = np.floor(sources.y[chosen]).astype(int) - size // 2
    x0 = np.floor(sources.x[chosen]).astype(int) - size // 2
    shift_y = (sources.y[chosen] - y0) * PIXEL_SCALE_ARCSEC
    shift_x = (sources.x[chosen] - x0) * PIXEL_SCALE_ARCSEC
    # The phase separates in y and x: two small exponentials instead of one per wave number.
    phase_y = np.exp(-1j * shift_y[:, None] * waves[0]).astype(np.complex64)
    phase_x = np.exp(-1j * shift_x[:, None] * waves[1]).astype(np.complex64)
    transform = _profiles(sources, chosen, waves) * seen
    transform *= sources.flux[chosen].astype(np.float32)[:, None, None]
    stamps = np.fft.irfft2(
        transform * phase_y[:, :, None] * phase_x[:, None, :], s=(size, size), axes=(1, 2)
    )
    yield from zip(stamps, y0.tolist(), x0.tolist(), strict=True)


def _profiles(
    sources: FaintSources,
    chosen: NDArray[np.intp],
    waves: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> FloatImage:
    """Return the unit-flux transform of each source before the PSF, shape (n, y, x)."""
    radius = sources.radius[chosen].astype(np.float32)[:, None, None]
    ratio = sources.axis_ratio[chosen].astype(np.float32)[:, None, None]
    angle = sources.angle[chosen].astype(np.float32)[:, None, None]
    wave_y, wave_x = waves[0][None, :, None], waves[1][None, None, :]
    major = wave_x * np.cos(angle) + wave_y * np.sin(angle)
    minor = (wave_y * np.cos(angle) - wave_x * np.sin(angle)) * ratio
    scaled = np.log(np.maximum(np.hypot(major, minor) * radius, np.float32(1e-4)))
    share = sources.bulge_fraction[chosen].astype(np.float32)[:, None, None]
    disc = np.interp(scaled, *profile_table(DISC_INDEX))
    total = disc * (1 - share)
    if share.max() > 0:
        total += share * np.interp(scaled, *profile_table(BULGE_INDEX))
    return np.asarray(total, dtype=np.float32)
