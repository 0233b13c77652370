"""Where on the sky a selection takes objects: a box in RA and Dec, a MOC, a list of HEALPix cells.

It answers for positions (`outside`) and for whole bricks before any of their files is opened
(`bricks_inside`). A brick counts as inside unless no object of it can be, so that planning leaves
out most of the sky and never an object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from astropy import units
from astropy.io import fits
from astropy_healpix.healpy import ring2nest
from numpy.typing import NDArray

from storage.brick_lists import brick_areas, brickids_of
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch
from storage.object_lists import listed_bricks
from storage.table_columns import column_names, file_version, iterate_columns

if TYPE_CHECKING:
    from storage.selection import Selection

# The image of a brick reaches 82 pixels (0.006 deg) beyond its primary area; twice that is safe.
_OVERLAP_DEG = 0.012
_BLOCK_BRICKS = 20_000  # of 81 points each: 13 MB a column
# Points of a grid over a brick are 0.031 deg apart, so every place in a brick is within 0.023 deg
# of one; a cell of order 10 is 0.057 deg wide, and one ring of such cells around a region is never
# narrower than half of that.
_GRID = 9
_RING_ORDER = 10
_COARSE_ORDER = (
    8  # cells of 0.23 deg; two rings reach farther than a brick's centre from its corner
)
_CELL_COLUMNS = ("pixel", "hpxpixel", "healpix", "ipix", "npix")

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class _Region:
    """A MOC as numbers, because the objects of mocpy do not survive in a cache until the end.

    Their clean-up at the end of the process needs a library that is gone by then, and says so.
    """

    order: int
    ranges: NDArray[np.uint64]  # of cells of order 29, shape (range, 2)

    def moc(self) -> Any:
        from mocpy import MOC  # brings matplotlib, which only a selection with a region needs

        return MOC.from_depth29_ranges(self.order, self.ranges)


@dataclass(frozen=True)
class BrickCover:
    """Which bricks can hold selected objects.

    ``reasons`` has, for every brick asked about, the reason why it cannot, or "" where it can.
    """

    bricknames: tuple[str, ...]
    reasons: NDArray[np.object_]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Tell which bricks can hold selected objects."""
        return np.asarray(self.reasons == "")

    def counts(self) -> dict[str, int]:
        """Count the bricks that are left out, by reason."""
        names, counts = np.unique(self.reasons[~self.inside].astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))


def outside(selection: "Selection", ra: Positions, dec: Positions) -> dict[str, NDArray[np.bool_]]:
    """Return, for every rule about the sky, which positions it leaves out.

    Parameters
    ----------
    selection : Selection
    ra, dec : ndarray, shape (object,) [deg]
        Where one is not finite, no rule but the box answers, and that with "inside".

    Returns
    -------
    dict of str to ndarray, shape (object,), bool
        By reason: outside_ra_range, outside_dec_range, outside_moc, outside_healpix.
    """
    reasons: dict[str, NDArray[np.bool_]] = {}
    if selection.ra_range is not None:
        low, high = selection.ra_range
        reasons["outside_ra_range"] = np.mod(ra - low, 360.0) > np.mod(high - low, 360.0)
    if selection.dec_range is not None:
        low, high = selection.dec_range
        reasons["outside_dec_range"] = (dec < low) | (dec > high)
    for reason, region in _regions(selection).items():
        reasons[reason] = ~_contains(region, ra, dec)
    return reasons


def bricks_inside(selection: "Selection", bricks: Sequence[str] | pd.DataFrame) -> BrickCover:
    """Say which bricks can hold objects of a selection, without opening their files.

    Parameters
    ----------
    selection : Selection
        Its box, MOC, HEALPix cells and list of objects count here; the rest needs a catalogue.
    bricks : sequence of str or DataFrame
        Brick names, or a table of `storage.bricks.read_survey_bricks`.

    Returns
    -------
    BrickCover
        A brick counts for its first reason: outside_ra_range, outside_dec_range, outside_moc,
        outside_healpix, or not_listed (no object of the list is in it). A name of no brick of the
        sky has no reason here: whoever reads the brick says what is wrong with it.
    """
    names = bricks["brickname"].tolist() if isinstance(bricks, pd.DataFrame) else list(bricks)
    known = brickids_of(names) > 0
    reasons = np.full(len(names), "", dtype=object)
    areas = brick_areas([name for name, good in zip(names, known, strict=True) if good])
    reasons[known] = _reasons(selection, areas)
    return BrickCover(tuple(map(str, names)), reasons)


