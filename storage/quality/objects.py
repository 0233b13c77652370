"""What the object table of a snapshot says: identity, place, doubles; read in blocks of bricks.

Two objects of different bricks can only be near each other when both are near a border of their
brick (or outside of it), so only those are kept and compared: 0.4 % of a survey at one arcsecond.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import icechunk
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from storage import arrays
from storage.batches import read_cutouts
from storage.brick_rows import valid_rows
from storage.schema import PADDING_OBJID, BrickState
from storage.survey_group import read_layout

BLOCK_ROWS = 1 << 18  # objects in memory at a time: some 20 MB
OUTSIDE_ARCSEC = 0.05  # by less an object is on the border: positions were rounded when written
_SAMPLED_BRICKS = 64  # whose catalogue rows are read: an error of a per cent on any fraction
_SAMPLED_CUTOUTS = 256
_EXAMPLES = 10


@dataclass(frozen=True)
class Pair:
    """Two objects of different bricks, and their distance [arcsec]."""

    bricknames: tuple[str, str]
    objids: tuple[int, int]
    separation_arcsec: float


@dataclass(frozen=True)
class ObjectFacts:
    """Counts over all objects of a snapshot.

    ``padding`` are rows that should hold an object and hold none; ``repeated`` objects have the
    objid of another one of their brick; ``outside`` lie outside the primary area of their brick;
    ``near_border`` were compared across borders, ``in_pairs`` are in ``pairs`` across a border.
    """

    objects: int = 0
    padding: int = 0
    repeated: int = 0
    without_position: int = 0
    outside: int = 0
    outside_bricks: tuple[str, ...] = ()
    near_border: int = 0
    in_pairs: int = 0
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class SampleFacts:
    """What a sample of objects and cutouts holds.

    ``flux_missing`` is the fraction of ``objects`` without a flux by band; ``not_finite`` counts
    pixels of ``cutouts`` that are no numbers, ``no_data`` is the fraction of pixels by band.
    """

    objects: int
    flux_missing: dict[str, float]
    cutouts: int
    not_finite: int
    no_data: dict[str, float]


def read_object_facts(
    session: icechunk.Session, survey_key: str, bricks: pd.DataFrame, separation_arcsec: float
) -> ObjectFacts:
    """Go through the object table once.

    Parameters
    ----------
    bricks : DataFrame
        Of `storage.quality.measurements.SurveyMeasurements`.
    separation_arcsec : float
        How near objects of different bricks are a pair.
    """
    counts = dict.fromkeys(("objects", "padding", "repeated", "without_position", "outside"), 0)
    outside_bricks: dict[str, None] = {}
    border = []
    for block, objid, places in _blocks(session, survey_key, bricks):
        margin = _margin_arcsec(block, places)
        counts["objects"] += len(objid)
        counts["padding"] += int(np.count_nonzero(objid == PADDING_OBJID))
        counts["repeated"] += _repeats(places["brick"].to_numpy(), objid)
        counts["without_position"] += int(places["ra"].isna().sum())
        outside = margin < -OUTSIDE_ARCSEC
        counts["outside"] += int(np.count_nonzero(outside))
        for name in block.index[places["brick"].to_numpy()[outside][:_EXAMPLES]]:
            outside_bricks.setdefault(str(name))
        near = margin < separation_arcsec
        found = places[near].assign(objid=objid[near])
        found["brickname"] = block.index.to_numpy()[found["brick"].to_numpy()]
        border.append(found)
    candidates = pd.concat(border) if border else pd.DataFrame(columns=["ra", "dec"], dtype=float)
    in_pairs, pairs = _pairs(candidates, separation_arcsec)
    return ObjectFacts(
        **counts,
        outside_bricks=tuple(outside_bricks)[:_EXAMPLES],
        near_border=len(candidates),
        in_pairs=in_pairs,
        pairs=pairs,
    )


def sample_objects(session: icechunk.Session, survey_key: str, bricks: pd.DataFrame) -> SampleFacts:
    """Look at catalogue rows of some bricks and at some cutouts, spread evenly over the store."""
    layout = read_layout(session, survey_key)
    written = _written(bricks)
    if not written["n_objects"].sum():
        return SampleFacts(0, {}, 0, 0, {})
    rows = valid_rows(written.iloc[_spread(len(written), _SAMPLED_BRICKS)])
    catalogue = arrays.get_array(arrays.open_group(session, survey_key), "catalogue")
    values = pd.DataFrame(arrays.take_rows(catalogue, rows), columns=list(layout.columns))
    few = rows[_spread(len(rows), _SAMPLED_CUTOUTS)]
    cutouts = read_cutouts(session, survey_key, few, ("image", "invvar"))
    empty = (cutouts["invvar"] <= 0).mean(axis=(0, 2, 3))
    return SampleFacts(
        objects=len(rows),
        flux_missing={
            band: float(values[f"flux_{band}"].isna().mean())
            for band in layout.bands
            if f"flux_{band}" in values
        },
        cutouts=len(few),
        not_finite=sum(int(np.count_nonzero(~np.isfinite(array))) for array in cutouts.values()),
        no_data=dict(zip(layout.bands, map(float, empty), strict=True)),
    )


def _spread(length: int, most: int) -> NDArray[np.int64]:
    """Return places spread evenly over a length, all of it where it is short."""
    return np.unique(np.linspace(0, length - 1, most).astype(np.int64))


def _written(bricks: pd.DataFrame) -> pd.DataFrame:
    return bricks[bricks["state"] == int(BrickState.WRITTEN)].sort_values("row_start")


def _blocks(
    session: icechunk.Session, survey_key: str, bricks: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, NDArray[np.int64], pd.DataFrame]]:
    """Yield written bricks, the objids of their objects, and their places.

    The places have the columns ``ra``, ``dec`` [deg] and ``brick``, the position of the brick.
    """
    group = arrays.open_group(session, survey_key)
    objid, ra, dec = (arrays.get_array(group, name) for name in ("objid", "ra", "dec"))
    written = _written(bricks)
    numbers = written["n_objects"].to_numpy(dtype=np.int64)
    part = (np.cumsum(numbers) - numbers) // BLOCK_ROWS
    for _, block in written.groupby(part, sort=True):
        rows = valid_rows(block)
        places = pd.DataFrame(
            {
                "ra": arrays.take_rows(ra, rows),
                "dec": arrays.take_rows(dec, rows),
                "brick": np.repeat(np.arange(len(block)), block["n_objects"]),
            }
        )
        yield block, arrays.take_rows(objid, rows), places


def _margin_arcsec(block: pd.DataFrame, places: pd.DataFrame) -> NDArray[np.float64]:
    """Return how far inside its brick every object is; negative outside, NaN if unknown."""
    brick = places["brick"].to_numpy()
    ra, dec = places["ra"].to_numpy(), places["dec"].to_numpy()
    low, high = block["ra1"].to_numpy()[brick], block["ra2"].to_numpy()[brick]
    east = np.mod(ra - 0.5 * (low + high) + 180.0, 360.0) - 180.0
    in_ra = (0.5 * (high - low) - np.abs(east)) * np.cos(np.radians(dec))
    # A brick around a pole has no border in right ascension.
    in_ra = np.where(high - low >= 360.0, np.inf, in_ra)
    south, north = block["dec1"].to_numpy()[brick], block["dec2"].to_numpy()[brick]
    in_dec = np.minimum(
        np.where(south <= -90.0, np.inf, dec - south), np.where(north >= 90.0, np.inf, north - dec)
    )
    margin: NDArray[np.float64] = np.minimum(in_ra, in_dec) * 3600.0
    return margin


def _repeats(brick: NDArray[np.int64], objid: NDArray[np.int64]) -> int:
    order = np.lexsort((objid, brick))
    same = (np.diff(brick[order]) == 0) & (np.diff(objid[order]) == 0)
    return int(np.count_nonzero(same & (objid[order][1:] != PADDING_OBJID)))


def _pairs(objects: pd.DataFrame, separation_arcsec: float) -> tuple[int, tuple[Pair, ...]]:
    """Return how many objects are near one of another brick, and the nearest of those pairs."""
    if len(objects) < 2:
        return 0, ()
    ra, dec = np.radians(objects["ra"].to_numpy()), np.radians(objects["dec"].to_numpy())
    points = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2.0 * np.sin(np.radians(separation_arcsec / 3600.0) / 2.0)
    found = cKDTree(points).query_pairs(chord, output_type="ndarray")
    names, objid = objects["brickname"].to_numpy(), objects["objid"].to_numpy()
    found = found[names[found[:, 0]] != names[found[:, 1]]]
    distance = np.linalg.norm(points[found[:, 0]] - points[found[:, 1]], axis=1)
    nearest = np.argsort(distance, kind="stable")[:_EXAMPLES]
    pairs = tuple(
        Pair(
            bricknames=(str(names[a]), str(names[b])),
            objids=(int(objid[a]), int(objid[b])),
            separation_arcsec=float(np.degrees(distance[place]) * 3600.0),
        )
        for place, (a, b) in zip(nearest.tolist(), found[nearest].tolist(), strict=True)
    )
    return len(np.unique(found)), pairs
