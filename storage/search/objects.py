"""Objects of a survey by row, by identifier and by place on the sky."""

from dataclasses import dataclass

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd

from storage import arrays
from storage.brick_store import ledger, read_objects
from storage.bricks import brick_at, neighbours
from storage.catalogue import ID_COLUMNS, format_object_id
from storage.errors import StorageError
from storage.schema import OBJECT_COLUMNS

ARCSEC = 3600.0  # in a degree


class ObjectNotFound(StorageError, LookupError):
    """No object of the survey has this identifier or place."""


@dataclass(frozen=True)
class FoundObject:
    """An object of a survey: its row on the object axis, its identifier and its place [deg]."""

    row: int
    object_id: str
    ra: float
    dec: float


def objects_at(
    session: icechunk.Session, survey_key: str, rows: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """Return identifiers and places of some rows, in the order given, with their ``object_id``.

    Returns
    -------
    DataFrame
        ``row``, ``object_id`` and the columns of every object.
    """
    group = arrays.open_group(session, survey_key)
    unique, back = np.unique(rows, return_inverse=True)
    columns = {
        name: arrays.pick_rows(arrays.get_array(group, name), unique)[back]
        for name in OBJECT_COLUMNS
    }
    ids = zip(columns["release"], columns["brickid"], columns["objid"], strict=True)
    names = [format_object_id(int(a), int(b), int(c)) for a, b, c in ids]
    return pd.DataFrame({"row": rows, "object_id": names, **columns})


def find_by_id(
    session: icechunk.Session, survey_key: str, key: tuple[int, int, int]
) -> FoundObject:
    """Find an object by release, brickid and objid.

    Raises
    ------
    ObjectNotFound
        When the survey has no such object.
    """
    release, brickid, objid = key
    known = ledger(session, survey_key, ("brickid",))["brickid"]
    table = _read(session, survey_key, [str(name) for name in known.index[known == brickid]])
    same = (table["objid"] == objid) & (table["release"] == release)
    if not same.any():
        raise ObjectNotFound(
            f"object {format_object_id(*key)} is not in {survey_key}: its brick is not ingested, "
            "or the selection left it out"
        )
    return _found(table[same])


def find_nearest(
    session: icechunk.Session, survey_key: str, ra: float, dec: float, radius_arcsec: float
) -> FoundObject:
    """Find the object nearest to a place.

    Parameters
    ----------
    ra, dec : float
        [deg]
    radius_arcsec : float
        How far it may be.

    Raises
    ------
    ObjectNotFound
        When none is so near.
    """
    if not (0 <= ra < 360 and -90 <= dec <= 90):
        raise ObjectNotFound(f"ra {ra}, dec {dec}: give degrees, 0 <= ra < 360, -90 <= dec <= 90")
    home = brick_at(ra, dec)
    names = [home.brickname, *(brick.brickname for brick in neighbours(home))]
    table = _read(session, survey_key, names)
    east = ((table["ra"].to_numpy() - ra + 180) % 360 - 180) * np.cos(np.deg2rad(dec))
    separation = ARCSEC * np.hypot(east, table["dec"].to_numpy() - dec)
    if not len(table) or separation.min() > radius_arcsec:
        nearest = f"the nearest is {separation.min():.1f} arcsec away" if len(table) else "none"
        raise ObjectNotFound(
            f"no object of {survey_key} within {radius_arcsec:g} arcsec of {ra}, {dec} ({nearest})"
        )
    return _found(table.iloc[[int(separation.argmin())]])


def _read(session: icechunk.Session, survey_key: str, names: list[str]) -> pd.DataFrame:
    return read_objects(session, survey_key, bricknames=names, catalogue=False)


def _found(table: pd.DataFrame) -> FoundObject:
    first = {name: table[name].to_numpy()[0] for name in ("row", "ra", "dec", *ID_COLUMNS)}
    return FoundObject(
        row=int(first["row"]),
        object_id=format_object_id(*(int(first[name]) for name in ID_COLUMNS)),
        ra=float(first["ra"]),
        dec=float(first["dec"]),
    )
