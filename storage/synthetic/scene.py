"""The noiseless sky of one brick: which sources it shows, where, how bright, and their pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.bricks import Brick, neighbours
from storage.legacysurvey import EXTINCTION_COEFFICIENTS, PIXEL_SCALE_ARCSEC
from storage.synthetic.config import SyntheticConfig
from storage.synthetic.exposures import BandExposures
from storage.synthetic.faint import FaintSources, faint_stamps
from storage.synthetic.kernels import rounded_width
from storage.synthetic.sky import (
    SOURCE_DTYPE,
    STAR_CODE,
    cell_sources,
    reddening,
    source_from_row,
)
from storage.synthetic.stamps import BAND_INDEX, Stamp, View, galaxy_stamp, star_stamp
from storage.synthetic.windows import Window

FloatImage = NDArray[np.float32]

PAINTED_LIMIT = 20.4  # z magnitude [AB] down to which galaxies show their structure
BRIGHT_STAR_LIMIT = 18.0  # z magnitude [AB] of stars that get a large stamp
BRIGHT_MARGIN, FAINT_MARGIN = 300, 24  # how far outside the image sources still shine in [pixels]
WIDE_MAGNITUDE = 17.5


@dataclass(frozen=True)
class Scene:
    """The sources of a brick's image.

    Parameters
    ----------
    window : Window
    bands : tuple of str
    sources : ndarray, shape (n,), SOURCE_DTYPE
    y, x : ndarray, shape (n,), float64 — zero-based place [pixels]; may be outside the image.
    flux : ndarray, shape (n, band), float64 — behind the Galaxy's dust [nanomaggies].
    widths : ndarray, shape (n, band), float64 — rounded PSF width [arcsec].
    ebv : ndarray, shape (n,), float64 [mag]
    """

    window: Window
    bands: tuple[str, ...]
    sources: NDArray[np.void]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux: NDArray[np.float64]
    widths: NDArray[np.float64]
    ebv: NDArray[np.float64]

    def view(self, index: int) -> View:
        """Return one source as the stamp painters take it."""
        return View(
            source=source_from_row(self.sources[index]),
            y=float(self.y[index]),
            x=float(self.x[index]),
            bands=self.bands,
            flux=tuple(self.flux[index].tolist()),
            widths=tuple(self.widths[index].tolist()),
        )

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which sources have their centre on the image, shape (n,), bool."""
        top = self.window.size - 0.5
        return (self.y >= -0.5) & (self.y < top) & (self.x >= -0.5) & (self.x < top)


def build_scene(
    window: Window, config: SyntheticConfig, exposures: dict[str, BandExposures]
) -> Scene:
    """Collect the sources that a brick's image shows.

    Parameters
    ----------
    window : Window
    config : SyntheticConfig
    exposures : dict of BandExposures
        By band; gives the PSF width at each source.
    """
    cells = (window.brick, *neighbours(window.brick))
    everything = np.concatenate([_near(cell, window, config) for cell in cells])
    order = np.argsort(everything["source_id"], kind="stable")
    sources = everything[order]
    y, x = window.pixels(sources["ra"], sources["dec"])
    ebv = reddening(sources["ra"], sources["dec"])
    bands = config.bands
    extinction = np.array([EXTINCTION_COEFFICIENTS[band] for band in bands])
    intrinsic = sources["flux"][:, [BAND_INDEX[band] for band in bands]].astype(np.float64)
    flux = intrinsic * 10 ** (-0.4 * extinction * ebv[:, None])
    widths = np.stack([exposures[band].width_at(y, x) for band in bands], axis=1)
    rounded = np.vectorize(rounded_width, otypes=[float])(widths) if widths.size else widths
    return Scene(window, bands, sources, y, x, flux, rounded, ebv)


