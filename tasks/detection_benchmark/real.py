"""Detection on real pixels: an ESO field with SExtractor's catalogue, an HSC blend with its peaks.

Neither is of the survey. The ESO field has one band without a zero point: its background is taken
off and the same pixels are shown as every band, scaled so that the noise of each is that of the
survey. The HSC blend has g, r and z with a zero point; it is rebinned to the survey's pixels. What
comes out says how the model carries over, not how good it is on the survey.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from scipy.ndimage import zoom

from lvm.matching import Found, Known, completeness, f1, match_by_distance, purity
from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from tasks.detection_benchmark.sky import Array, extract

SURVEY_SIGMA = {"g": 0.0017, "r": 0.0022, "z": 0.0095}  # [nanomaggies], of the pretend survey
HSC_SCALE = 0.168  # arcsec per pixel
HSC_ZERO_POINT = 27.0
RADIUS = 3.8  # pixel, as on the survey
# SExtractor's catalogue of the ESO field goes deep: sources this many times above the error count.
ESO_LEAST_SNR = 10.0

Search = Callable[[dict[str, Array]], tuple[Array, Array]]


@dataclass(frozen=True)
class RealField:
    """A field: what the model is shown, what sep sees, and the known places (source, 2) x, y."""

    name: str
    field: dict[str, Array]
    flat: Array
    noise: Array
    known: Array
    required: Array


def real_fields(folder: Path) -> list[RealField]:
    """Return the real fields under `folder` (shared/real/fields); none where it is absent."""
    found = []
    if (folder / "sep_sextractor" / "image.fits").is_file():
        found.append(_eso(folder / "sep_sextractor"))
    if (folder / "hsc_cosmos_35.npz").is_file():
        found.append(_hsc(folder / "hsc_cosmos_35.npz"))
    return found


def judge_real(fields: list[RealField], search: Search) -> dict[str, dict[str, float]]:
    """Return F1, completeness and purity of a search, and of sep, on every field."""
    judged: dict[str, dict[str, float]] = {}
    for item in fields:
        judged[item.name] = _judge(item, *search(item.field))
        rows = extract(item.flat, item.noise, np.zeros(item.flat.shape, dtype=bool))
        judged[f"{item.name} sep"] = _judge(item, rows[:, :4], rows[:, 4])
    return judged


def _judge(item: RealField, places: Array, score: Array) -> dict[str, float]:
    size = np.array(item.flat.shape[::-1])
    judged = np.asarray(
        ((places[:, :2] >= RADIUS) & (places[:, :2] <= size - 1 - RADIUS)).all(axis=1)
    )
    boxes = np.concatenate([item.known, np.full((len(item.known), 2), 4.5)], axis=1)
    matches = match_by_distance(
        [(Found(places, score, judged), Known(boxes, item.required))], RADIUS
    )
    low = float(score.min()) if len(score) else 0.0
    return {
        "required": float(item.required.sum()),
        "f1": f1(matches, low),
        "completeness": completeness(matches, low),
        "purity": purity(matches, low),
    }


def _inside(known: Array, shape: tuple[int, ...]) -> Array:
    size = np.array(shape[::-1])
    return np.asarray(((known >= RADIUS) & (known <= size - 1 - RADIUS)).all(axis=1))


def _eso(folder: Path) -> RealField:
    pixels = {}
    for name in ("image", "back", "rms"):
        with warnings.catch_warnings():
            # Its log cards of 1992 are no FITS keywords; the pixels are read all the same.
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(folder / f"{name}.fits", memmap=False) as hdus:
                pixels[name] = np.asarray(hdus[0].data, dtype=np.float32)
    table = np.loadtxt(folder / "image.cat")
    flat, noise = pixels["image"] - pixels["back"], pixels["rms"]
    sigma = np.array(list(SURVEY_SIGMA.values()), dtype=np.float32)[:, None, None]
    field = {
        "image": flat[None] / noise[None] * sigma,
        "invvar": np.broadcast_to(sigma**-2.0, (3, *flat.shape)).astype(np.float32),
    }
    known = table[:, 1:3] - 1.0  # SExtractor counts pixels from 1
    flux, error = table[:, 3], table[:, 4]
    required = (flux > ESO_LEAST_SNR * error) & _inside(known, flat.shape)
    return RealField("eso", field, flat, noise, known, required)


def _hsc(path: Path) -> RealField:
    with np.load(path) as stored:
        names = [str(name) for name in stored["filters"]]
        bands = [names.index(name) for name in SURVEY_SIGMA]
        image, variance = stored["images"][bands], stored["variance"][bands]
        peaks = np.stack([stored["catalog"]["x"], stored["catalog"]["y"]], axis=1)
    factor = HSC_SCALE / PIXEL_SCALE_ARCSEC
    unit = 10 ** (-0.4 * (HSC_ZERO_POINT - 22.5))
    scale = np.array([_zoomed(band, factor) for band in image]) * unit / factor**2
    # Averaging neighbours lowers the variance of a pixel, its sum over an area raises it again.
    noise = np.array([_zoomed(band, factor) for band in variance]) * (unit / factor) ** 2
    field = {"image": scale.astype(np.float32), "invvar": (1.0 / noise).astype(np.float32)}
    total = (scale / np.sqrt(noise)).sum(axis=0) / np.sqrt(len(bands))
    known = (peaks + 0.5) * factor - 0.5
    every: Any = np.ones(len(known), dtype=bool)
    return RealField("hsc", field, total, np.ones_like(total), known, every)


def _zoomed(band: Array, factor: float) -> Array:
    return np.asarray(
        zoom(band.astype(np.float64), factor, order=1, grid_mode=True, mode="nearest")
    )
