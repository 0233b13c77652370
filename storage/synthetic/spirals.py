"""Face-on and inclined discs: spiral arms, bars, rings, clumps of young stars, dust on the arms.

Arms are logarithmic spirals with a wobble; flocculent discs take several short-lived patterns
with other pitch angles at once. The bulge is not painted: render.py draws it with GalSim.
"""

import numpy as np

from storage.synthetic.painting import (
    FloatImage,
    Layer,
    Painting,
    Plane,
    add_clumps,
    exponential_disc,
    logistic,
    normalised,
    texture,
)
from storage.synthetic.sky import Source

RING_WIDTH = 0.16
FLOCCULENT = 5
"""From this number of arms on a disc is flocculent: no single pattern reaches all radii."""


def paint_spiral(source: Source, plane: Plane, rng: np.random.Generator) -> Painting:
    """Paint a disc galaxy with whatever arms, bar and ring its truth says.

    Parameters
    ----------
    source : Source
    plane : Plane
    rng : numpy.random.Generator
        The source's own generator, so that every brick paints the same galaxy.
    """
    radius = np.maximum(plane.radius, np.float32(0.03))
    theta = np.arctan2(plane.across, plane.along)
    disc = exponential_disc(radius, edge=rng.uniform(2.8, 3.8))
    inner = source.bar if source.bar > 0 else rng.uniform(0.25, 0.5)
    arms, lane = _arms(source, (radius, theta), inner, rng)
    contrast = rng.uniform(0.5, 1.7)
    old = disc * (1 + np.float32(0.8 * contrast) * arms)
    young = disc * arms * texture(rng, theta, np.log(radius), 0.55)
    young += np.float32(0.06) * disc
    if source.ring:
        ring = _ring(radius, inner, rng)
        old += np.float32(rng.uniform(0.3, 0.8)) * ring
        young += np.float32(rng.uniform(0.6, 1.6)) * ring
    young = normalised(young)
    _add_young_clumps(young, plane, arms * disc, rng)
    share = rng.uniform(0.22, 0.42) * (1.15 - 0.45 * source.redness)
    layers = [
        Layer(old, 1.0 - share, source.redness + 0.08),
        Layer(young, share, source.redness - rng.uniform(0.55, 0.95)),
    ]
    if source.bar > 0:
        layers.append(_bar(source, plane, rng))
    dust = np.float32(rng.uniform(0.2, 1.0)) * lane * np.sqrt(disc)
    return Painting(layers, dust)


def _arms(
    source: Source,
    polar: tuple[FloatImage, FloatImage],
    inner: float,
    rng: np.random.Generator,
) -> tuple[FloatImage, FloatImage]:
    """Return arm strength (1 on a crest) and the dust lanes on the inner side of the arms."""
    radius, theta = polar
    if source.n_arms == 0:
        return np.full_like(radius, 0.05), np.full_like(radius, 0.05)
    log_radius = np.log(radius)
    wobble = np.zeros_like(radius)
    for wave in (1, 2, 3):
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        rate = np.float32(rng.normal(0, 3))
        wobble += np.float32(rng.normal(0, 0.13 / wave)) * np.cos(
            np.float32(wave) * theta + rate * log_radius + phase
        )
    sharpness = rng.uniform(2.0, 5.0)
    crest, lane = np.zeros_like(radius), np.zeros_like(radius)
    for arms, winding, start, weight in _patterns(source, rng):
        turn = np.float32(arms) * (theta + wobble) - np.float32(winding) * log_radius
        turn += np.float32(start)
        crest += np.float32(weight) * np.exp(np.float32(sharpness) * (np.cos(turn) - 1))
        shifted = turn + np.float32(0.8 * np.sign(winding))
        lane += np.float32(weight) * np.exp(np.float32(4.0) * (np.cos(shifted) - 1))
    begin = logistic((radius - np.float32(inner)) / np.float32(0.12))
    finish = logistic((np.float32(rng.uniform(2.2, 3.4)) - radius) / np.float32(0.35))
    return crest * begin * finish, lane * begin


def _patterns(source: Source, rng: np.random.Generator) -> list[tuple[int, float, float, float]]:
    """Return (arm number, winding, phase, weight) of each spiral pattern."""
    hand = 1.0 if source.seed % 2 else -1.0
    cotangent = 1.0 / np.tan(np.deg2rad(source.pitch))
    if source.n_arms < FLOCCULENT:
        main = (source.n_arms, hand * source.n_arms * cotangent, rng.uniform(0, 6.28), 1.0)
        number = int(rng.integers(source.n_arms + 1, source.n_arms + 3))
        spur = (number, hand * number * cotangent * 0.8, rng.uniform(0, 6.28), 0.22)
        return [main, spur]
    numbers = rng.integers(3, 9, 5)
    return [
        (int(n), hand * n * cotangent * rng.uniform(0.6, 1.4), rng.uniform(0, 6.28), 0.42)
        for n in numbers
    ]


def _ring(radius: FloatImage, inner: float, rng: np.random.Generator) -> FloatImage:
    place = max(inner * 1.08, 0.55) if rng.random() < 0.7 else rng.uniform(1.3, 2.0)
    width = RING_WIDTH * place
    ring = np.exp(-0.5 * ((radius - np.float32(place)) / np.float32(width)) ** 2)
    return np.asarray(ring * np.float32(np.exp(-1.678 * place) * 1.6), dtype=np.float32)


def _bar(source: Source, plane: Plane, rng: np.random.Generator) -> Layer:
    """Return the bar: a boxy ellipse of old stars, turned by a random angle in the plane."""
    turn = rng.uniform(0, np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along = plane.along * cosine + plane.across * sine
    across = plane.across * cosine - plane.along * sine
    thickness = rng.uniform(0.24, 0.38)
    length = np.float32(source.bar)
    shape = np.abs(along / length) ** 2.6 + np.abs(across / (length * thickness)) ** 2.6
    bar = np.exp(-2.2 * shape ** np.float32(0.75))
    share = rng.uniform(0.07, 0.2) * min(1.3, 0.4 + source.bar)
    return Layer(np.asarray(bar, dtype=np.float32), share, source.redness + 0.28)


def _add_young_clumps(
    young: FloatImage, plane: Plane, density: FloatImage, rng: np.random.Generator
) -> None:
    """Add star-forming clumps where `density` is high; `young` is normalised and stays so."""
    number = int(rng.integers(10, 60))
    weight = np.cumsum(density.ravel(), dtype=np.float64)
    chosen = np.searchsorted(weight, rng.uniform(0, weight[-1], number))
    y, x = np.unravel_index(np.minimum(chosen, density.size - 1), density.shape)
    spread = rng.uniform(0.035, 0.10, number) / plane.step
    flux = rng.pareto(1.6, number) + 0.2
    flux *= rng.uniform(0.15, 0.5) / flux.sum()
    young *= np.float32(1.0 - flux.sum())
    add_clumps(young, (y.astype(np.float32), x.astype(np.float32)), spread, flux)
