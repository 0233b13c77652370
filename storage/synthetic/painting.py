"""Primitives for painting structured galaxies: the plane of a disc, layers, clumps, textures.

Everything is in units of the galaxy's half-light radius and on a plain pixel grid; neither the
PSF nor the noise is known here. The painters are spirals.py, edge_on.py and peculiar.py.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

EXPONENTIAL_B = 1.678  # an exponential disc holds half of its light within 1.678 scale lengths
DUST_LAW = np.array([1.0, 0.68, 0.50, 0.38], dtype=np.float32)
"""Optical depth in g, r, i, z over that in g: the survey's extinction coefficients, R_V = 3.1."""


@dataclass(frozen=True)
class Layer:
    """One stellar population of a galaxy.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        Surface brightness, any normalisation, not negative.
    share : float
        Share of the galaxy's flux in r.
    redness : float
        Place between blue (0) and red (1) sequence.
    """

    image: FloatImage
    share: float
    redness: float


@dataclass(frozen=True)
class Painting:
    """Layers of a galaxy and the dust in front of them (optical depth in g, or None)."""

    layers: list[Layer] = field(default_factory=list)
    dust: FloatImage | None = None


@dataclass(frozen=True)
class Plane:
    """Coordinates of every canvas pixel in the plane of a disc.

    Parameters
    ----------
    along, across : ndarray, shape (y, x), float32 [half-light radii]
        Coordinates along the major axis and, deprojected, along the minor axis.
    step : float
        Canvas pixel [half-light radii].
    angle : float
        Angle of the major axis from +x towards +y [radian].
    axis_ratio : float
        Apparent b/a that was removed.
    centre : tuple of float
        (y, x) of the galaxy on the canvas [canvas pixels].
    """

    along: FloatImage
    across: FloatImage
    step: float
    angle: float
    axis_ratio: float
    centre: tuple[float, float]

    @property
    def radius(self) -> FloatImage:
        """Distance from the centre in the plane [half-light radii]."""
        return np.hypot(self.along, self.across)

    def to_canvas(self, along: FloatImage, across: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Return (y, x) canvas pixels of points of the plane."""
        across = across * self.axis_ratio
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        x = (along * cosine - across * sine) / self.step + self.centre[1]
        y = (along * sine + across * cosine) / self.step + self.centre[0]
        return y.astype(np.float32), x.astype(np.float32)


def disc_plane(
    size: int, centre: tuple[float, float], step: float, angle: float, axis_ratio: float
) -> Plane:
    """Return the plane of a disc seen under `angle` and `axis_ratio` on a square canvas."""
    y, x = np.indices((size, size), dtype=np.float32)
    x = (x - np.float32(centre[1])) * np.float32(step)
    y = (y - np.float32(centre[0])) * np.float32(step)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = np.asarray(x * cosine + y * sine, dtype=np.float32)
    across = np.asarray((y * cosine - x * sine) / np.float32(axis_ratio), dtype=np.float32)
    return Plane(along, across, step, angle, axis_ratio, centre)


def exponential_disc(radius: FloatImage, scale: float = 1.0, edge: float = 3.4) -> FloatImage:
    """Return an exponential disc of half-light radius `scale` that fades out beyond `edge`."""
    disc = np.exp(-EXPONENTIAL_B * radius / np.float32(scale))
    fade = logistic((np.float32(edge * scale) - radius) / np.float32(0.25 * scale))
    return np.asarray(disc * fade, dtype=np.float32)


def logistic(values: FloatImage) -> FloatImage:
    """Return the logistic step 1 / (1 + exp(-x)), which never overflows."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), dtype=np.float32)


def texture(
    rng: np.random.Generator, first: FloatImage, second: FloatImage, strength: float
) -> FloatImage:
    """Return a positive mottled field, a log-normal sum of twelve waves in two coordinates.

    The first coordinate may be periodic over 2 pi (integer wave numbers are used for it).
    """
    total = np.zeros_like(first)
    for _ in range(12):
        wave = np.float32(rng.integers(1, 8))
        other = np.float32(rng.normal(0.0, 6.0))
        total += np.cos(wave * first + other * second + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(np.exp(np.float32(strength / np.sqrt(6.0)) * total), dtype=np.float32)


def mottle(rng: np.random.Generator, plane: Plane, strength: float) -> FloatImage:
    """Return a positive field mottled alike in all directions, for galaxies without a disc."""
    total = np.zeros_like(plane.along)
    for _ in range(14):
        wave = np.float32(rng.uniform(2.0, 9.0))  # radians per half-light radius
        turn = rng.uniform(0, 2 * np.pi)
        phase = np.float32(np.cos(turn)) * plane.along + np.float32(np.sin(turn)) * plane.across
        total += np.cos(wave * phase + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(np.exp(np.float32(strength / np.sqrt(7.0)) * total), dtype=np.float32)


def add_clumps(
    image: FloatImage,
    places: tuple[FloatImage, FloatImage],
    sigma: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> None:
    """Add round Gaussian clumps to `image` in place.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
    places : pair of ndarray, shape (n,) — y and x [canvas pixels].
    sigma : ndarray, shape (n,) [canvas pixels]
    weight : ndarray, shape (n,) — the sum of each clump's pixels.
    """
    height, width = image.shape
    for y, x, spread, flux in zip(*places, np.maximum(sigma, 0.6), weight, strict=True):
        reach = int(np.ceil(3.5 * spread))
        low_y, high_y = max(int(y) - reach, 0), min(int(y) + reach + 2, height)
        low_x, high_x = max(int(x) - reach, 0), min(int(x) + reach + 2, width)
        if low_y >= high_y or low_x >= high_x:
            continue
        column = np.exp(-0.5 * ((np.arange(low_y, high_y) - y) / spread) ** 2)
        row = np.exp(-0.5 * ((np.arange(low_x, high_x) - x) / spread) ** 2)
        stamp = (flux / (2 * np.pi * spread**2)) * column[:, None] * row[None, :]
        image[low_y:high_y, low_x:high_x] += stamp.astype(np.float32)


def normalised(image: FloatImage) -> FloatImage:
    """Return the image with its sum set to 1 (an empty image stays empty)."""
    total = float(image.sum(dtype=np.float64))
    return image / np.float32(total) if total > 0 else image