def _reasons(selection: "Selection", areas: pd.DataFrame) -> NDArray[np.object_]:
    reasons = np.full(len(areas), "", dtype=object)
    margin = 0.0 if selection.primary_only else _OVERLAP_DEG
    if selection.ra_range is not None:
        _mark(reasons, "outside_ra_range", ~_meets_ra(areas, selection.ra_range, margin))
    if selection.dec_range is not None:
        low, high = selection.dec_range
        apart = (areas["dec1"] - margin > high) | (areas["dec2"] + margin < low)
        _mark(reasons, "outside_dec_range", apart.to_numpy())
    for reason, region in _regions(selection).items():
        open_ = np.flatnonzero(reasons == "")
        apart_there = np.zeros(len(areas), bool)
        apart_there[open_] = ~_meets_region(areas.iloc[open_], region, margin)
        _mark(reasons, reason, apart_there)
    if selection.objects_from is not None:
        _mark(reasons, "not_listed", ~listed_bricks(selection.objects_from, areas))
    return reasons


def _mark(reasons: NDArray[np.object_], reason: str, where: NDArray[np.bool_]) -> None:
    reasons[(reasons == "") & where] = reason


def _meets_ra(areas: pd.DataFrame, limits: tuple[float, float], margin: float) -> NDArray[np.bool_]:
    """Tell whether areas and a range of RA, either of which may cross 0, have RA in common."""
    low, high = limits
    # A brick with a pole in it, or near one, has objects at any RA as far as the margin goes.
    farthest = np.maximum(np.abs(areas["dec1"]), np.abs(areas["dec2"])).to_numpy()
    widen = margin / np.maximum(np.cos(np.radians(farthest)), 1e-3)
    start, width = areas["ra1"].to_numpy() - widen, (areas["ra2"] - areas["ra1"]).to_numpy()
    start_in_range = np.mod(start - low, 360.0) <= np.mod(high - low, 360.0)
    range_in_area = np.mod(low - start, 360.0) <= width + 2 * widen
    return np.asarray(start_in_range | range_in_area)


def _meets_region(areas: pd.DataFrame, region: Any, margin: float) -> NDArray[np.bool_]:
    """Tell which areas may have a place in a MOC: a coarse look, then a grid where it is near."""
    coarse = _widened(region, _COARSE_ORDER, rings=2)
    fine = _widened(region, _RING_ORDER, rings=1)
    middle = (areas["ra1"] + areas["ra2"]).to_numpy() / 2, (areas["dec1"] + areas["dec2"]) / 2
    polar = np.maximum(np.abs(areas["dec1"]), np.abs(areas["dec2"])).to_numpy() > 89.0
    meets = np.asarray(_contains(coarse, middle[0], middle[1].to_numpy()) | polar)
    near = np.flatnonzero(meets)
    step = np.linspace(0.0, 1.0, _GRID)
    for first in range(0, len(near), _BLOCK_BRICKS):
        places = near[first : first + _BLOCK_BRICKS]
        part = areas.iloc[places]
        low_dec = np.maximum(part["dec1"].to_numpy() - margin, -90.0)
        high_dec = np.minimum(part["dec2"].to_numpy() + margin, 90.0)
        wide = margin / np.maximum(np.cos(np.radians((low_dec + high_dec) / 2)), 1e-3)
        low_ra, high_ra = part["ra1"].to_numpy() - wide, part["ra2"].to_numpy() + wide
        dec = low_dec[:, None, None] + (high_dec - low_dec)[:, None, None] * step[:, None]
        ra = low_ra[:, None, None] + (high_ra - low_ra)[:, None, None] * step[None, :]
        grid = np.broadcast_arrays(np.mod(ra, 360.0), dec)
        hit = _contains(fine, grid[0].ravel(), grid[1].ravel())
        meets[places] = hit.reshape(len(places), -1).any(axis=1)
    meets[polar] = True  # too few bricks for care about a grid in RA at the pole
    return meets


def _contains(region: Any, ra: Positions, dec: Positions) -> NDArray[np.bool_]:
    found = np.isfinite(ra) & np.isfinite(dec)
    placed = found.copy()
    found[placed] = region.contains_lonlat(ra[placed] * units.deg, dec[placed] * units.deg)
    return found | ~placed


