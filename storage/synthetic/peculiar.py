"""The class "other": clumpy irregulars, and mergers with two nuclei, tails, bridges and shells."""

import numpy as np

from storage.synthetic.painting import (
    FloatImage,
    Layer,
    Painting,
    Plane,
    add_clumps,
    exponential_disc,
    mottle,
    normalised,
)
from storage.synthetic.sky import Source


def paint_peculiar(source: Source, plane: Plane, rng: np.random.Generator) -> Painting:
    """Paint a merger or an irregular galaxy, as the source's truth says."""
    if source.merger:
        return _merger(source, plane, rng)
    return _irregular(source, plane, rng)


def _irregular(source: Source, plane: Plane, rng: np.random.Generator) -> Painting:
    """Lopsided overlapping blobs with bright blue knots and no centre."""
    old = np.zeros_like(plane.along)
    for _ in range(int(rng.integers(3, 6))):
        shift = rng.normal(0.0, 0.45, 2)
        stretch = rng.uniform(0.6, 1.6)
        distance = np.hypot(
            (plane.along - np.float32(shift[0])) * np.float32(stretch),
            plane.across - np.float32(shift[1]),
        )
        old += np.float32(rng.uniform(0.3, 1.0)) * exponential_disc(distance, rng.uniform(0.5, 1.0))
    mottled = old * mottle(rng, plane, 0.5)
    young = normalised(np.sqrt(old) * mottled)
    number = int(rng.integers(5, 24))
    spot = rng.normal(0.0, 0.6, (2, number)).astype(np.float32)
    spot += rng.normal(0.0, 0.25, (2, 1)).astype(np.float32)
    flux = rng.pareto(1.2, number) + 0.1
    flux *= rng.uniform(0.3, 0.7) / flux.sum()
    young *= np.float32(1.0 - flux.sum())
    spread = rng.uniform(0.05, 0.16, number) / plane.step
    add_clumps(young, plane.to_canvas(spot[0], spot[1]), spread, flux)
    share = rng.uniform(0.3, 0.55)
    return Painting(
        [
            Layer(mottled, 1.0 - share, source.redness + 0.1),
            Layer(young, share, source.redness - rng.uniform(0.4, 0.9)),
        ]
    )


def _merger(source: Source, plane: Plane, rng: np.random.Generator) -> Painting:
    """Two disturbed galaxies with tidal tails; the brighter one sits at the source's position."""
    gap = rng.uniform(0.8, 2.3)
    turn = rng.uniform(0, 2 * np.pi)
    partner = np.array([gap * np.cos(turn), gap * np.sin(turn)])
    ratio = rng.uniform(0.25, 0.9)
    first = _disturbed(plane, np.zeros(2), rng.uniform(0.55, 0.8), rng)
    second = _disturbed(plane, partner, rng.uniform(0.35, 0.7) * ratio**0.4, rng)
    debris = np.zeros_like(plane.along)
    hand = 1.0 if rng.random() < 0.5 else -1.0
    _add_tail(debris, plane, (np.zeros(2), turn + np.pi, hand), rng)
    _add_tail(debris, plane, (partner, turn, hand), rng)
    _add_bridge(debris, plane, partner, rng)
    tails = rng.uniform(0.12, 0.3)
    if rng.random() < 0.35:
        debris = normalised(debris) + np.float32(0.6) * normalised(_shells(plane, rng))
    main = (1.0 - tails) / (1.0 + ratio)
    other = source.redness + rng.normal(0.0, 0.3)
    knots = normalised(first + np.float32(ratio) * second)
    knots *= mottle(rng, plane, 0.8)
    return Painting(
        [
            Layer(first, main * 0.8, source.redness + 0.15),
            Layer(second, main * ratio, other + 0.1),
            Layer(debris, tails, source.redness - 0.15),
            Layer(knots, main * 0.2, source.redness - 0.7),
        ]
    )


def _disturbed(
    plane: Plane, centre: np.ndarray, scale: float, rng: np.random.Generator
) -> FloatImage:
    """Return a cuspy, lopsided galaxy of half-light radius `scale` at `centre`."""
    along = plane.along - np.float32(centre[0])
    across = plane.across - np.float32(centre[1])
    turn = rng.uniform(0, np.pi)
    major = along * np.float32(np.cos(turn)) + across * np.float32(np.sin(turn))
    minor = across * np.float32(np.cos(turn)) - along * np.float32(np.sin(turn))
    flat = np.hypot(major, minor / np.float32(rng.uniform(0.4, 0.95)))
    lopsided = 1 + np.float32(rng.uniform(0.1, 0.45)) * np.tanh(major / np.float32(scale))
    disc = exponential_disc(flat, scale) * lopsided
    core = np.exp(-np.sqrt(np.maximum(flat, np.float32(0.003)) / np.float32(0.02 * scale)))
    return np.asarray(disc + np.float32(rng.uniform(2.0, 12.0)) * core, dtype=np.float32)


def _add_tail(
    image: FloatImage,
    plane: Plane,
    start: tuple[np.ndarray, float, float],
    rng: np.random.Generator,
) -> None:
    """Add a curved tail that widens and fades outwards from `start` (point, direction, hand)."""
    point, direction, hand = start
    length = rng.uniform(2.2, 4.6)
    path = np.linspace(0.0, 1.0, 60)
    bend = hand * rng.uniform(0.6, 1.9)
    course = direction + rng.normal(0.0, 0.4) + bend * path
    steps = length / path.size
    along = point[0] + np.cumsum(np.cos(course)) * steps
    across = point[1] + np.cumsum(np.sin(course)) * steps
    spread = (0.12 + rng.uniform(0.12, 0.3) * path) / plane.step
    flux = np.exp(-rng.uniform(0.8, 2.0) * path) * (0.7 + 0.6 * rng.random(path.size))
    places = plane.to_canvas(along.astype(np.float32), across.astype(np.float32))
    add_clumps(image, places, spread, flux)


def _add_bridge(
    image: FloatImage, plane: Plane, partner: np.ndarray, rng: np.random.Generator
) -> None:
    path = np.linspace(0.0, 1.0, 25)
    sag = rng.normal(0.0, 0.2) * np.sin(np.pi * path)
    along = (path * partner[0] - sag * partner[1]).astype(np.float32)
    across = (path * partner[1] + sag * partner[0]).astype(np.float32)
    spread = np.full(path.size, 0.18 / plane.step)
    add_clumps(image, plane.to_canvas(along, across), spread, np.full(path.size, 0.4))


def _shells(plane: Plane, rng: np.random.Generator) -> FloatImage:
    """Return sharp-edged arcs on alternate sides, as radial mergers leave them."""
    shells = np.zeros_like(plane.along)
    radius = plane.radius
    side = np.arctan2(plane.across, plane.along) - np.float32(rng.uniform(0, 2 * np.pi))
    for index, place in enumerate(rng.uniform(1.4, 3.4, 3)):
        edge = np.clip((np.float32(place) - radius) / np.float32(0.35), 0.0, 1.0)
        inside = np.exp(-np.maximum(np.float32(place) - radius, 0) / np.float32(0.35))
        facing = np.clip(np.cos(side + np.float32(np.pi * index)) - 0.4, 0.0, 1.0)
        shells += np.where(radius < place, edge * inside * facing, 0).astype(np.float32)
    return shells
