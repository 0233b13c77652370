"""Divide objects into train, val and test by sky cell, the same for ever.

An object's split depends on its own position (or id) and on the configuration only, so adding
bricks moves nobody. All objects of a HEALPix cell are in one split, so that neighbours which share
pixels are not trained on and tested on, but for those across the border of a cell.

One source may be two objects, measured in two bricks some tenths of an arcsecond apart. Where the
border of a cell runs between such twins they would be in two splits. So objects beside a border
are in no split (`BORDER`), but for those on the side of the test split, which stays whole, and, at
a border of train and val, on the side of val.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy_healpix import HEALPix

from storage.errors import SchemaMismatch

SPLIT_NAMES = ("train", "val", "test")  # of two, the later one keeps the objects at their border
BORDER = "border"  # in no split
MAX_HEALPIX_ORDER = 29
# A corner of a cell that reaches within the border's width of an object holds one of so many points
# on a circle of twice that width, and so does any straight border.
_AROUND = 16
_CELL_OVER_BORDER = 8  # a cell is at least so many times as wide as the border around it
_BLOCK = 100_000  # objects whose surroundings are in memory together


@dataclass(frozen=True)
class SplitConfig:
    """How objects are divided.

    Parameters
    ----------
    healpix_order : int
        Order of the cells: 10 means cells of 3.4 arcmin, several times a cutout.
    train, val, test : float
        Fractions of the cells; they add up to 1.
    salt : str
        Another salt gives another division.
    border_arcsec : float
        Two objects closer than this are never in two splits. Twins are within 1 arcsec.
    """

    healpix_order: int = 10
    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    salt: str = "brickyard-1"
    border_arcsec: float = 1.0

    def __post_init__(self) -> None:
        fractions = (self.train, self.val, self.test)
        if min(fractions) < 0 or not np.isclose(sum(fractions), 1.0):
            raise SchemaMismatch(f"split fractions {fractions}: give three that add up to 1")
        if not 0 <= self.healpix_order <= MAX_HEALPIX_ORDER:
            raise SchemaMismatch(
                f"healpix_order {self.healpix_order}: give 0 to {MAX_HEALPIX_ORDER}"
            )
        width = 3600.0 * np.degrees(np.sqrt(np.pi / 3)) / 2**self.healpix_order
        if not 0 <= self.border_arcsec <= width / _CELL_OVER_BORDER:
            raise SchemaMismatch(
                f"border_arcsec {self.border_arcsec} around cells of {width:.3g} arcsec: give 0 to "
                f"{width / _CELL_OVER_BORDER:.3g}, or a smaller healpix_order"
            )


def assign_splits(
    ra: npt.NDArray[np.float64],
    dec: npt.NDArray[np.float64],
    ids: Sequence[str] | npt.NDArray[Any],
    config: SplitConfig,
) -> npt.NDArray[np.str_]:
    """Return the split of every object.

    Parameters
    ----------
    ra, dec : ndarray, shape (object,), float64 [deg]
        Position; NaN where it is unknown, as in image folders.
    ids : sequence of str
        Object ids, which decide for objects without a position.
    config : SplitConfig
        How to divide.

    Returns
    -------
    ndarray, shape (object,), str
        "train", "val", "test" or `BORDER`.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    ranks = _ranks(_cell_keys(ra, dec, ids, config), config)
    names = np.array([*SPLIT_NAMES, BORDER])
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    for start in range(0, len(known) if config.border_arcsec else 0, _BLOCK):
        block = known[start : start + _BLOCK]
        around = _surroundings(ra[block], dec[block], 2 * config.border_arcsec)
        cells = sky_cells(*around, config.healpix_order)
        beside = _ranks(_names_of(cells.ravel(), config), config).reshape(cells.shape)
        ranks[block[(beside > ranks[block]).any(axis=0)]] = len(SPLIT_NAMES)
    return names[ranks]


def sky_cells(
    ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], healpix_order: int
) -> npt.NDArray[np.int64]:
    """Return the HEALPix cell (nested) of finite positions [deg]."""
    grid = HEALPix(nside=2**healpix_order, order="nested")
    cells = grid.lonlat_to_healpix(np.asarray(ra) * units.deg, np.asarray(dec) * units.deg)
    return np.asarray(cells, dtype=np.int64)


def split_digest(
    ids: Sequence[str] | npt.NDArray[Any], splits: npt.NDArray[np.str_], config: SplitConfig
) -> str:
    """Return the hex digest of a division: who is where, in any order, and by which rule."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for line in sorted(f"{name}={split}\n" for name, split in zip(ids, splits, strict=True)):
        digest.update(line.encode())
    return digest.hexdigest()


def _cell_keys(
    ra: npt.NDArray[np.float64],
    dec: npt.NDArray[np.float64],
    ids: Sequence[str] | npt.NDArray[Any],
    config: SplitConfig,
) -> npt.NDArray[np.object_]:
    keys = np.array([f"id:{name}" for name in ids], dtype=object)
    if not len(ra) == len(dec) == len(keys):
        raise SchemaMismatch(
            f"{len(ra)} ra, {len(dec)} dec and {len(keys)} ids: give one of each an object"
        )
    known = np.isfinite(ra) & np.isfinite(dec)
    keys[known] = _names_of(sky_cells(ra[known], dec[known], config.healpix_order), config)
    return keys


def _names_of(cells: npt.NDArray[np.int64], config: SplitConfig) -> npt.NDArray[np.object_]:
    different, inverse = np.unique(cells, return_inverse=True)
    names = [f"cell:{config.healpix_order}:{cell}" for cell in different.tolist()]
    return np.array(names, dtype=object)[inverse]


def _ranks(keys: npt.NDArray[np.object_], config: SplitConfig) -> npt.NDArray[np.intp]:
    """Return the place in `SPLIT_NAMES` of the split of every key."""
    names, inverse = np.unique(keys, return_inverse=True)
    position = np.array([_unit_hash(str(name), config.salt) for name in names], dtype=np.float64)
    edges = np.array([config.train, config.train + config.val])
    return np.asarray(np.searchsorted(edges, position, side="right")[inverse])


def _surroundings(
    ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], radius_arcsec: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return positions [deg] on a circle around each position, shape (point, object)."""
    angle = np.linspace(0.0, 2 * np.pi, _AROUND, endpoint=False)[:, None]
    radius = np.radians(radius_arcsec / 3600.0)
    lon, lat = np.radians(ra), np.radians(dec)
    sine = np.sin(lat) * np.cos(radius) + np.cos(lat) * np.sin(radius) * np.cos(angle)
    around = np.arcsin(np.clip(sine, -1.0, 1.0))
    east = np.arctan2(
        np.sin(angle) * np.sin(radius) * np.cos(lat), np.cos(radius) - np.sin(lat) * sine
    )
    return np.degrees(lon + east) % 360.0, np.degrees(around)


def _unit_hash(key: str, salt: str) -> float:
    raw = hashlib.blake2b(f"{salt}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") / 2**64
