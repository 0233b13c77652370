"""Bricks: the official 0.25 degree tiling of the sky, names, neighbours and primary areas.

The geometry is recomputed here (as desiutil.brick does) and agrees with ``survey-bricks.fits.gz``:
721 rows in declination, 662,174 bricks. This module reads tables of bricks and lists the bricks on
disk; it opens no coadd.
"""

import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from storage.errors import BrickNotFound, CorruptFile, StorageError
from storage.legacysurvey import BRICK_NAME, BRICK_SIZE_PIXELS, PIXEL_SCALE_ARCSEC, survey_bases

BRICK_SIZE_DEG = 0.25
NUMBER_OF_BRICKS = 662_174  # official count
_ROWS = 721  # centres at -90, -89.75, ... +90
_FILE_OF_BRICK = re.compile(
    r"(?:(?:legacysurvey|decals)-(\d{4}[pm]\d{3})-(?:image|invvar|nexp|psfsize|maskbits)"
    r"|tractor(?:-i)?-(\d{4}[pm]\d{3})\.fits)"
)


@dataclass(frozen=True)
class Brick:
    """One brick: its name, number, centre and primary area [deg]."""

    brickname: str
    brickid: int
    ra: float
    dec: float
    ra1: float
    ra2: float
    dec1: float
    dec2: float

    def owns(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which positions [deg] are in the primary area: lower edges in, upper edges out."""
        ra, dec = _turned(ra), np.asarray(dec, np.float64)
        # Compared, never subtracted: a difference that is rounded gives the last number before an
        # edge to nobody.
        in_ra = (ra >= self.ra1) & (ra < self.ra2)
        below_top = (dec < self.dec2) | ((self.dec2 == 90.0) & (dec == 90.0))
        owned: NDArray[np.bool_] = in_ra & (dec >= self.dec1) & below_top
        return owned


def brick_at(ra: float, dec: float) -> Brick:
    """Return the brick whose primary area holds a position [deg].

    Examples
    --------
    >>> brick_at(112.6, 22.2).brickname
    '1126p222'
    """
    if not (np.isfinite(ra) and -90.0 <= dec <= 90.0):
        raise BrickNotFound(f"no brick at ra={ra}, dec={dec}; give degrees, dec in -90..+90")
    columns, _ = _columns()
    ra = float(_turned(ra))
    row = min(int(np.floor((dec + 90.0) / BRICK_SIZE_DEG + 0.5)), _ROWS - 1)
    if dec < row * BRICK_SIZE_DEG - 90.0 - BRICK_SIZE_DEG / 2:
        row -= 1  # the sum above was rounded up to the edge
    number = int(columns[row])
    column = int(ra / 360.0 * number)  # off by one when a product is rounded over the edge
    column += int(ra >= _edge(column + 1, number)) - int(ra < _edge(column, number))
    return _brick(row, column)


def brick_from_id(brickid: int) -> Brick:
    """Return the brick of a BRICKID, 1 at the south pole to 662,174 at the north pole."""
    if not 1 <= brickid <= NUMBER_OF_BRICKS:
        raise BrickNotFound(f"brickid {brickid} is not in 1..{NUMBER_OF_BRICKS}")
    _, first = _columns()
    row = int(np.searchsorted(first, brickid - 1, side="right")) - 1
    return _brick(row, brickid - 1 - int(first[row]))


def brick_from_name(brickname: str) -> Brick:
    """Return the brick of a name such as "1238p245"."""
    if BRICK_NAME.fullmatch(brickname) is None:
        raise BrickNotFound(f"{brickname!r} is no brick name; write it as '1238p245'")
    sign = 1.0 if brickname[4] == "p" else -1.0
    columns, _ = _columns()
    # A name truncates to 0.1 deg: two rows, and up to two columns of each, can be meant.
    low_dec = int(brickname[5:]) / 10.0
    for row in range(_ROWS):
        dec = row * BRICK_SIZE_DEG - 90.0
        if sign * dec < 0 or not -1e-6 <= abs(dec) - low_dec < 0.1 - 1e-6:
            continue
        width = 360.0 / int(columns[row])
        start = int(int(brickname[:4]) / 10.0 / width - 0.5)
        for column in range(max(start - 1, 0), min(start + 3, int(columns[row]))):
            brick = _brick(row, column)
            if brick.brickname == brickname:
                return brick
    raise BrickNotFound(f"no brick of the sky is called {brickname!r}; check the name")


def neighbours(brick: Brick) -> tuple[Brick, ...]:
    """Return the bricks that share an edge or a corner with ``brick``, in order of BRICKID."""
    columns, first = _columns()
    row = int(np.searchsorted(first, brick.brickid - 1, side="right")) - 1
    ids: set[int] = set()
    for other in range(max(row - 1, 0), min(row + 2, _ROWS)):
        number = int(columns[other])
        width = 360.0 / number
        # One part in 1e9 lets bricks that only touch count, whatever the rounding.
        low = int(np.floor(brick.ra1 / width - 1e-9))
        high = int(np.floor(brick.ra2 / width + 1e-9))
        span = range(number) if high - low + 1 >= number else range(low, high + 1)
        ids.update(int(first[other]) + column % number + 1 for column in span)
    return tuple(brick_from_id(brickid) for brickid in sorted(ids - {brick.brickid}))


def brick_wcs(brick: Brick, size_pixels: int = BRICK_SIZE_PIXELS) -> WCS:
    """Return the TAN projection of a brick's coadds: north up, the centre at the image centre."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [brick.ra, brick.dec]
    wcs.wcs.crpix = [(size_pixels + 1) / 2.0] * 2
    scale = PIXEL_SCALE_ARCSEC / 3600.0
    wcs.wcs.cd = [[-scale, 0.0], [0.0, scale]]
    wcs.array_shape = (size_pixels, size_pixels)
    wcs.wcs.set()
    return wcs


def read_survey_bricks(path: str | Path) -> pd.DataFrame:
    """Read a ``survey-bricks*.fits.gz`` table, with lower-case column names.

    Columns with more than one value a row are left out. In region tables ``brickid`` is put right
    from the name, because DR9 stores it as int16, which overflows.
    """
    path = Path(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            rows = hdus[1].data
            columns = {str(name): np.asarray(rows[name]) for name in rows.names}
    except FileNotFoundError as error:
        raise StorageError(f"{path}: no such table of bricks; fetch it from the release") from error
    except (OSError, EOFError, IndexError, AttributeError, ValueError, gzip.BadGzipFile) as error:
        raise CorruptFile(f"{path}: not a readable FITS table ({error}); fetch it again") from error
    table = pd.DataFrame(
        {name.lower(): _native(values) for name, values in columns.items() if values.ndim == 1}
    )
    if "brickname" not in table:
        raise CorruptFile(f"{path}: no column BRICKNAME; give a survey-bricks table")
    if "brickid" not in table or (table["brickid"] <= 0).any():
        table["brickid"] = [brick_from_name(name).brickid for name in table["brickname"]]
    return table


def discover_bricks(root: str | Path, region: str | None = None) -> list[str]:
    """List the names of the bricks with files under ``root``, in any supported layout."""
    names: set[str] = set()
    for base in survey_bases(root, region):
        folders = [base, base / "coadd", base / "tractor", base / "tractor-i"]
        for folder in folders:
            if folder.is_dir():
                names.update(_names_in(folder, depth=0 if folder == base else 1))
    for group in Path(root).iterdir():
        if group.is_dir() and re.fullmatch(r"\d{3}", group.name):
            names.update(_names_in(group, depth=0))
    return sorted(names)


def _names_in(folder: Path, depth: int) -> Iterator[str]:
    """Yield the brick names of files and folders; descend ``depth`` levels into AAA folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if BRICK_NAME.fullmatch(entry.name):
                    yield entry.name
                elif depth and re.fullmatch(r"\d{3}", entry.name):
                    yield from _names_in(Path(entry.path), depth - 1)
            elif match := _FILE_OF_BRICK.match(entry.name):
                yield match.group(1) or match.group(2)


@cache
def _columns() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bricks in each row, and the number of bricks south of each row."""
    dec = np.arange(_ROWS) * BRICK_SIZE_DEG - 90.0
    nearest_equator = np.abs(dec) - BRICK_SIZE_DEG / 2
    columns = 360.0 / BRICK_SIZE_DEG * np.cos(np.radians(nearest_equator))
    columns = (np.ceil(columns / 2.0) * 2).astype(np.int64)
    columns[[0, -1]] = 1  # one cap at each pole
    return columns, np.concatenate([[0], np.cumsum(columns)[:-1]])


def _edge(column: int, number: int) -> float:
    """Return the lower edge [deg] of a column of a row with this number of bricks."""
    return 360.0 * column / number


def _turned(ra: ArrayLike) -> NDArray[np.float64]:
    """Return right ascensions [deg] in 0 <= ra < 360, as bricks have them."""
    turned = np.mod(np.asarray(ra, np.float64), 360.0)
    found: NDArray[np.float64] = np.where(turned == 360.0, 0.0, turned)  # of -1e-20
    return found


def _brick(row: int, column: int) -> Brick:
    columns, first = _columns()
    dec = row * BRICK_SIZE_DEG - 90.0
    ra1, ra2 = (_edge(edge, int(columns[row])) for edge in (column, column + 1))
    ra = 0.5 * (ra1 + ra2)
    return Brick(
        brickname=_name(ra, dec),
        brickid=int(first[row]) + column + 1,
        ra=ra,
        dec=dec,
        ra1=ra1,
        ra2=ra2,
        dec1=max(dec - BRICK_SIZE_DEG / 2, -90.0),
        dec2=min(dec + BRICK_SIZE_DEG / 2, 90.0),
    )


def _name(ra: float, dec: float) -> str:
    """Truncate to 0.1 deg after rounding to 1e-4, as desiutil does, or 39.6 becomes 0395."""
    ra_tenths = round(ra * 1e4) // 1000
    dec_tenths = round(abs(dec) * 1e4) // 1000
    return f"{ra_tenths:04d}{'p' if dec >= 0 else 'm'}{dec_tenths:03d}"


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Return native byte order, and text without padding."""
    if values.dtype.kind in "SU":
        return np.char.strip(values.astype(str))
    return values.astype(values.dtype.newbyteorder("="))
