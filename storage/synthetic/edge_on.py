"""Discs seen edge-on: sech^2 layers, dust lanes, clumps in the plane, slight warps."""

import numpy as np

from storage.synthetic.painting import (
    EXPONENTIAL_B,
    FloatImage,
    Layer,
    Painting,
    Plane,
    add_clumps,
    logistic,
    normalised,
    texture,
)
from storage.synthetic.sky import Source


def paint_edge_on(source: Source, plane: Plane, rng: np.random.Generator) -> Painting:
    """Paint an edge-on disc; `plane.across` is deprojected, so 1 there is the disc's thickness.

    Parameters
    ----------
    source : Source
        `dust` is the optical depth in g of the lane; 0 has none.
    plane : Plane
    rng : numpy.random.Generator
        The source's own generator.
    """
    along = plane.along
    bend = rng.normal(0.0, 0.05) / source.axis_ratio
    distance: FloatImage = np.abs(along)
    across: FloatImage = plane.across - np.float32(bend * 0.1) * along * distance
    edge = rng.uniform(2.6, 3.6)
    fade = logistic((np.float32(edge) - distance) / np.float32(0.2))
    radial = fade * np.exp(-EXPONENTIAL_B * np.sqrt(distance**2 + np.float32(0.02)))
    old = radial * _sech_squared(across, 0.85)
    thin = radial * _sech_squared(across, 0.4)
    young = normalised(thin * texture(rng, along, np.float32(0.3) * across, 0.35))
    _add_plane_clumps(young, plane, rng)
    share = rng.uniform(0.12, 0.4)
    layers = [
        Layer(old.astype(np.float32), 1.0 - share, source.redness + 0.05),
        Layer(young, share, source.redness - rng.uniform(0.2, 0.6)),
    ]
    if source.dust <= 0:
        return Painting(layers)
    tilt = rng.normal(0.0, 0.12)
    lane = np.exp(-0.5 * ((across - np.float32(tilt)) / np.float32(0.27)) ** 2)
    lane *= np.exp(-distance / np.float32(1.3)) * texture(rng, along * 2, across, 0.18)
    return Painting(layers, (np.float32(source.dust) * lane).astype(np.float32))


def _sech_squared(height: FloatImage, scale: float) -> FloatImage:
    """Return the light of an isothermal sheet of scale height `scale`."""
    return np.asarray(1 - np.tanh(height / np.float32(scale)) ** 2, dtype=np.float32)


def _add_plane_clumps(young: FloatImage, plane: Plane, rng: np.random.Generator) -> None:
    number = int(rng.integers(3, 20))
    along = rng.laplace(0.0, 0.65, number).astype(np.float32)
    across = rng.normal(0.0, 0.15, number).astype(np.float32)
    flux = rng.pareto(1.8, number) + 0.2
    flux *= rng.uniform(0.05, 0.3) / flux.sum()
    young *= np.float32(1.0 - flux.sum())
    add_clumps(
        young, plane.to_canvas(along, across), rng.uniform(0.03, 0.07, number) / plane.step, flux
    )