def _regions(selection: "Selection") -> dict[str, Any]:
    """Return the regions (MOC) of a selection by the reason that they give."""
    regions: dict[str, _Region] = {}
    if selection.moc is not None:
        regions["outside_moc"] = _moc_of_file(*file_version(Path(selection.moc)))
    if isinstance(selection.healpix, str):
        order = -1 if selection.healpix_order is None else selection.healpix_order
        version = file_version(Path(selection.healpix))
        regions["outside_healpix"] = _moc_of_list(*version, order, selection.healpix_nested)
    elif selection.healpix is not None and selection.healpix_order is not None:
        cells = (selection.healpix, selection.healpix_order, selection.healpix_nested)
        regions["outside_healpix"] = _moc_of_cells(*cells)
    return {reason: region.moc() for reason, region in regions.items()}


@lru_cache(maxsize=4)
def _moc_of_file(path: Path, version: tuple[int, int]) -> _Region:
    """Read a MOC; ``version`` makes a changed file be read again."""
    from mocpy import MOC  # as in _Region

    kinds = {".fits": "fits", ".json": "json", ".txt": "ascii", ".ascii": "ascii"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise SchemaMismatch(f"{path}: give a MOC as one of {', '.join(kinds)}")
    try:
        moc = MOC.load(str(path), format=kind)
    except Exception as error:  # mocpy raises what its Rust library says, of many types
        raise CorruptFile(f"{path}: no readable MOC ({error}); check the file") from error
    return _Region(int(moc.max_order), moc.to_depth29_ranges)


@lru_cache(maxsize=4)
def _moc_of_list(path: Path, version: tuple[int, int], order: int, nested: bool) -> _Region:
    cells, own_order, own_nested = _read_cells(path)
    if own_order is not None and order >= 0 and own_order != order:
        raise SchemaMismatch(
            f"{path}: order {own_order} in the header, healpix_order {order} in the selection; "
            "leave healpix_order out"
        )
    order = order if own_order is None else own_order
    if order < 0:
        raise SchemaMismatch(f"{path}: does not say the order of its cells; give healpix_order")
    return _moc_of_cells(tuple(cells), order, nested if own_nested is None else own_nested)


@lru_cache(maxsize=4)
def _moc_of_cells(cells: tuple[int, ...], order: int, nested: bool) -> _Region:
    from mocpy import MOC  # as in _Region

    numbers, most = np.array(cells, np.int64), 12 * 4**order
    if numbers.min() < 0 or numbers.max() >= most:
        raise SchemaMismatch(f"HEALPix cells of order {order} are 0 to {most - 1}; check the order")
    if not nested:
        numbers = np.asarray(ring2nest(2**order, numbers), np.int64)
    depths = np.full(len(numbers), order, np.uint8)
    moc = MOC.from_healpix_cells(numbers.astype(np.uint64), depths, order)
    return _Region(order, moc.to_depth29_ranges)


def _read_cells(path: Path) -> tuple[list[int], int | None, bool | None]:
    """Return cells, and order and numbering where the file's header gives them."""
    if path.suffix.lower() == ".txt":
        cells = [int(text) for text in path.read_text().replace(",", " ").split()]
        return _not_empty(path, cells), None, None
    available = {name.lower(): name for name in column_names(path)}
    column = next((available[name] for name in _CELL_COLUMNS if name in available), None)
    if column is None:
        raise SchemaMismatch(f"{path}: no column of cells; name it {' or '.join(_CELL_COLUMNS)}")
    cells = [int(cell) for block in iterate_columns(path, [column]) for cell in block[column]]
    header: Mapping[str, Any] = {}
    if path.name.lower().endswith((".fits", ".fits.gz")):
        header = fits.getheader(path, 1)
    nside, numbering = header.get("NSIDE"), str(header.get("ORDERING", "")).strip().upper()
    order = None if nside is None else int(nside).bit_length() - 1
    nested = None if not numbering else numbering.startswith("NEST")
    return _not_empty(path, cells), order, nested


def _not_empty(path: Path, cells: list[int]) -> list[int]:
    if not cells:
        raise BrickNotFound(f"{path} lists no HEALPix cell; leave the rule out, or list some")
    return cells


def _widened(region: Any, order: int, rings: int) -> Any:
    """Return a region in cells of one order, with rings of such cells around it."""
    if region.max_order > order:
        cells = region.degrade_to_order(order)
    else:  # a copy: refine_to_order and add_neighbours change the region that they are called on
        cells = type(region).from_depth29_ranges(order, region.to_depth29_ranges)
    for _ in range(rings):
        cells.add_neighbours()
    return cells
