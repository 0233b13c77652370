"""Cutouts that leave their brick's image, completed with pixels of neighbouring bricks.

Coadds of neighbours lie in other tangent planes, turned by up to some degrees near the poles, so
what is outside the image is re-projected:

* image: quintic B-spline interpolation at the place of each pixel. For sources as wide as the
  survey's PSF (FWHM 1.1 arcsec, 4.2 pixels) it is off by less than 2e-4 of the peak. Pixel areas
  differ by parts in a million; no flux is rescaled.
* invvar and maskbits: those of the nearest pixel, at most 0.7 pixel away, so they are the survey's
  own values. Interpolation averages noise that pixels do not share: where that is white, the
  variance of stitched pixels is 0.70 to 1 times what invvar promises, 0.84 on average, and their
  noise is correlated. The coadds' own noise is correlated already, so it loses less.
* maskbits also get NPRIMARY: what is outside the image is another brick's sky.

Where planes agree to 1e-4 pixel nothing is interpolated and pixels are copied bit by bit. Of two
neighbours that show a pixel, the one whose primary area it is in gives it.

Nothing is padded: an object whose cutout cannot be completed gets no cutout, and the reason names
the neighbour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from astropy.wcs import WCS
from numpy.typing import NDArray

from storage.coadds import wcs_of
from storage.cutouts import (
    Cutouts,
    Places,
    cut_places,
    first_pixel,
    objids_by_reason,
    pixel_to_sky,
    place_objects,
)
from storage.neighbour import Neighbour

_NOT_COVERING = "does not cover"


@dataclass(frozen=True)
class Stitched:
    """Cutouts, and what became of each neighbour that one of them needed.

    ``neighbours`` is ``{brickname: outcome}``: "used", "absent", "does not cover" or
    "unreadable: why"; "not used" where others are to blame for every cutout that needed it.
    """

    cutouts: Cutouts
    neighbours: Mapping[str, str]


@dataclass(frozen=True)
class _Frame:
    """The image that cutouts leave, and their size."""

    wcs: WCS
    shape: tuple[int, int]
    size: int


@dataclass(frozen=True)
class _Piece:
    """Pixels that one neighbour gives to the cutout of one row of the table."""

    row: int
    neighbour: Neighbour
    rows: NDArray[np.intp]  # in the cutout
    columns: NDArray[np.intp]
    y: NDArray[np.float64]  # in the neighbour's image
    x: NDArray[np.float64]


def stitch_objects(
    coadds: xr.Dataset, table: pd.DataFrame, size: int, neighbours: Sequence[Neighbour]
) -> Stitched:
    """Cut every object of a table out of the coadds of its brick and of its neighbours.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    table : DataFrame
        With the object and catalogue columns of `storage.schema`.
    size : int
        Side of the cutouts [pixel].
    neighbours : sequence of Neighbour
        Those of `storage.brick_overlap.needed_neighbours`.

    Returns
    -------
    Stitched
        Cutouts in the order of the table. Reasons in ``without``: "no_data"; "edge" for objects
        that are not on the image, or need sky that is no neighbour's (the image is a part of its
        brick); "edge: neighbour <name> absent", "... unreadable" and "... does not cover".
    """
    places = place_objects(coadds, table, size)
    leaves = places.on_image & places.has_data & (places.inside < 1.0)
    height, width = coadds["maskbits"].shape
    frame = _Frame(wcs_of(coadds), (height, width), size)
    asked: set[str] = set()
    pieces, lost = _prepare(frame, places, np.flatnonzero(leaves), neighbours, asked)
    reasons = {"edge": ~places.on_image, "no_data": places.on_image & ~places.has_data}
    for row, reason in sorted(lost.items(), key=lambda item: item[1]):
        reasons.setdefault(reason, np.zeros(len(table), bool))[row] = True
    keep = ~np.logical_or.reduce(list(reasons.values()))
    dataset = cut_places(coadds, table, places, keep, size)
    _fill(dataset, np.cumsum(keep) - 1, pieces)
    without = objids_by_reason(table, reasons)
    outcomes = {name: _outcome(name, neighbours, pieces, without) for name in sorted(asked)}
    return Stitched(Cutouts(dataset, without), outcomes)


def _outcome(
    name: str,
    neighbours: Sequence[Neighbour],
    pieces: Sequence[_Piece],
    without: Mapping[str, tuple[int, ...]],
) -> str:
    problem = next(other.problem for other in neighbours if other.brick.brickname == name)
    if problem:
        return problem
    if any(piece.neighbour.brick.brickname == name for piece in pieces):
        return "used"
    return _NOT_COVERING if f"edge: neighbour {name} {_NOT_COVERING}" in without else "not used"


def _prepare(
    frame: _Frame,
    places: Places,
    rows: NDArray[np.intp],
    neighbours: Sequence[Neighbour],
    asked: set[str],
) -> tuple[list[_Piece], dict[int, str]]:
    """Read what the cutouts of these rows need; return who gives it, and why some lack it."""
    while True:
        usable = [other for other in neighbours if not other.problem]
        pieces: list[_Piece] = []
        lost: dict[int, str] = {}
        for row in rows:
            found, reason = _find(frame, places, int(row), neighbours, asked)
            if reason:
                lost[int(row)] = reason
            else:
                pieces += found
        for other in neighbours:
            mine = [piece for piece in pieces if piece.neighbour is other]
            if mine:
                other.read(
                    np.concatenate([piece.y for piece in mine]),
                    np.concatenate([piece.x for piece in mine]),
                )
        if not any(other.problem for other in usable):
            return pieces, lost  # else again, without those that turned out to be unreadable


def _find(
    frame: _Frame, places: Places, row: int, neighbours: Sequence[Neighbour], asked: set[str]
) -> tuple[list[_Piece], str]:
    """Return who gives the missing pixels of a cutout, and why some cannot be had, or ""."""
    top, left = first_pixel(float(places.y[row]), float(places.x[row]), frame.size)
    rows, columns = _outside(frame, top, left)
    ra, dec = pixel_to_sky(frame.wcs, rows + top, columns + left)
    owned = [other.brick.owns(ra, dec) for other in neighbours]
    asked |= {
        other.brick.brickname for other, mine in zip(neighbours, owned, strict=True) if mine.any()
    }
    shown = [other.show(ra, dec) for other in neighbours]
    missing = np.ones(len(ra), bool)
    pieces = []
    for by_owner in (True, False):
        for other, mine, (covered, y, x) in zip(neighbours, owned, shown, strict=True):
            take = missing & covered & (mine if by_owner else True)
            if take.any():
                missing &= ~take
                at = (rows[take], columns[take], y[take], x[take])
                pieces.append(_Piece(row, other, *at))
    return pieces, _reason(neighbours, owned, missing)


def _outside(frame: _Frame, top: int, left: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column, in a cutout, of its pixels that are not on the image."""
    rows, columns = np.indices((frame.size, frame.size))
    inside = (rows + top >= 0) & (rows + top < frame.shape[0])
    inside &= (columns + left >= 0) & (columns + left < frame.shape[1])
    return rows[~inside], columns[~inside]


def _reason(
    neighbours: Sequence[Neighbour],
    owned: Sequence[NDArray[np.bool_]],
    missing: NDArray[np.bool_],
) -> str:
    """Say why nobody shows the missing pixels; name the first neighbour that should."""
    for other, mine in zip(neighbours, owned, strict=True):
        if (mine & missing).any():
            word = other.problem.partition(":")[0] or _NOT_COVERING
            return f"edge: neighbour {other.brick.brickname} {word}"
    return "edge" if missing.any() else ""


def _fill(dataset: xr.Dataset, place: NDArray[np.intp], pieces: Sequence[_Piece]) -> None:
    """Put the pixels of neighbours into the cutouts, in place; ``place`` is the index of a row."""
    image, invvar, maskbits = (dataset[name].to_numpy() for name in ("image", "invvar", "maskbits"))
    for piece in pieces:
        found = piece.neighbour.at(piece.y, piece.x)
        index = place[piece.row]
        image[index][:, piece.rows, piece.columns] = found.image
        invvar[index][:, piece.rows, piece.columns] = found.invvar
        maskbits[index][piece.rows, piece.columns] = found.maskbits
