"""Whether a catalogue was made from the coadds beside it.

In about 2 % of the bricks of DR10, headers contradict the catalogue: files changed while they were
copied (legacysurvey.org, DR10 "issues"). A header alone does not say which file is wrong, so three
things are told apart:

* proof: another brick or data release, positions that are not on these pixels, exposures where
  there are no data, fluxes that the pixels do not have. The catalogue cannot belong here.
* doubt: headers of different runs. Where the fluxes of enough sources are found in the pixels,
  it is cleared and noted; else it counts as proof.
* notes: what is odd and harmless.

Only catalogues are judged; what coadds must have in common is checked by `storage.coadds`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from storage.coadd_headers import run_cards
from storage.coadds import wcs_of
from storage.cutouts import sky_to_pixel
from storage.errors import InconsistentBrick
from storage.flux_check import LEAST_SOURCES, flux_ratios
from storage.legacysurvey import BRICK_SIZE_PIXELS

_LARGEST_OFFSET = 1.0  # of (bx, by) from (ra, dec) [pixel]; both come from one fit
_MOST_ABSENT = 0.2  # fraction of sources; saturated and masked centres are some per cent
_FEWEST = 20  # sources that make a fraction
_FLUX_RANGE = (0.5, 2.0)  # catalogue over pixels, median; honest bricks are within 10 % of 1
_IDENTITY = ("brick", "brick number")
_RUN = ("pipeline version", "run date", "data release")
_RELEASE_STEP = 1000  # RELEASE 9010 and 9012 are one data release, 10000 is the next


@dataclass(frozen=True)
class Findings:
    """What speaks against a catalogue (`proof`), what may (`doubts`), and what is only odd."""

    proof: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_catalogue(
    coadds: xr.Dataset,
    table: pd.DataFrame,
    header: Mapping[str, Any],
    on_mismatch: Literal["quarantine", "note"] = "quarantine",
) -> list[str]:
    """Return notes on a catalogue that may be of these coadds; refuse one that cannot be.

    Parameters
    ----------
    coadds : Dataset
        From `storage.coadds.read_coadds`.
    table : DataFrame
        All objects, from `storage.tractor.read_tractor`.
    header : mapping
        Of the catalogue.
    on_mismatch : {"quarantine", "note"}
        "note" only notes what "quarantine" refuses.

    Raises
    ------
    InconsistentBrick
        With every contradiction, when ``on_mismatch`` is "quarantine".
    """
    findings = compare_catalogue(coadds, table, header)
    if not findings.proof:
        return list(findings.notes)
    text = "; ".join(findings.proof)
    if on_mismatch == "note":
        return [f"the catalogue contradicts the coadds: {text}", *findings.notes]
    raise InconsistentBrick(
        f"brick {coadds.attrs['brickname']}: the catalogue was not made from these coadds: {text}; "
        "fetch the brick again, or set on_mismatch to 'note' to use it as it is"
    )


def compare_catalogue(
    coadds: xr.Dataset, table: pd.DataFrame, header: Mapping[str, Any]
) -> Findings:
    """Compare a catalogue with coadds; parameters as for `check_catalogue`."""
    cards = run_cards(header)
    proof = [*_identity(coadds, cards), *_release(coadds, table), *_exposures(coadds, table)]
    outside, shifted, notes = _positions(coadds, table)
    proof += [*outside, *shifted]
    fluxes, measured = _fluxes(coadds, table)
    proof += fluxes
    doubts = _run(coadds, cards)
    notes += _own_release(table, cards)
    if doubts and measured and not proof:
        notes.append(f"{'; '.join(doubts)}; but the pixels have the fluxes of {measured} sources")
    elif doubts:
        proof += doubts
    return Findings(tuple(proof), tuple(doubts), tuple(notes))


def _identity(coadds: xr.Dataset, cards: Mapping[str, str]) -> list[str]:
    ours = {"brick": str(coadds.attrs["brickname"])} | dict(coadds.attrs.get("cards", {}))
    return [
        f"its header says {meaning} {cards[meaning]}, the coadds' {ours[meaning]}"
        for meaning in _IDENTITY
        if meaning in cards and ours.get(meaning, cards[meaning]) != cards[meaning]
    ]


def _run(coadds: xr.Dataset, cards: Mapping[str, str]) -> list[str]:
    ours = coadds.attrs.get("cards", {})
    return [
        f"the catalogue's header says {meaning} {cards[meaning]}, the coadds' {ours[meaning]}"
        for meaning in _RUN
        if meaning in cards and meaning in ours and ours[meaning] != cards[meaning]
    ]


def _release(coadds: xr.Dataset, table: pd.DataFrame) -> list[str]:
    """Compare the column RELEASE with the release of the coadds."""
    ours = int(coadds.attrs.get("release_code", 0)) // _RELEASE_STEP
    theirs = sorted({int(code) // _RELEASE_STEP for code in set(table["release"])} - {0})
    if not ours or not theirs or theirs == [ours]:
        return []
    return [f"its objects are of DR{', DR'.join(map(str, theirs))}, the coadds of DR{ours}"]


def _own_release(table: pd.DataFrame, cards: Mapping[str, str]) -> list[str]:
    """Note a catalogue whose header is of another release than its objects."""
    code = cards.get("release code", "")
    codes = sorted({int(value) for value in set(table["release"])})
    if not code.isdecimal() or not codes or int(code) in codes:
        return []
    return [f"the catalogue's header says release {code}, its objects {codes}; they are kept"]


def _positions(coadds: xr.Dataset, table: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Compare ra, dec with the image, and with bx, by: proof, proof, notes."""
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    shape = coadds["maskbits"].shape
    whole = shape == (BRICK_SIZE_PIXELS, BRICK_SIZE_PIXELS)
    outside = _fraction_outside(y, x, shape)
    lost = [f"{outside:.0%} of its objects are not on the image"] if whole and outside > 0.5 else []
    dy, dx = y - table["by"].to_numpy(np.float64), x - table["bx"].to_numpy(np.float64)
    placed = np.isfinite(dy) & np.isfinite(dx)
    if not placed.any():
        return lost, [], []
    middle_y, middle_x = np.median(dy[placed]), np.median(dx[placed])
    offset = float(np.hypot(middle_y, middle_x))
    scatter = float(np.median(np.hypot(dy[placed] - middle_y, dx[placed] - middle_x)))
    if offset <= _LARGEST_OFFSET and scatter <= _LARGEST_OFFSET:
        return lost, [], []
    text = f"bx, by are {offset:.1f} pixels from ra, dec on these coadds"
    if whole or scatter > _LARGEST_OFFSET:
        return lost, [f"its {text}, with a scatter of {scatter:.1f}"], []
    return lost, [], [f"catalogue {text}, as for a part of a brick; ra, dec are used"]


