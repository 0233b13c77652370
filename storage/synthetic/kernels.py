"""PSF and profiles in Fourier space: what both renderers convolve with, tabulated by GalSim.

A Moffat PSF per band (its width varies over the brick) times the square pixel. Tables are made
once per width, rounded to 0.02 arcsec, so thousands of sources share them.
"""

from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from storage.legacysurvey import PIXEL_SCALE_ARCSEC

MOFFAT_BETA = 2.5  # of the DECam coadds; GalSim has its transform in closed form, so it is fast
WIDTH_STEP_ARCSEC = 0.02
TABLE_POINTS = 400
MAXIMUM_WAVENUMBER = 40.0  # [1/arcsec]; the pixel grid's own limit is pi / 0.262 = 12, times sqrt 2
PROFILE_RANGE = 120.0  # k times half-light radius at which a profile's transform is cut


def rounded_width(fwhm: float) -> float:
    """Return the PSF width [arcsec] on the grid for which kernels are tabulated."""
    return round(round(fwhm / WIDTH_STEP_ARCSEC) * WIDTH_STEP_ARCSEC, 4)


def moffat(fwhm: float) -> galsim.Moffat:
    """Return the PSF of unit flux with the given full width at half maximum [arcsec]."""
    return galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm)


@lru_cache(maxsize=256)
def psf_table(fwhm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (k [1/arcsec], transform) of the PSF without the pixel."""
    wave = np.linspace(0.0, MAXIMUM_WAVENUMBER, TABLE_POINTS)
    profile = moffat(fwhm)
    return wave, np.array([profile.kValue(k, 0.0).real for k in wave])


@lru_cache(maxsize=16)
def profile_table(sersic_index: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (log(k r), transform) of a Sersic profile of unit flux and half-light radius r."""
    wave = np.geomspace(1e-3, PROFILE_RANGE, TABLE_POINTS)
    profile = galsim.Sersic(sersic_index, half_light_radius=1.0)
    return np.log(wave), np.array([profile.kValue(k, 0.0).real for k in wave])


@lru_cache(maxsize=64)
def convolution_kernel(fwhm: float, size: int, supersample: int) -> NDArray[np.complex64]:
    """Return the half-plane transform of PSF and pixel for a square canvas.

    Parameters
    ----------
    fwhm : float
        PSF width [arcsec], rounded.
    size : int
        Canvas side [canvas pixels].
    supersample : int
        Canvas pixels per image pixel; the pixel's own response is left out where it is above 1,
        because summing the canvas pixels of an image pixel applies it.

    Returns
    -------
    ndarray, shape (size, size // 2 + 1), complex64
    """
    step = PIXEL_SCALE_ARCSEC / supersample
    wave_y = 2 * np.pi * np.fft.fftfreq(size) / step
    wave_x = 2 * np.pi * np.fft.rfftfreq(size) / step
    kernel = np.interp(np.hypot(wave_y[:, None], wave_x[None, :]), *psf_table(fwhm), right=0.0)
    if supersample == 1:
        kernel = kernel * pixel_response(wave_y, wave_x)
    return np.asarray(kernel, dtype=np.complex64)


def profile_transform(
    sersic_index: float,
    shape: tuple[float, float, float],
    canvas: tuple[int, float],
    centre: tuple[float, float],
) -> NDArray[np.complex64]:
    """Return the half-plane transform of a Sersic profile of unit flux, without PSF.

    Parameters
    ----------
    sersic_index : float
    shape : tuple of float
        Half-light radius [arcsec], axis ratio, angle from +x [radian].
    canvas : tuple
        Side [canvas pixels] and canvas pixel [arcsec].
    centre : tuple of float
        (y, x) of the profile [canvas pixels].
    """
    (radius, ratio, angle), (size, step) = shape, canvas
    wave_y = 2 * np.pi * np.fft.fftfreq(size)[:, None] / step
    wave_x = 2 * np.pi * np.fft.rfftfreq(size)[None, :] / step
    major = wave_x * np.cos(angle) + wave_y * np.sin(angle)
    minor = (wave_y * np.cos(angle) - wave_x * np.sin(angle)) * ratio
    scaled = np.log(np.maximum(np.hypot(major, minor) * radius, 1e-4))
    amplitude = np.interp(scaled, *profile_table(sersic_index))
    phase = np.exp(-1j * step * centre[0] * wave_y) * np.exp(-1j * step * centre[1] * wave_x)
    return np.asarray(amplitude * phase, dtype=np.complex64)


def pixel_response(
    wave_y: NDArray[np.floating], wave_x: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return the transform of a square pixel on the outer grid of two wave-number axes."""
    half = PIXEL_SCALE_ARCSEC / (2 * np.pi)
    response = np.sinc(wave_y[:, None] * half) * np.sinc(wave_x[None, :] * half)
    return np.asarray(response, dtype=np.float32)