def _near(cell: Brick, window: Window, config: SyntheticConfig) -> NDArray[np.void]:
    """Return a cell's sources that shine into the window."""
    sources = cell_sources(cell, config)
    # A tangent plane is 90 degrees away at most: far sources cannot be projected, nor need they be.
    close = np.abs((sources["ra"] - window.brick.ra + 180) % 360 - 180) < 30
    sources = sources[close | (abs(window.brick.dec) > 80)]
    if sources.size == 0:
        return np.zeros(0, dtype=SOURCE_DTYPE)
    y, x = window.pixels(sources["ra"], sources["dec"])
    margin = np.where(sources["mag_z"] < WIDE_MAGNITUDE, BRIGHT_MARGIN, FAINT_MARGIN)
    margin = np.where((sources["mag_z"] >= WIDE_MAGNITUDE) & (sources["mag_z"] < 20), 80, margin)
    high = window.size + margin
    return sources[(y > -margin) & (y < high) & (x > -margin) & (x < high)]


def render_scene(scene: Scene, exposures: dict[str, BandExposures]) -> FloatImage:
    """Render every source, without noise.

    Returns
    -------
    ndarray, shape (band, y, x), float32 [nanomaggies]
    """
    size = scene.window.size
    image = np.zeros((len(scene.bands), size, size), dtype=np.float32)
    sigma = min(exposures[band].sigma for band in scene.bands)
    detailed = is_detailed(scene)
    for index in np.flatnonzero(detailed):
        add_stamp(image, source_stamp(scene, int(index), sigma))
    _add_faint(image, scene, np.flatnonzero(~detailed))
    return image


def is_detailed(scene: Scene) -> NDArray[np.bool_]:
    """Return which sources are drawn one by one (bright stars, structured or bright galaxies)."""
    star = scene.sources["code"] == STAR_CODE
    limit = np.where(star, BRIGHT_STAR_LIMIT, PAINTED_LIMIT)
    return np.asarray(scene.sources["mag_z"] < limit)


def source_stamp(scene: Scene, index: int, sigma: float) -> Stamp:
    """Return the noiseless stamp of one detailed source; `sigma` as in stamps.galaxy_stamp."""
    view = scene.view(index)
    if view.source.code != STAR_CODE:
        return galaxy_stamp(view, sigma)
    # The r^-3 aureole sinks below the noise at a radius that grows as the cube root of the flux.
    reach = 10.0 * (max(view.flux) / 60.0) ** (1 / 3) / PIXEL_SCALE_ARCSEC
    return star_stamp(view, int(np.clip(2 * np.ceil(reach / 8) * 8, 64, 1024)))


def add_stamp(image: FloatImage, stamp: Stamp) -> None:
    """Add a stamp to an image of shape (band, y, x) in place, where they overlap."""
    height, width = image.shape[1:]
    rows, columns = stamp.image.shape[1:]
    top, left = max(stamp.y0, 0), max(stamp.x0, 0)
    bottom, right = min(stamp.y0 + rows, height), min(stamp.x0 + columns, width)
    if top < bottom and left < right:
        image[:, top:bottom, left:right] += stamp.image[
            :, top - stamp.y0 : bottom - stamp.y0, left - stamp.x0 : right - stamp.x0
        ]


def _add_faint(image: FloatImage, scene: Scene, chosen: NDArray[np.intp]) -> None:
    """Add the sources that are drawn in bulk, grouped by stamp size."""
    rows = scene.sources[chosen]
    large = (rows["radius"] > 0.9) | (rows["mag_z"] < 20.5)
    for size, members in ((32, ~large), (64, large)):
        picked = chosen[members]
        table = scene.sources[picked]
        shape = {
            name: table[name].astype(np.float64)
            for name in ("radius", "axis_ratio", "angle", "bulge_fraction")
        }
        for index in range(len(scene.bands)):
            sources = FaintSources(
                y=scene.y[picked],
                x=scene.x[picked],
                flux=scene.flux[picked, index],
                width=scene.widths[picked, index],
                **shape,
            )
            for pixels, y0, x0 in faint_stamps(sources, size):
                add_stamp(image[index : index + 1], Stamp(pixels[None], y0, x0))
