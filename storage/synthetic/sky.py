"""The pretend sky: every source of a brick's primary area, the same whoever asks.

Each official brick is a cell whose sources come from a generator seeded by (seed, brickid), so
neighbouring bricks that show the same sky draw the same sources, in any order of bricks. Fluxes
are intrinsic (before Galactic dust) and independent of bands, PSF and depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.synthetic import populations
from storage.synthetic.config import SyntheticConfig

STAR_CODE = 255
"""Class code of stars; galaxies have the index of MORPHOLOGY_CLASSES."""

SOURCE_DTYPE = np.dtype(
    [
        ("source_id", "i8"),
        ("seed", "i8"),
        ("code", "u1"),
        ("ra", "f8"),
        ("dec", "f8"),
        ("flux", "f4", (4,)),
        ("mag_z", "f4"),
        ("redshift", "f4"),
        ("radius", "f4"),
        ("axis_ratio", "f4"),
        ("angle", "f4"),
        ("redness", "f4"),
        ("bulge_fraction", "f4"),
        ("bulge_index", "f4"),
        ("bulge_radius", "f4"),
        ("n_arms", "i2"),
        ("pitch", "f4"),
        ("bar", "f4"),
        ("ring", "?"),
        ("merger", "?"),
        ("dust", "f4"),
    ]
)
"""One row per source. flux in g, r, i, z [nanomaggies], radius = half-light radius of the whole
[arcsec], bulge_radius [arcsec], angle of the major axis from +x to +y of the image [radian],
bar = half-length [half-light radii], dust = optical depth in g of an edge-on lane."""

CELL_STREAM = 7001  # separates the sky's random stream from the exposures' (exposures.py)
GROUP_FRACTION = 0.22  # share of z < 22 galaxies that live in groups and clusters
MAXIMUM_SOURCES_PER_CELL = 1 << 24


@dataclass(frozen=True)
class Source:
    """One source as plain numbers; the fields are those of SOURCE_DTYPE."""

    source_id: int
    seed: int
    code: int
    ra: float
    dec: float
    flux: tuple[float, float, float, float]
    mag_z: float
    redshift: float
    radius: float
    axis_ratio: float
    angle: float
    redness: float
    bulge_fraction: float
    bulge_index: float
    bulge_radius: float
    n_arms: int
    pitch: float
    bar: float
    ring: bool
    merger: bool
    dust: float


def source_from_row(row: np.void) -> Source:
    """Return the source that a row of SOURCE_DTYPE describes."""
    values = {name: row[name].tolist() for name in SOURCE_DTYPE.names or ()}
    values["flux"] = tuple(values["flux"])
    return Source(**values)


def cell_sources(brick: Brick, config: SyntheticConfig) -> NDArray[np.void]:
    """Return the sources that belong to a brick's primary area.

    Parameters
    ----------
    brick : Brick
    config : SyntheticConfig
        Only seed, density, star_density and bright_tilt matter.

    Returns
    -------
    ndarray, shape (n,), SOURCE_DTYPE
        Group members may lie a few arcminutes outside the area; they still belong to this cell.
    """
    rng = np.random.default_rng([config.seed, brick.brickid, CELL_STREAM])
    area = _area(brick)
    galaxies = _galaxies(rng, brick, config, area)
    stars = _stars(rng, brick, config, area)
    sources = np.concatenate([galaxies, stars])
    sources["source_id"] = brick.brickid * MAXIMUM_SOURCES_PER_CELL + np.arange(sources.size)
    sources["seed"] = rng.integers(1, 2**62, sources.size)
    return sources


def reddening(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E(B-V) of the pretend Galaxy [mag]: a smooth field between 0.015 and 0.055."""
    wave = np.sin(np.deg2rad(173.0) * ra) * np.cos(np.deg2rad(151.0) * dec)
    return np.asarray(0.035 + 0.02 * wave, dtype=np.float64)


def _area(brick: Brick) -> float:
    bands = np.sin(np.deg2rad(brick.dec2)) - np.sin(np.deg2rad(brick.dec1))
    return float((brick.ra2 - brick.ra1) * np.rad2deg(bands))


def _place(rng: np.random.Generator, brick: Brick, sources: NDArray[np.void]) -> None:
    sines = np.sin(np.deg2rad([brick.dec1, brick.dec2]))
    sources["ra"] = rng.uniform(brick.ra1, brick.ra2, sources.size) % 360.0
    sources["dec"] = np.rad2deg(np.arcsin(rng.uniform(sines[0], sines[1], sources.size)))


