"""Noiseless stamps of single bright sources: GalSim profiles and painted discs, PSF included.

Smooth galaxies and stars are GalSim objects convolved by GalSim. Painted galaxies and their bulges
are convolved by FFT with kernels that GalSim tabulated, which is several times cheaper than
InterpolatedImage and agrees with GalSim's own drawing (see the unit test).
"""

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from storage.legacysurvey import PIXEL_SCALE_ARCSEC
from storage.synthetic.edge_on import paint_edge_on
from storage.synthetic.kernels import convolution_kernel, moffat, profile_transform
from storage.synthetic.painting import DUST_LAW, Painting, disc_plane
from storage.synthetic.peculiar import paint_peculiar
from storage.synthetic.populations import galaxy_colours
from storage.synthetic.sky import Source
from storage.synthetic.spirals import paint_spiral

FloatImage = NDArray[np.float32]

PAINTERS = {1: paint_edge_on, 2: paint_spiral, 3: paint_peculiar}
FINE_RADIUS_ARCSEC = 3.0  # smaller discs are painted with 2 x 2 canvas pixels a pixel
LARGEST_STAMP = 640
BULGE_REDNESS = 0.25  # bulges are this much redder than the whole
STAR_CORE_STAMP = 96  # the Moffat core is below the noise outside, the aureole is not
AUREOLE_SHARE = 0.03  # DECam bright stars keep about 3 % of their light in r^-3 wings
AUREOLE = {"beta": 1.6, "half_light_radius": 9.0, "trunc": 150.0}
GALSIM_PARAMETERS = galsim.GSParams(maximum_fft_size=8192, folding_threshold=1e-2)
BAND_INDEX = {"g": 0, "r": 1, "i": 2, "z": 3}


@dataclass(frozen=True)
class View:
    """How a source appears in one brick.

    Parameters
    ----------
    source : Source
    y, x : float
        Zero-based place in the image [pixels].
    bands : tuple of str
    flux : tuple of float
        Flux in each band behind the Galaxy's dust [nanomaggies].
    widths : tuple of float
        PSF width in each band [arcsec], rounded by kernels.rounded_width.
    """

    source: Source
    y: float
    x: float
    bands: tuple[str, ...]
    flux: tuple[float, ...]
    widths: tuple[float, ...]


@dataclass(frozen=True)
class Stamp:
    """Pixels of one source: image shape (band, y, x), float32; (y0, x0) of its first pixel."""

    image: FloatImage
    y0: int
    x0: int


def galaxy_stamp(view: View, sigma: float) -> Stamp:
    """Draw a galaxy of any class.

    Parameters
    ----------
    view : View
    sigma : float
        Noise of the deepest band [nanomaggies]; the stamp reaches down to a fraction of it.
    """
    size = stamp_size(view, sigma)
    y0, x0 = int(np.floor(view.y)) - size // 2, int(np.floor(view.x)) - size // 2
    centre = (view.y - y0, view.x - x0)
    draw = _painted if view.source.code in PAINTERS else _smooth
    return Stamp(draw(view, size, centre), y0, x0)


def star_stamp(view: View, size: int) -> Stamp:
    """Draw a star with the extended aureole of bright ones, `size` pixels a side."""
    y0, x0 = int(np.floor(view.y)) - size // 2, int(np.floor(view.x)) - size // 2
    image = np.zeros((len(view.bands), size, size), dtype=np.float32)
    offset = _offset(size, (view.y - y0, view.x - x0))
    aureole = _draw(galsim.Moffat(**AUREOLE), size, offset, "no_pixel")
    inner = min(size, STAR_CORE_STAMP)
    low = (size - inner) // 2
    middle = slice(low, low + inner)
    for index, (flux, width) in enumerate(zip(view.flux, view.widths, strict=True)):
        core = _draw(moffat(width), inner, offset, "fft")
        image[index] = np.float32(AUREOLE_SHARE * flux) * aureole
        image[index, middle, middle] += np.float32((1 - AUREOLE_SHARE) * flux) * core
    return Stamp(image, y0, x0)


def stamp_size(view: View, sigma: float) -> int:
    """Return an even stamp side [pixels] that holds a galaxy down to a third of the noise."""
    source = view.source
    brightness = max(view.flux) * PIXEL_SCALE_ARCSEC**2 / (2 * np.pi * source.radius**2)
    contrast = max(brightness / source.axis_ratio / (0.3 * sigma), 1.5)
    if source.code == 0:
        reach = source.radius * min(0.7 + (np.log(contrast) / 5.0) ** 2.2 * 2.6, 9.0)
    else:
        reach = source.radius * min(max(np.log(contrast) / 1.2, 2.6), 5.2)
    pixels = 2 * (reach + 3.0 * max(view.widths)) / PIXEL_SCALE_ARCSEC
    return int(min(np.ceil(pixels / 16) * 16, LARGEST_STAMP))


