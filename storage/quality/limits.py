"""What a survey in the store has to meet: numbers, each with the reason for it."""

from dataclasses import dataclass, field

from storage.errors import SchemaMismatch


@dataclass(frozen=True)
class Limit:
    """The largest value without a warning, and the largest that passes at all."""

    warn: float
    fail: float

    def __post_init__(self) -> None:
        if not 0 <= self.warn <= self.fail:
            raise SchemaMismatch(
                f"limit warn={self.warn}, fail={self.fail}: give 0 <= warn <= fail"
            )


@dataclass(frozen=True)
class BandLimit:
    """A value for each band; a band that is not listed is not held against anything."""

    u: float | None = None
    g: float | None = None
    r: float | None = None
    i: float | None = None
    z: float | None = None
    Y: float | None = None

    def of(self, band: str) -> float | None:
        """Return the value of a band."""
        value: float | None = getattr(self, band, None)
        return value


@dataclass(frozen=True)
class QualityLimits:
    """Limits of the quality gates.

    A `Limit` is on the fraction of bricks (or objects) that miss what a single value asks for.

    Parameters
    ----------
    failed : Limit
        Bricks that could not be read. One is worth a look; above 1 % something is wrong with the
        source or the disk.
    quarantined : Limit
        Bricks whose files contradict one another. About 2 % of DR10 were synchronised while they
        were written, so 5 % still passes.
    unmeasured : Limit
        Written bricks without measurements in their receipts: older ingests do not have them.
    absent : Limit
        Bricks of the bricks table that the store lacks. A warning until the ingest is complete.
    miscounted : Limit
        Bricks with another number of primary objects than the table says by more than
        ``count_tolerance``. The table was made of the same catalogues: they have to agree.
    count_tolerance : float
        Relative; 1 % lets bricks pass that the survey ran again after it made the table.
    depth_least : BandLimit
        Least 5-sigma point-source depth [AB mag]: what the survey was designed for (DESI imaging
        requirements g 24.0, r 23.4, z 22.5; i as DR10 has it in the shallowest parts).
    shallow : Limit
        Bricks below it. The footprint's borders are shallow, a tenth of it is not.
    depth_tolerance : float
        [mag] by which the depth of the pixels may differ from those of the catalogue and of the
        bricks table. On real bricks it is 0.002 mag; masks and varying exposures make it more.
    depth_off : Limit
        Bricks beyond it.
    psfsize_most : BandLimit
        Widest FWHM [arcsec]. The survey kept exposures to 2.5, BASS in g to 3.
    blurred : Limit
        Bricks beyond it.
    with_data_least : float
        Fraction of a brick's pixels that have data, in a band with any.
    empty_pixels : Limit
        Bricks below it, at the footprint's borders.
    no_band : Limit
        Bricks without any data in a band. DR10 lacks i in large parts, so only all of it fails.
    not_finite_most : float
        Fraction of a brick's pixels that were no numbers; coadds have none.
    not_finite : Limit
        Bricks beyond it.
    masked_most : float
        Fraction of a brick's pixels under a bad bit; the halo of a naked-eye star fills a brick.
    masked : Limit
        Bricks beyond it.
    chi_least, chi_most : float
        Noise of blank pixels in units of what invvar promises: 0.86 to 0.97 on real bricks, since
        resampling smooths. Outside, the weights have another unit than the pixels.
    noise_off : Limit
        Bricks outside.
    background_most : float
        Median of unmasked pixels in units of their noise; more is a sky that was not subtracted.
    background_off : Limit
        Bricks beyond it.
    edge_losses : Limit
        Selected objects without a cutout. No 152-pixel cutout leaves its brick below |Dec| 74.
    separation_arcsec : float
        Objects of different bricks closer than this are one source twice.
    duplicates : Limit
        Objects in such pairs. A source within some 0.02 arcsec of a border may belong to both of
        its bricks: 1 in 50,000.
    outside : Limit
        Objects outside the primary area of their brick; there should be none.
    flux_missing : Limit
        Objects, of a sample, without a flux in a band that has data.
    outlier_sigmas : float
        Robust z-score from which a brick stands out: one in 1e9 of a normal distribution, so all
        that are found in 366,898 bricks have a cause.
    outliers : Limit
        Bricks that stand out in anything.
    """

    failed: Limit = Limit(0.0, 0.01)
    quarantined: Limit = Limit(0.0, 0.05)
    unmeasured: Limit = Limit(0.0, 1.0)
    absent: Limit = Limit(0.0, 1.0)
    miscounted: Limit = Limit(0.0, 0.02)
    count_tolerance: float = 0.01
    depth_least: BandLimit = field(
        default_factory=lambda: BandLimit(g=24.0, r=23.4, i=22.8, z=22.5)
    )
    shallow: Limit = Limit(0.1, 0.5)
    depth_tolerance: float = 0.3
    depth_off: Limit = Limit(0.02, 0.1)
    psfsize_most: BandLimit = field(default_factory=lambda: BandLimit(g=3.0, r=2.5, i=2.5, z=2.5))
    blurred: Limit = Limit(0.02, 0.2)
    with_data_least: float = 0.9
    empty_pixels: Limit = Limit(0.1, 0.5)
    no_band: Limit = Limit(0.05, 0.999)
    not_finite_most: float = 1e-4
    not_finite: Limit = Limit(0.0, 0.01)
    masked_most: float = 0.5
    masked: Limit = Limit(0.01, 0.1)
    chi_least: float = 0.5
    chi_most: float = 1.5
    noise_off: Limit = Limit(0.01, 0.1)
    background_most: float = 0.5
    background_off: Limit = Limit(0.02, 0.2)
    edge_losses: Limit = Limit(0.001, 0.05)
    separation_arcsec: float = 1.0
    duplicates: Limit = Limit(1e-4, 1e-3)
    outside: Limit = Limit(0.0, 1e-4)
    flux_missing: Limit = Limit(0.01, 0.1)
    outlier_sigmas: float = 6.0
    outliers: Limit = Limit(0.01, 0.1)

    def __post_init__(self) -> None:
        if self.separation_arcsec <= 0 or self.outlier_sigmas <= 0:
            raise SchemaMismatch("separation_arcsec and outlier_sigmas have to be positive")
