"""Which objects of a brick get a cutout, and why the others do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.errors import SchemaMismatch
from storage.footprint import outside
from storage.maskbits import MaskBit
from storage.object_lists import match_listed
from storage.photometry import deredden, flux_to_mag
from storage.sweeps import sweep_files
from storage.table_columns import file_version
from storage.tractor import ObjectType

_DEEPEST_ORDER = 29  # of a HEALPix cell in 64 bits
_DEEPEST_BIT = 23  # the store keeps MASKBITS of objects as float32, exact below 2**24
_RED_TO_BLUE = ("Y", "z", "i", "r", "g", "u")


@dataclass(frozen=True)
class Selection:
    """Rules for objects; the default is the cut of Stein et al. 2021 on primary galaxies.

    All rules hold together, and every rule counts what it leaves out. There is no limit on the
    objects of a whole survey: bricks are read one by one, in any order, now and in later runs, so
    such a limit would make the content of a brick depend on the others. Give a limit a brick, a
    footprint or a list of objects instead.

    Parameters
    ----------
    max_mag : float or None
        Keep objects brighter than this dereddened AB magnitude; None keeps every flux.
    mag_band : str
        Band of ``max_mag``. Where it measures less than half as many objects of the brick as
        another band does, the band that measures most is used, and a note says so.
    exclude_types : tuple of str
        Object types to leave out; DUP has no flux.
    primary_only : bool
        Leave out objects of the overlap that a neighbouring brick owns.
    max_objects : int or None
        Keep the brightest ones only, of every brick.
    ra_range, dec_range : (float, float) or None
        Limits [deg]; a RA range may cross 0 as (359, 1).
    include_types : tuple of str
        Keep only these types; empty keeps all but ``exclude_types``.
    min_nobs : int, or tuple of (band, int), or None
        Fewest exposures at the object (NOBS): in every band, or in the bands named.
    exclude_maskbits : tuple of str or int
        Names (`storage.maskbits.MaskBit`) or numbers of bits of the catalogue's MASKBITS; an object
        with any of them is left out.
    moc : str or None
        File of a MOC (FITS, JSON or text) that objects must be in.
    healpix : str, tuple of int or None
        HEALPix cells that objects must be in: a file (one number a line, or a table with a column
        PIXEL), or the cells themselves.
    healpix_order : int or None
        Order of the cells, where the header of the file does not say it.
    healpix_nested : bool
        Numbering of the cells, likewise; False is RING.
    objects_from : str or None
        Keep only listed objects: a sweep file, a folder of sweep files, or a table with brickid and
        objid (and perhaps release), or with ra and dec. See `storage.object_lists`.
    match_arcsec : float
        How far an object may be from a listed position.
    """

    max_mag: float | None = 20.0
    mag_band: str = "z"
    exclude_types: tuple[str, ...] = ("PSF", "DUP")
    primary_only: bool = True
    max_objects: int | None = None
    ra_range: tuple[float, float] | None = None
    dec_range: tuple[float, float] | None = None
    include_types: tuple[str, ...] = ()
    min_nobs: int | tuple[tuple[str, int], ...] | None = None
    exclude_maskbits: tuple[str | int, ...] = ()
    moc: str | None = None
    healpix: str | tuple[int, ...] | None = None
    healpix_order: int | None = None
    healpix_nested: bool = True
    objects_from: str | None = None
    match_arcsec: float = 1.0

    def __post_init__(self) -> None:
        for field, names in (
            ("exclude_types", self.exclude_types),
            ("include_types", self.include_types),
        ):
            if unknown := [name for name in names if name not in ObjectType.__members__]:
                raise SchemaMismatch(
                    f"{field} {', '.join(unknown)}: unknown; choose from "
                    f"{', '.join(ObjectType.__members__)}"
                )
        if both := set(self.include_types) & set(self.exclude_types):
            raise SchemaMismatch(f"{', '.join(sorted(both))}: included and excluded; choose one")
        if self.max_objects is not None and self.max_objects < 1:
            raise SchemaMismatch(f"max_objects {self.max_objects}: give 1 or more, or None")
        if self.match_arcsec <= 0:
            raise SchemaMismatch(f"match_arcsec {self.match_arcsec}: give more than 0")
        self._check_cells()
        bits_of(self.exclude_maskbits)

    def _check_cells(self) -> None:
        if self.healpix_order is not None and not 0 <= self.healpix_order <= _DEEPEST_ORDER:
            raise SchemaMismatch(f"healpix_order {self.healpix_order}: give 0 to {_DEEPEST_ORDER}")
        if self.healpix == () or (isinstance(self.healpix, tuple) and self.healpix_order is None):
            raise SchemaMismatch("healpix: give cells and their healpix_order, or leave both out")


def bits_of(bits: Sequence[str | int]) -> dict[str, int]:
    """Return ``{name: mask value}`` of bits given by name or number.

    Raises
    ------
    SchemaMismatch
        When a name or number is none of the catalogue's MASKBITS.
    """
    found = {}
    for bit in bits:
        if isinstance(bit, str) and bit in MaskBit.__members__:
            found[bit] = int(MaskBit[bit])
        elif isinstance(bit, int) and 0 <= bit <= _DEEPEST_BIT:
            found[MaskBit(1 << bit).name or f"bit_{bit}"] = 1 << bit
        else:
            raise SchemaMismatch(
                f"exclude_maskbits {bit!r}: give a number 0 to {_DEEPEST_BIT} or one of "
                f"{', '.join(MaskBit.__members__)}"
            )
    return found


def external_files(selection: Selection) -> tuple[Path, ...]:
    """Return the files that a selection refers to; their contents decide what it selects.

    Raises
    ------
    BrickNotFound
        When one is not there.
    """
    single = [name for name in (selection.moc, selection.healpix) if isinstance(name, str)]
    files = [Path(name) for name in single]
    if selection.objects_from is not None:
        listed = Path(selection.objects_from)
        files += sweep_files(listed) if listed.is_dir() else (listed,)
    return tuple(file_version(path)[0] for path in files)


@dataclass(frozen=True)
class Selected:
    """The kept rows, how many rows each reason dropped, and notes for the receipt."""

    table: pd.DataFrame
    dropped: Mapping[str, int]
    notes: tuple[str, ...]


def select(table: pd.DataFrame, selection: Selection) -> Selected:
    """Apply a selection to a table of `storage.tractor`; a row counts for its first reason."""
    notes: list[str] = []
    dropped: dict[str, int] = {}
    keep = np.ones(len(table), bool)
    mag = _magnitudes(table, selection, notes)
    for reason, wrong in _reasons(table, selection, mag, notes).items():
        first = keep & wrong
        if first.any():
            dropped[reason] = int(np.count_nonzero(first))
        keep &= ~wrong
    limit = selection.max_objects
    if limit is not None and np.count_nonzero(keep) > limit:
        dropped["over_max_objects"] = int(np.count_nonzero(keep)) - limit
        kept = np.flatnonzero(keep)
        brightest = kept[np.argsort(np.nan_to_num(mag[kept], nan=np.inf), kind="stable")[:limit]]
        keep = np.zeros(len(table), bool)
        keep[brightest] = True
    return Selected(table[keep].reset_index(drop=True), dropped, tuple(notes))


def _reasons(
    table: pd.DataFrame, selection: Selection, mag: NDArray[np.float64], notes: list[str]
) -> dict[str, NDArray[np.bool_]]:
    """Return which rows each reason drops, in the order in which they are counted."""
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    types = table["type"].to_numpy()
    reasons = {"no_position": ~(np.isfinite(ra) & np.isfinite(dec))}
    for name in _dropped_types(selection):
        reasons[f"type_{name}"] = types == ObjectType[name]
    if selection.primary_only:
        reasons["not_primary"] = ~table["brick_primary"].to_numpy(bool)
    reasons |= outside(selection, ra, dec)
    if selection.objects_from is not None:
        listed = match_listed(table, selection.objects_from, selection.match_arcsec)
        reasons["not_listed"] = ~listed.mask
        notes += listed.notes
    reasons |= _observed(table, selection)
    reasons |= _masked(table, selection)
    if selection.max_mag is not None:
        reasons["no_flux"] = ~np.isfinite(mag)
        reasons["too_faint"] = mag >= selection.max_mag
    return reasons


def _dropped_types(selection: Selection) -> list[str]:
    included = selection.include_types or tuple(ObjectType.__members__)
    return [
        name
        for name in ObjectType.__members__
        if name in selection.exclude_types or name not in included
    ]


def _observed(table: pd.DataFrame, selection: Selection) -> dict[str, NDArray[np.bool_]]:
    """Return which rows have too few exposures, and which have an unknown number of them."""
    fewest = selection.min_nobs
    if fewest is None:
        return {}
    if isinstance(fewest, int):
        names = map(str, table.columns)
        bands = [name.removeprefix("nobs_") for name in names if name.startswith("nobs_")]
        fewest = tuple((band, fewest) for band in bands)
    reasons = {}
    for band, least in fewest:
        if f"nobs_{band}" not in table:
            raise SchemaMismatch(
                f"min_nobs of band {band}: the bands of the ingest lack it; add it"
            )
        nobs = table[f"nobs_{band}"].to_numpy(np.float64)
        reasons[f"nobs_{band}_unknown"] = np.isnan(nobs)
        reasons[f"nobs_{band}_below_{least}"] = nobs < least
    return reasons


def _masked(table: pd.DataFrame, selection: Selection) -> dict[str, NDArray[np.bool_]]:
    """Return which rows have an excluded bit of MASKBITS, and which have no MASKBITS."""
    bits = bits_of(selection.exclude_maskbits)
    if not bits:
        return {}
    values = table["maskbits"].to_numpy(np.float64)
    unknown = np.isnan(values)
    whole = np.where(unknown, 0, values).astype(np.int64)
    return {"maskbits_unknown": unknown} | {
        f"maskbits_{name}": (whole & bit) != 0 for name, bit in bits.items()
    }


def _magnitudes(table: pd.DataFrame, selection: Selection, notes: list[str]) -> NDArray[np.float64]:
    """Return dereddened magnitudes in the selection's band, or in the one with most objects."""
    counts = {band: _measured(table, band) for band in _RED_TO_BLUE}
    band, most = selection.mag_band, max(counts, key=lambda name: counts[name])
    if not counts[most]:
        if len(table):
            notes.append("catalogue without flux in any band read: no object has a magnitude")
        return np.full(len(table), np.nan)
    if counts.get(band, 0) < 0.5 * counts[most]:
        notes.append(
            f"band {band} measures {counts.get(band, 0)} of {len(table)} objects: "
            f"selected on band {most}, which measures {counts[most]}"
        )
        band = most
    flux = table[f"flux_{band}"].to_numpy(np.float64)
    transmission = table[f"mw_transmission_{band}"].to_numpy(np.float64)
    if np.isnan(transmission).all():
        notes.append(f"no extinction in band {band}: magnitudes are not dereddened")
    return flux_to_mag(deredden(flux, np.where(np.isnan(transmission), 1.0, transmission)))


def _measured(table: pd.DataFrame, band: str) -> int:
    """Count the objects that the catalogue measured; flux 0 with ivar 0 means it did not."""
    if f"flux_{band}" not in table:
        return 0
    flux = table[f"flux_{band}"].to_numpy()
    ivar = table[f"flux_ivar_{band}"].to_numpy()
    return int(np.count_nonzero(np.isfinite(flux) & (flux != 0) & ~(ivar <= 0)))