def _galaxies(
    rng: np.random.Generator, brick: Brick, config: SyntheticConfig, area: float
) -> NDArray[np.void]:
    magnitude = populations.draw_magnitudes(rng, area, config.density, config.bright_tilt)
    galaxies = np.zeros(magnitude.size, dtype=SOURCE_DTYPE)
    galaxies["mag_z"] = magnitude
    galaxies["code"] = populations.draw_classes(rng, magnitude.size)
    galaxies["redshift"] = populations.draw_redshifts(rng, magnitude)
    _place(rng, brick, galaxies)
    _gather_groups(rng, galaxies)
    redshift = galaxies["redshift"].astype(np.float64)
    absolute = populations.absolute_magnitude(magnitude, redshift)
    code = galaxies["code"]
    galaxies["radius"] = populations.draw_radii(rng, code, absolute, redshift)
    galaxies["axis_ratio"] = populations.draw_axis_ratios(rng, code)
    galaxies["angle"] = rng.uniform(0, np.pi, magnitude.size)
    galaxies["redness"] = populations.draw_redness(rng, code, absolute)
    colours = populations.galaxy_colours(galaxies["redness"].astype(np.float64), redshift)
    colours += rng.normal(0.0, 0.03, colours.shape) * np.array([1.0, 1.0, 1.0, 0.0])
    galaxies["flux"] = 10 ** (-0.4 * (magnitude[:, None] + colours - 22.5))
    _draw_structure(rng, galaxies)
    return galaxies


def _gather_groups(rng: np.random.Generator, galaxies: NDArray[np.void]) -> None:
    """Move some galaxies around group centres, at one redshift and with more ellipticals."""
    candidates = np.flatnonzero((galaxies["mag_z"] < 22) & (galaxies["redshift"] > 0.06))
    members = candidates[rng.random(candidates.size) < GROUP_FRACTION]
    if members.size < 4:
        return
    # Richness falls steeply: most groups have a few members, the first one is a small cluster.
    number = max(1, members.size // 9)
    weight = 1.0 / np.arange(1, number + 1) ** 0.8
    group = rng.choice(number, members.size, p=weight / weight.sum())
    heads = rng.choice(galaxies.size, number, replace=False)
    spread = np.hypot(*rng.normal(0, 1.0, (2, members.size))) * rng.exponential(0.011, members.size)
    turn = rng.uniform(0, 2 * np.pi, members.size)
    declination = np.deg2rad(galaxies["dec"][heads][group])
    galaxies["ra"][members] = galaxies["ra"][heads][group] + (
        spread * np.cos(turn) / np.maximum(np.cos(declination), 0.01)
    )
    galaxies["ra"][members] %= 360.0
    galaxies["dec"][members] = np.clip(
        galaxies["dec"][heads][group] + spread * np.sin(turn), -90.0, 90.0
    )
    distance = np.clip(rng.lognormal(-1.35, 0.35, number), 0.08, 0.6)
    galaxies["redshift"][members] = distance[group]
    early = rng.random(members.size) < 0.4
    galaxies["code"][members[early]] = 0


def _draw_structure(rng: np.random.Generator, galaxies: NDArray[np.void]) -> None:
    """Draw bulge, arms, bar, ring, merger and dust lane according to the class, in place."""
    size, code = galaxies.size, galaxies["code"]
    pure = rng.random(size) < 0.65
    spheroid = np.where(pure, 1.0, rng.uniform(0.45, 0.85, size))
    disc_bulge = np.clip(rng.lognormal(-1.9, 0.7, size), 0.01, 0.5)
    galaxies["bulge_fraction"] = np.choose(code, [spheroid, disc_bulge, disc_bulge, np.zeros(size)])
    index = np.choose(code, [rng.uniform(2.5, 5.2, size), *[rng.uniform(1.0, 3.0, size)] * 3])
    galaxies["bulge_index"] = np.round(index * 2) / 2  # GalSim tabulates each index: keep few
    relative = np.where(code == 0, np.where(pure, 1.0, 0.5), rng.uniform(0.12, 0.3, size))
    galaxies["bulge_radius"] = galaxies["radius"] * relative
    spiral = code == 2
    arms = rng.choice([0, 2, 3, 4, 6], size, p=[0.1, 0.5, 0.1, 0.08, 0.22])
    galaxies["n_arms"] = np.where(spiral, arms, 0)
    galaxies["pitch"] = np.where(spiral, rng.uniform(9.0, 30.0, size), 0.0)
    barred = spiral & (rng.random(size) < np.where(arms == 0, 0.7, 0.38))
    galaxies["bar"] = np.where(barred, rng.uniform(0.35, 1.0, size), 0.0)
    galaxies["ring"] = spiral & (rng.random(size) < np.where(arms == 0, 0.9, 0.15))
    galaxies["merger"] = (code == 3) & (rng.random(size) < 0.5)
    lane = (code == 1) & (rng.random(size) < 0.55)
    galaxies["dust"] = np.where(lane, rng.uniform(1.2, 4.0, size), 0.0)


def _stars(
    rng: np.random.Generator, brick: Brick, config: SyntheticConfig, area: float
) -> NDArray[np.void]:
    magnitude = populations.draw_star_magnitudes(rng, area, config.star_density)
    stars = np.zeros(magnitude.size, dtype=SOURCE_DTYPE)
    stars["code"] = STAR_CODE
    stars["mag_z"] = magnitude
    stars["axis_ratio"] = 1.0
    _place(rng, brick, stars)
    colours = populations.draw_star_colours(rng, magnitude)
    stars["flux"] = 10 ** (-0.4 * (magnitude[:, None] + colours - 22.5))
    return stars