def _fraction_outside(
    y: NDArray[np.float64], x: NDArray[np.float64], shape: tuple[int, ...]
) -> float:
    if len(y) < _FEWEST:
        return 0.0
    inside = (y > -1) & (y < shape[0]) & (x > -1) & (x < shape[1])
    return float(1.0 - inside.mean())


def _exposures(coadds: xr.Dataset, table: pd.DataFrame) -> list[str]:
    """Compare NOBS with invvar at the objects: exposures and data must be at the same places."""
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    shape = coadds["maskbits"].shape
    on_image = (y > -0.5) & (y < shape[0] - 0.5) & (x > -0.5) & (x < shape[1] - 0.5)
    rows, columns = (np.rint(values[on_image]).astype(int) for values in (y, x))
    missing = coadds.attrs.get("missing_bands", [])
    found = []
    for index, band in enumerate(str(value) for value in coadds["band"].values):
        if f"nobs_{band}" not in table or band in missing:
            continue
        nobs = table[f"nobs_{band}"].to_numpy(np.float64)[on_image]
        data = coadds["invvar"].to_numpy()[index, rows, columns] > 0
        known = np.isfinite(nobs)
        if np.count_nonzero(known) < _FEWEST:
            continue
        blank = float(((nobs > 0) & ~data)[known].mean())
        extra = float(((nobs == 0) & data)[known].mean())
        if max(blank, extra) > _MOST_ABSENT:
            found.append(
                f"band {band}: {blank:.0%} of its objects have exposures (NOBS) where the coadds "
                f"have no data, {extra:.0%} have none where they have"
            )
    return found


def _fluxes(coadds: xr.Dataset, table: pd.DataFrame) -> tuple[list[str], int]:
    """Compare fluxes with the pixels; return proof, and how many sources could be compared."""
    found, measured = [], 0
    for band, ratios in flux_ratios(coadds, table).items():
        if len(ratios) < LEAST_SOURCES:
            continue
        measured += len(ratios)
        middle = float(np.median(ratios))
        if not _FLUX_RANGE[0] <= middle <= _FLUX_RANGE[1]:
            found.append(
                f"band {band}: the pixels have {middle:.2f} times the flux of {len(ratios)} bright "
                "isolated sources"
            )
    return found, measured