def _painted(view: View, size: int, centre: tuple[float, float]) -> FloatImage:
    """Return a painted galaxy with its bulge, PSF applied, shape (band, y, x)."""
    source = view.source
    fine = 2 if source.radius < FINE_RADIUS_ARCSEC else 1
    canvas, step = size * fine, PIXEL_SCALE_ARCSEC / fine
    middle = ((centre[0] + 0.5) * fine - 0.5, (centre[1] + 0.5) * fine - 0.5)
    plane = disc_plane(canvas, middle, step / source.radius, source.angle, source.axis_ratio)
    painting = PAINTERS[source.code](source, plane, np.random.default_rng(source.seed))
    layers = _mix(painting, view)
    bulges = _bulge_fluxes(view)
    # A bulge is rounder than its disc.
    shape = (source.bulge_radius, max(source.axis_ratio, 0.6), source.angle)
    bulge: NDArray[np.complex64] | float = 0.0
    if bulges.max() > 0:
        bulge = profile_transform(source.bulge_index, shape, (canvas, step), middle)
    image = np.empty((len(view.bands), size, size), dtype=np.float32)
    for index, (layer, width) in enumerate(zip(layers, view.widths, strict=True)):
        total = max(float(layer.sum(dtype=np.float64)), 1e-30)
        disc = np.float32((view.flux[index] - bulges[index]) / total)
        transform = np.fft.rfft2(layer) * disc + bulge * np.float32(bulges[index])
        transform = transform * convolution_kernel(width, canvas, fine)
        smooth = np.fft.irfft2(transform, s=(canvas, canvas))
        image[index] = _sum_cells(smooth.astype(np.float32), fine)
    return image


def _sum_cells(canvas: FloatImage, fine: int) -> FloatImage:
    """Return the image whose pixels are sums of `fine` x `fine` canvas pixels."""
    if fine == 1:
        return canvas
    return canvas[::2, ::2] + canvas[1::2, ::2] + canvas[::2, 1::2] + canvas[1::2, 1::2]


def _mix(painting: Painting, view: View) -> FloatImage:
    """Return the surface brightness in each band: layers in their colours, behind the dust."""
    bands = [BAND_INDEX[band] for band in view.bands]
    redness = np.array([layer.redness for layer in painting.layers], dtype=np.float64)
    colours = galaxy_colours(redness, np.full(redness.size, view.source.redshift))
    weight = 10 ** (-0.4 * (colours - colours[:, 1:2]))[:, bands]
    mixed = np.zeros((len(bands), *painting.layers[0].image.shape), dtype=np.float32)
    for layer, row in zip(painting.layers, weight, strict=True):
        total = max(float(layer.image.sum(dtype=np.float64)), 1e-30)
        scale = (row * (layer.share / total)).astype(np.float32)
        mixed += scale[:, None, None] * layer.image
    if painting.dust is not None:
        for index, band in enumerate(bands):
            mixed[index] *= np.exp(-DUST_LAW[band] * painting.dust)
    return mixed


def _bulge_fluxes(view: View) -> NDArray[np.float64]:
    """Return the bulge's flux in each band: its share in r, redder than the whole elsewhere."""
    source = view.source
    share = np.full(len(view.bands), source.bulge_fraction)
    if 0 < source.bulge_fraction < 1:
        redness = np.array([source.redness, source.redness + BULGE_REDNESS], dtype=np.float64)
        colours = galaxy_colours(redness, np.full(2, source.redshift))
        excess = (colours[1] - colours[1, 1]) - (colours[0] - colours[0, 1])
        share = share * 10 ** (-0.4 * excess[[BAND_INDEX[band] for band in view.bands]])
    return np.asarray(np.array(view.flux) * np.minimum(share, 1.0), dtype=np.float64)


def _smooth(view: View, size: int, centre: tuple[float, float]) -> FloatImage:
    """Return a Sersic or bulge+disc galaxy drawn by GalSim, shape (band, y, x)."""
    source = view.source
    # GalSim's shear keeps the area; our radii are along the major axis, as Tractor's are.
    shrink = source.axis_ratio**0.5
    bulge = galsim.Sersic(
        source.bulge_index,
        half_light_radius=source.bulge_radius * shrink,
        gsparams=GALSIM_PARAMETERS,
    )
    disc = galsim.Exponential(
        half_light_radius=1.25 * source.radius * shrink, gsparams=GALSIM_PARAMETERS
    )
    offset = _offset(size, centre)
    image = np.empty((len(view.bands), size, size), dtype=np.float32)
    fluxes = zip(view.flux, _bulge_fluxes(view), view.widths, strict=True)
    for index, (whole, share, width) in enumerate(fluxes):
        galaxy = bulge * share
        if whole > share:
            galaxy = galaxy + disc * (whole - share)
        galaxy = galaxy.shear(q=source.axis_ratio, beta=source.angle * galsim.radians)
        image[index] = _draw(galsim.Convolve([galaxy, moffat(width)]), size, offset, "fft")
    return image


def _offset(size: int, centre: tuple[float, float]) -> galsim.PositionD:
    """Return GalSim's offset of a zero-based (y, x) centre from the true centre of a stamp."""
    return galsim.PositionD(centre[1] - (size - 1) / 2, centre[0] - (size - 1) / 2)


def _draw(profile: galsim.GSObject, size: int, offset: galsim.PositionD, method: str) -> FloatImage:
    drawn = profile.drawImage(
        nx=size, ny=size, scale=PIXEL_SCALE_ARCSEC, offset=offset, dtype=np.float32, method=method
    )
    return np.asarray(drawn.array)
