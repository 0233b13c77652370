"""Lists of objects to take: sweep files of the survey, or any table of ids or of positions.

A list is read once a process, three columns of it, and found again by path, size and time. It keeps
16 bytes an object (24 for positions), so a sweep file of a million rows costs 16 MB; of a folder of
sweep files only the few that a brick needs are kept. Rules about objects are in
`storage.selection`; what a sweep says of an object is read by `storage.tractor`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from storage.brick_lists import sky_bricks
from storage.bricks import Brick, brick_from_id
from storage.errors import SchemaMismatch
from storage.sweeps import bricks_covered, sweeps_for
from storage.table_columns import (
    Version,
    column_names,
    file_version,
    iterate_columns,
    read_fits_rows,
)
from storage.tractor import CatalogueColumns, Tractor, from_columns

MOST_ROWS = 50_000_000  # of one file: 0.8 GB, as much as a worker can spare
_FILES_KEPT = 4  # the corner of four sweep boxes is the most that one brick needs
_SWEEP_COLUMNS = frozenset({"brickid", "objid", "type", "ra", "dec"})


@dataclass(frozen=True)
class Listed:
    """Which objects of a table are listed, and notes on what did not match."""

    mask: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ids:
    """Listed ids in order of brickid; ``row`` is the row in the file, ``release`` may be absent."""

    brickid: NDArray[np.int32]
    objid: NDArray[np.int32]
    row: NDArray[np.int32]
    release: NDArray[np.int32] | None

    def of_brick(self, brickid: int) -> slice:
        first, last = np.searchsorted(self.brickid, [brickid, brickid + 1])
        return slice(int(first), int(last))


@dataclass(frozen=True)
class _Places:
    """Listed positions [deg] in order of declination."""

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


def match_listed(table: pd.DataFrame, objects_from: str, radius_arcsec: float) -> Listed:
    """Tell which objects of one brick are in a list.

    Parameters
    ----------
    table : DataFrame
        Objects of one brick, with release, brickid, objid, ra and dec.
    objects_from : str
        A sweep file, a folder of sweep files, or a table (FITS, Parquet, CSV, ECSV) with brickid
        and objid, and perhaps release, or else with ra and dec [deg].
    radius_arcsec : float
        Farthest that an object may be from a listed position. Of several, the nearest is meant.

    Raises
    ------
    BrickNotFound, SchemaMismatch, CorruptFile
        When the list is absent, has neither kind of columns, is too long or cannot be read.
    """
    if table.empty:
        return Listed(np.zeros(0, bool))
    mask = np.zeros(len(table), bool)
    notes: list[str] = []
    missing = 0
    for path in _files_for(objects_from, table):
        listed = _read_list(*file_version(path))
        if isinstance(listed, _Ids):
            found, absent = _match_ids(table, listed, notes)
        else:
            found, absent = _match_places(table, listed, radius_arcsec)
        mask |= found
        missing += absent
    if missing:
        notes.append(f"{missing} listed objects of the brick are not in its catalogue")
    return Listed(mask, tuple(notes))


def listed_bricks(objects_from: str, areas: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which bricks may hold listed objects.

    Parameters
    ----------
    objects_from : str
        As for `match_listed`. For a folder of sweep files only their names are looked at.
    areas : DataFrame
        See `storage.brick_lists.brick_areas`.
    """
    source = Path(objects_from)
    if source.is_dir():
        return bricks_covered(source, areas)
    listed = _read_list(*file_version(source))
    if isinstance(listed, _Ids):
        return np.asarray(np.isin(areas["brickid"].to_numpy(), listed.brickid))
    return np.asarray(np.isin(areas["brickid"].to_numpy(), _bricks_at(listed.ra, listed.dec)))


def sweep_catalogue(objects_from: str, brick: Brick, bands: Sequence[str]) -> Tractor | None:
    """Return what sweep files say of the objects of a brick, for a brick without tractor table.

    Parameters
    ----------
    objects_from : str
        A sweep file or a folder of sweep files; another list has no catalogue to give.
    brick : Brick
    bands : sequence of str
        Bands of the per-band columns.

    Returns
    -------
    Tractor or None
        None where the list is no sweep, or has no object of the brick.
    """
    source = Path(objects_from)
    paths = sweeps_for(source, brick) if source.is_dir() else (source,)
    parts = []
    for path in paths:
        if not _is_sweep(*file_version(path)):
            return None
        listed = _read_list(*file_version(path))
        if isinstance(listed, _Ids):
            rows = np.sort(listed.row[listed.of_brick(brick.brickid)])
            if len(rows):
                columns, header = read_fits_rows(path, rows)
                parts.append(from_columns(CatalogueColumns(path, columns, header), brick, bands))
    if not parts:
        return None
    table = pd.concat([part.table for part in parts], ignore_index=True)
    names = ", ".join(path.name for path in paths)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Tractor(table, (f"objects and columns from {names}", *notes))


