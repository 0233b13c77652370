"""Divide objects into train, val and test by sky cell, the same for ever.

An object's split depends on its own position (or id) and on the configuration only, so adding
bricks moves nobody. All objects of a HEALPix cell are in one split, so that neighbours which share
pixels are not trained on and tested on, but for those across the border of a cell.
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

SPLIT_NAMES = ("train", "val", "test")
MAX_HEALPIX_ORDER = 29


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
    """

    healpix_order: int = 10
    train: float = 0.6
    val: float = 0.2
    test: float = 0.2
    salt: str = "brickyard-1"

    def __post_init__(self) -> None:
        fractions = (self.train, self.val, self.test)
        if min(fractions) < 0 or not np.isclose(sum(fractions), 1.0):
            raise SchemaMismatch(f"split fractions {fractions}: give three that add up to 1")
        if not 0 <= self.healpix_order <= MAX_HEALPIX_ORDER:
            raise SchemaMismatch(
                f"healpix_order {self.healpix_order}: give 0 to {MAX_HEALPIX_ORDER}"
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
        "train", "val" or "test".
    """
    keys = _cell_keys(np.asarray(ra, np.float64), np.asarray(dec, np.float64), ids, config)
    names, inverse = np.unique(keys, return_inverse=True)
    position = np.array([_unit_hash(str(name), config.salt) for name in names], dtype=np.float64)
    edges = np.array([config.train, config.train + config.val])
    of_name = np.searchsorted(edges, position, side="right")
    return np.array(SPLIT_NAMES)[of_name[inverse]]


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
    cells = sky_cells(ra[known], dec[known], config.healpix_order)
    keys[known] = [f"cell:{config.healpix_order}:{cell}" for cell in cells.tolist()]
    return keys


def _unit_hash(key: str, salt: str) -> float:
    raw = hashlib.blake2b(f"{salt}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") / 2**64
