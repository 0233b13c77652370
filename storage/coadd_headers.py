"""What the headers of coadds and catalogues say: the projection, and which run made the file.

Cards changed their names over the releases; here each meaning has one. This module reads no pixel
and judges no catalogue; see `storage.consistency`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from storage.bricks import Brick, brick_wcs
from storage.errors import InconsistentBrick, SchemaMismatch
from storage.legacysurvey import AB_ZERO_POINT, BRICK_SIZE_PIXELS, PIXEL_SCALE_ARCSEC

#: Names of a card by meaning: DR9 and DR10 first, then older releases.
RUN_CARDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "brick": ("BRICKNAM", "BRICK"),
        "brick number": ("BRICKID",),
        "release code": ("DRVERSIO", "RELEASE"),
        "data release": ("LSDR", "SURVEYDR", "DECALSDR"),
        "pipeline version": ("LEGPIPEV", "LEGPIPVR"),
        "run date": ("RUNDATE", "LSDT", "SURVEYDT", "DECALSDT"),
    }
)
_WCS_KEYS = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")


def run_cards(header: Mapping[str, Any]) -> dict[str, str]:
    """Return ``{meaning: value}`` of the cards that say which run made a file, if it has any."""
    found = {}
    for meaning, names in RUN_CARDS.items():
        values = (str(header[name]).strip() for name in names if name in header)
        if value := next(filter(None, values), ""):
            found[meaning] = value
    return found


def check_one_brick(
    paths: Sequence[Path], headers: Sequence[fits.Header], brick: Brick
) -> list[str]:
    """Refuse coadds of another brick; return what to note of coadds of several runs.

    Raises
    ------
    InconsistentBrick
        When a header names another brick.
    """
    notes: dict[str, None] = {}
    first = run_cards(headers[0])
    for path, header in zip(paths, headers, strict=True):
        cards = run_cards(header)
        if cards.get("brick", brick.brickname) != brick.brickname:
            raise InconsistentBrick(
                f"{path}: its header says brick {cards['brick']}; put the file where it belongs"
            )
        for meaning in first.keys() & cards.keys():
            if cards[meaning] != first[meaning]:
                notes[
                    f"{path.name} has {meaning} {cards[meaning]}, {paths[0].name} has "
                    f"{first[meaning]}"
                ] = None
    return list(notes)


def check_projections(paths: Sequence[Path], headers: Sequence[fits.Header]) -> None:
    """Refuse files whose projection is not that of the first one."""
    reference = headers[0]
    for path, header in zip(paths, headers, strict=True):
        shared = (key for key in _WCS_KEYS if key in reference and key in header)
        if any(abs(header[key] - reference[key]) > 1e-3 * abs(_scale(key)) for key in shared):
            raise SchemaMismatch(
                f"{path}: its projection differs from that of {paths[0].name}; fetch the "
                "files of one release"
            )


def check_zero_point(path: Path, header: fits.Header) -> None:
    """Refuse an image that is not in nanomaggies."""
    zero_point = header.get("MAGZERO", AB_ZERO_POINT)
    if zero_point != AB_ZERO_POINT:
        raise SchemaMismatch(
            f"{path}: MAGZERO is {zero_point}, nanomaggies have {AB_ZERO_POINT}; convert the "
            "file to nanomaggies"
        )


def checked_wcs(path: Path, header: fits.Header, brick: Brick, shape: tuple[int, int]) -> WCS:
    """Return the projection of the header, which must show (a part of) the brick at its scale.

    Raises
    ------
    SchemaMismatch
        When it is no TAN projection of the survey's scale around the centre of the brick.
    """
    if "CTYPE1" not in header:
        if shape == (BRICK_SIZE_PIXELS, BRICK_SIZE_PIXELS):
            return brick_wcs(brick)  # the geometry is official, so nothing is guessed
        raise SchemaMismatch(f"{path}: no WCS in the header of a partial coadd; fetch it again")
    wcs = WCS(header, naxis=2)
    scales = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600.0
    if abs(scales / PIXEL_SCALE_ARCSEC - 1.0) > 1e-3 or "TAN" not in str(header["CTYPE1"]):
        raise SchemaMismatch(
            f"{path}: {header['CTYPE1']} with {scales:.4f} arcsec a pixel; coadds are TAN with "
            f"{PIXEL_SCALE_ARCSEC}, resample the image"
        )
    east = np.mod(wcs.wcs.crval[0] - brick.ra + 180.0, 360.0) - 180.0
    offset = np.hypot(east * np.cos(np.radians(brick.dec)), wcs.wcs.crval[1] - brick.dec)
    if offset * 3600.0 > PIXEL_SCALE_ARCSEC:
        raise SchemaMismatch(
            f"{path}: its tangent point is {offset * 3600.0:.1f} arcsec from the centre of brick "
            f"{brick.brickname}; check that the file is a coadd of this brick"
        )
    wcs.array_shape = shape
    return wcs


def _scale(key: str) -> float:
    """Return what one pixel is in the unit of a WCS card."""
    return 1.0 if key.startswith("CRPIX") else PIXEL_SCALE_ARCSEC / 3600.0
