"""Which objects of a brick get a cutout, and why the others do not."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.errors import SchemaMismatch
from storage.photometry import deredden, flux_to_mag
from storage.tractor import ObjectType

_RED_TO_BLUE = ("Y", "z", "i", "r", "g", "u")


@dataclass(frozen=True)
class Selection:
    """Rules for objects; the default is the cut of Stein et al. 2021 on primary galaxies.

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
        Keep the brightest ones only.
    ra_range, dec_range : (float, float) or None
        Limits [deg]; a RA range may cross 0 as (359, 1).
    """

    max_mag: float | None = 20.0
    mag_band: str = "z"
    exclude_types: tuple[str, ...] = ("PSF", "DUP")
    primary_only: bool = True
    max_objects: int | None = None
    ra_range: tuple[float, float] | None = None
    dec_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.exclude_types if name not in ObjectType.__members__]
        if unknown:
            raise SchemaMismatch(
                f"exclude_types {', '.join(unknown)}: unknown; choose from "
                f"{', '.join(ObjectType.__members__)}"
            )
        if self.max_objects is not None and self.max_objects < 1:
            raise SchemaMismatch(f"max_objects {self.max_objects}: give 1 or more, or None")


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
    for reason, wrong in _reasons(table, selection, mag).items():
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
    table: pd.DataFrame, selection: Selection, mag: NDArray[np.float64]
) -> dict[str, NDArray[np.bool_]]:
    """Return which rows each reason drops, in the order in which they are counted."""
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    types = table["type"].to_numpy()
    reasons = {"no_position": ~(np.isfinite(ra) & np.isfinite(dec))}
    for name in selection.exclude_types:
        reasons[f"type_{name}"] = types == ObjectType[name]
    if selection.primary_only:
        reasons["not_primary"] = ~table["brick_primary"].to_numpy(bool)
    if selection.ra_range is not None:
        low, high = selection.ra_range
        reasons["outside_ra_range"] = np.mod(ra - low, 360.0) > np.mod(high - low, 360.0)
    if selection.dec_range is not None:
        low, high = selection.dec_range
        reasons["outside_dec_range"] = (dec < low) | (dec > high)
    if selection.max_mag is not None:
        reasons["no_flux"] = ~np.isfinite(mag)
        reasons["too_faint"] = mag >= selection.max_mag
    return reasons


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