def _files_for(objects_from: str, table: pd.DataFrame) -> tuple[Path, ...]:
    path = Path(objects_from)
    return (
        sweeps_for(path, brick_from_id(int(table["brickid"].iloc[0]))) if path.is_dir() else (path,)
    )


def _match_ids(
    table: pd.DataFrame, listed: _Ids, notes: list[str]
) -> tuple[NDArray[np.bool_], int]:
    part = listed.of_brick(int(table["brickid"].iloc[0]))
    objid = table["objid"].to_numpy()
    found = np.isin(objid, listed.objid[part])
    if listed.release is not None and part.stop > part.start:
        ours, theirs = table["release"].to_numpy(), listed.release[part]
        key = objid * 100_000 + ours
        found = np.isin(key, listed.objid[part].astype(np.int64) * 100_000 + theirs)
        if not np.isin(theirs, ours).any():
            notes.append(
                f"the list is of release {sorted(set(theirs.tolist()))}, the catalogue of "
                f"{sorted(set(ours.tolist()))}: nothing matches; list objects of this release"
            )
    return found, part.stop - part.start - int(np.count_nonzero(found))


def _match_places(
    table: pd.DataFrame, listed: _Places, radius_arcsec: float
) -> tuple[NDArray[np.bool_], int]:
    mask = np.zeros(len(table), bool)
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    placed = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if not len(placed):
        return mask, 0
    margin = radius_arcsec / 3600.0
    low, high = dec[placed].min() - margin, dec[placed].max() + margin
    near = slice(*np.searchsorted(listed.dec, [low, high]).tolist())
    tree = KDTree(_unit_vectors(ra[placed], dec[placed]))
    chord = 2 * np.sin(np.radians(margin) / 2)
    distance, index = tree.query(
        _unit_vectors(listed.ra[near], listed.dec[near]), distance_upper_bound=chord
    )
    mask[placed[index[np.isfinite(distance)]]] = True
    owner = _bricks_at(listed.ra[near], listed.dec[near])
    own = owner == int(table["brickid"].iloc[0])
    return mask, int(np.count_nonzero(own & ~np.isfinite(distance)))


def _unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    longitude, latitude = np.radians(ra), np.radians(dec)
    flat = np.cos(latitude)
    return np.column_stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)])


def _bricks_at(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the brickid whose primary area holds each position; bricks are in rows of Dec."""
    sky = sky_bricks()
    starts = np.flatnonzero(np.diff(sky["dec1"], prepend=-np.inf))
    columns = np.diff([*starts, len(sky["brickid"])])
    row = np.searchsorted(sky["dec1"][starts], dec, side="right") - 1
    column = (np.mod(ra, 360.0) / 360.0 * columns[row]).astype(np.int64)
    return np.asarray(sky["brickid"][starts[row] + np.minimum(column, columns[row] - 1)])


@lru_cache(maxsize=_FILES_KEPT)
def _read_list(path: Path, version: Version) -> _Ids | _Places:
    """Read the columns of a list; ``version`` makes a changed file be read again."""
    available = {name.lower(): name for name in column_names(path)}
    if {"brickid", "objid"} <= available.keys():
        wanted = [name for name in ("brickid", "objid", "release") if name in available]
        values = _columns(path, [available[name] for name in wanted], np.int32)
        order = np.argsort(values[0], kind="stable").astype(np.int32)
        release = values[2][order] if "release" in available else None
        return _Ids(values[0][order], values[1][order], order, release)
    if {"ra", "dec"} <= available.keys():
        ra, dec = _columns(path, [available["ra"], available["dec"]], np.float64)
        if not (np.isfinite(ra).all() and (np.abs(dec) <= 90).all()):
            raise SchemaMismatch(f"{path}: positions that are none; give degrees, dec in -90..+90")
        order = np.argsort(dec, kind="stable").astype(np.int32)
        return _Places(ra[order], dec[order])
    raise SchemaMismatch(
        f"{path}: neither brickid and objid nor ra and dec among its columns; rename them"
    )


def _columns(path: Path, names: Sequence[str], dtype: type) -> list[NDArray[Any]]:
    parts: list[list[NDArray[Any]]] = [[] for _ in names]
    rows = 0
    for block in iterate_columns(path, names):
        rows += len(block[names[0]])
        if rows > MOST_ROWS:
            raise SchemaMismatch(
                f"{path}: more than {MOST_ROWS} rows; split it as sweep files, give their folder"
            )
        for part, name in zip(parts, names, strict=True):
            part.append(block[name].astype(dtype))
    return [np.concatenate(part) if part else np.empty(0, dtype) for part in parts]


@lru_cache(maxsize=_FILES_KEPT)
def _is_sweep(path: Path, version: Version) -> bool:
    is_fits = path.name.lower().endswith((".fits", ".fits.gz", ".fit"))
    return is_fits and {name.lower() for name in column_names(path)} >= _SWEEP_COLUMNS
