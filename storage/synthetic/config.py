"""What a synthetic release contains: one frozen dataclass, validated when it is made.

It does not render anything and it does not know galsim, so it may be imported anywhere.
"""

from dataclasses import dataclass

MORPHOLOGY_CLASSES = ("elliptical", "edge-on", "spiral", "other")
"""The classes of the morphology truth, in the order of class codes and of vote columns."""

SYNTHETIC_BANDS = ("g", "r", "i", "z")
"""Every band that the pretend sky has fluxes in; a release may hold a subset."""

MINIMUM_BRICK_SIZE = 200
"""Smallest allowed brick side [pixels]: below it the overlap margins (82 pixels) are the brick."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Describe a synthetic release.

    Parameters
    ----------
    bricks : tuple of str
        Official brick names to write. Empty: `count` adjoining bricks near the equator.
    count : int
        Number of bricks when `bricks` is empty; they fill 2x2 blocks, so that neighbours overlap.
    seed : int
        Seed of the sky and of every exposure. Same seed, same files, in any order of bricks.
    brick_size : int
        Side of the written images [pixels]; 3600 is the survey's. A smaller brick is a crop of the
        official image, placed in the corner nearest to the other three bricks of its 2x2 block
        (so they still overlap); its header keeps the official WCS with a shifted CRPIX.
    bands : tuple of str
        Subset of g, r, i, z.
    density : float
        Multiplier of the real number of galaxies with 15 < z < 20 (3800 per square degree).
    star_density : float
        Multiplier of the number of stars at high Galactic latitude.
    bright_tilt : float
        Flattening of the galaxy counts at z < 20 [dex per magnitude], number conserved. 0 is the
        real sky; 0.25 gives many resolved galaxies, as samples drawn evenly in magnitude have.
    artefact_rate : float
        Multiplier of cosmic rays, satellite trails and chip gaps; 0 for a clean image.
    region : str
        Region of the release (the pretend release is DR10, code 10000).
    processes : int
        Bricks rendered at a time; 1 stays in this process.
    """

    bricks: tuple[str, ...] = ()
    count: int = 2
    seed: int = 0
    brick_size: int = 3600
    bands: tuple[str, ...] = ("g", "r", "z")
    density: float = 1.0
    star_density: float = 1.0
    bright_tilt: float = 0.0
    artefact_rate: float = 1.0
    release: str = "dr10"
    region: str = "south"
    processes: int = 2

    def __post_init__(self) -> None:
        unknown = [band for band in self.bands if band not in SYNTHETIC_BANDS]
        if unknown or not self.bands:
            raise ValueError(
                f"SyntheticConfig.bands={self.bands!r}: use one or more of {SYNTHETIC_BANDS}."
            )
        if not MINIMUM_BRICK_SIZE <= self.brick_size <= 3600:
            raise ValueError(
                f"SyntheticConfig.brick_size={self.brick_size}: choose "
                f"{MINIMUM_BRICK_SIZE} to 3600 pixels."
            )
        if not self.bricks and self.count < 1:
            raise ValueError(f"SyntheticConfig.count={self.count}: at least one brick is needed.")
        negative = [
            name
            for name in ("density", "star_density", "bright_tilt", "artefact_rate", "seed")
            if getattr(self, name) < 0
        ]
        if negative:
            raise ValueError(f"SyntheticConfig: {', '.join(negative)} must not be negative.")
        if self.processes < 1:
            raise ValueError(f"SyntheticConfig.processes={self.processes}: at least 1 is needed.")
