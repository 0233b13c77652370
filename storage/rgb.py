"""Pictures for people, in the colours of the Legacy Survey's own viewer. Never network input."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.errors import SchemaMismatch
from storage.legacysurvey import RGB_SCALES

_SOFTENING = 20.0  # Q of dr2_rgb
_OFFSET = 0.03  # m of dr2_rgb: lifts the sky off black
#: Which bands make red, green and blue (legacypipe, sdss_rgb; weights of each plane).
_GRIZ_MIX = {
    "red": {"i": 0.25, "z": 0.75},
    "green": {"r": 0.5, "i": 0.5},
    "blue": {"g": 0.75, "r": 0.25},
}


def legacy_rgb(image: NDArray[np.floating], bands: Sequence[str]) -> NDArray[np.uint8]:
    """Map fluxes to colours.

    Parameters
    ----------
    image : ndarray, shape (band, y, x) [nanomaggies]
        For bands r, g, b: JPEG intensities 0 to 255, which pass through.
    bands : sequence of str
        With g, r, i and z: the mapping of DR10; with three of them: dr2_rgb, the reddest is red.
        With two, green is their mean; one band is grey.

    Returns
    -------
    ndarray, shape (y, x, 3), uint8
        The first row is the top of the picture, north: FITS rows run the other way.
    """
    if len(bands) != image.shape[0]:
        raise SchemaMismatch(f"{image.shape[0]} planes for bands {tuple(bands)}; give one a band")
    planes = {band: np.nan_to_num(image[index]) for index, band in enumerate(bands)}
    if "b" in planes:
        colours = [planes[name] / 255.0 for name in ("r", "g", "b")]
    else:
        colours = _colours(_stretched(planes))
    picture = np.stack(colours, axis=-1)[::-1]
    return np.asarray(np.clip(picture * 255.0 + 0.5, 0, 255), np.uint8)


def _stretched(planes: dict[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
    """Apply the asinh stretch that all bands share, so that colours do not depend on brightness."""
    if unknown := [band for band in planes if band not in RGB_SCALES]:
        raise SchemaMismatch(f"no display scale for bands {unknown}; known are {set(RGB_SCALES)}")
    scaled = {
        band: np.float32(RGB_SCALES[band]) * plane + _OFFSET for band, plane in planes.items()
    }
    intensity = np.mean([np.maximum(plane, 0.0) for plane in scaled.values()], axis=0)
    stretch = np.arcsinh(_SOFTENING * intensity) / np.sqrt(_SOFTENING)
    factor = stretch / np.where(intensity > 0, intensity, 1.0)
    return {band: np.clip(plane * factor, 0.0, 1.0) for band, plane in scaled.items()}


def _colours(planes: dict[str, NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """Return red, green and blue."""
    if set("griz") <= set(planes):
        return [
            np.sum([weight * planes[band] for band, weight in mix.items()], axis=0)
            for mix in _GRIZ_MIX.values()
        ]
    red_to_blue = [planes[band] for band in ("z", "i", "r", "g") if band in planes]
    red, blue = red_to_blue[0], red_to_blue[-1]
    green = red_to_blue[1] if len(red_to_blue) > 2 else (red + blue) / 2
    return [red, green, blue]
