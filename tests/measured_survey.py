"""A small survey in a store whose receipts carry measurements, for tests of the quality gates.

Its bricks are real ones of the sky, its objects lie inside them, its pixels are noise.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pandas as pd
import xarray as xr

from storage.brick_rows import NO_ROWS, RowRange
from storage.brick_store import BrickRecord, allocate, create_survey, record_bricks, write_cutouts
from storage.bricks import Brick, brick_at, brick_from_id
from storage.repository import fork, merge, open_repository, transaction
from storage.schema import BrickState, SurveyLayout, catalogue_columns

SURVEY = "dr10/south"
BANDS = ("g", "r", "z")
SIZE = 4

Change = Callable[[dict[str, Any], int], None]


def sky_patch(columns: int, rows: int, ra: float = 150.1, dec: float = 2.0) -> list[Brick]:
    """Return adjoining bricks, row by row from the south, in each from west to east in RA."""
    first = [brick_at(ra, dec + 0.25 * y).brickid for y in range(rows)]
    return [brick_from_id(brickid + x) for brickid in first for x in range(columns)]


def measurements(number: int = 0) -> dict[str, Any]:
    """Return what `brick_statistics` says of an ordinary brick."""
    rng = np.random.default_rng(number)
    depth = {"g": 24.7, "r": 24.0, "z": 23.1}
    bands = {
        band: {
            "with_data": 1.0,
            "not_finite": 0.0,
            "psfsize": 1.3 + 0.03 * rng.normal(),
            "depth": depth[band] + 0.06 * rng.normal(),
            "psfdepth": depth[band] + 0.02 * rng.normal(),
            "background": 1e-4 * rng.normal(),
            "noise": 0.004,
            "chi": 0.95 + 0.01 * rng.normal(),
        }
        for band in BANDS
    }
    return {
        "pixels": 12_960_000,
        "sampled": 216_000,
        "objects": 5500,
        "primary": 5000 + number % 7,
        "types": {"PSF": 1500, "REX": 2500, "EXP": 1000},
        "masked": {"NPRIMARY": 0.07, "BRIGHT": 0.01},
        "bad": 0.012,
        "bands": bands,
    }


def receipt(number: int = 0) -> dict[str, Any]:
    """Return the receipt of an ordinary brick."""
    return {
        "not_selected": {"not_primary": 500, "too_faint": 4700},
        "without_cutout": {},
        "notes": [],
        "verification": "verified",
        "files": {},
        "neighbours": {},
        "quality": measurements(number),
    }


def objects_of(brick: Brick, count: int = 3) -> pd.DataFrame:
    """Return objid, ra, dec of objects inside a brick, far from its borders."""
    rng = np.random.default_rng(brick.brickid)
    inside = rng.uniform(0.1, 0.9, (2, count))
    return pd.DataFrame(
        {
            "objid": np.arange(count),
            "ra": brick.ra1 + inside[0] * (brick.ra2 - brick.ra1),
            "dec": brick.dec1 + inside[1] * (brick.dec2 - brick.dec1),
        }
    )


def cutouts(brick: Brick, objects: pd.DataFrame) -> xr.Dataset:
    """Return cutouts of noise for objects of a brick."""
    count = len(objects)
    rng = np.random.default_rng(brick.brickid)
    image = rng.normal(0, 0.01, (count, len(BANDS), SIZE, SIZE)).astype(np.float32)
    columns = catalogue_columns(BANDS)
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), image),
            "invvar": (("object", "band", "y", "x"), np.full_like(image, 1e4)),
            "maskbits": (("object", "y", "x"), np.zeros((count, SIZE, SIZE), np.int32)),
            "release": ("object", np.full(count, 10000, np.int32)),
            "brickid": ("object", np.full(count, brick.brickid, np.int32)),
            "objid": ("object", objects["objid"].to_numpy(np.int64)),
            "ra": ("object", objects["ra"].to_numpy(np.float64)),
            "dec": ("object", objects["dec"].to_numpy(np.float64)),
            "type": ("object", np.full(count, 1, np.uint8)),
            "catalogue": (("object", "column"), np.ones((count, len(columns)), np.float32)),
        },
        coords={"band": list(BANDS), "column": list(columns)},
    )


def write_survey(
    path: Path,
    bricks: Sequence[Brick],
    *,
    objects: dict[str, pd.DataFrame] | None = None,
    change: Change | None = None,
) -> icechunk.Repository:
    """Write bricks into a new repository.

    Parameters
    ----------
    objects : dict, optional
        Other objects than `objects_of`, by brickname.
    change : function, optional
        Changes the receipt of the brick with this number.
    """
    repository = open_repository(path, create=True)
    tables = {brick.brickname: objects_of(brick) for brick in bricks} | (objects or {})
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(bands=BANDS, size=SIZE))
        ranges = allocate(session, SURVEY, {name: len(table) for name, table in tables.items()})
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        records = []
        for number, brick in enumerate(bricks):
            table, rows = tables[brick.brickname], ranges[brick.brickname]
            write_cutouts(child, SURVEY, rows, cutouts(brick, table))
            records.append(_record(brick, number, len(table), change, rows))
        merge(session, [child])
        record_bricks(session, SURVEY, records)
    return repository


def record_again(
    repository: icechunk.Repository,
    bricks: Sequence[Brick],
    change: Change | None = None,
    broken: Sequence[tuple[Brick, BrickState, str]] = (),
) -> None:
    """Give the bricks of `write_survey` other receipts, and the ledger bricks without cutouts.

    Parameters
    ----------
    broken : sequence
        Bricks, their state and message.
    """
    with transaction(repository, "receipts") as session:
        records = [_record(brick, number, 3, change) for number, brick in enumerate(bricks)]
        records += [
            BrickRecord(brick.brickname, brick.brickid, state, receipt={"message": message})
            for brick, state, message in broken
        ]
        record_bricks(session, SURVEY, records)


def _record(
    brick: Brick, number: int, count: int, change: Change | None, rows: RowRange = NO_ROWS
) -> BrickRecord:
    account = receipt(number)
    if change is not None:
        change(account, number)
    return BrickRecord(
        brickname=brick.brickname,
        brickid=brick.brickid,
        state=BrickState.WRITTEN,
        rows=rows,
        n_objects=count,
        verification="verified",
        receipt=account,
    )


def bricks_table(bricks: Sequence[Brick]) -> pd.DataFrame:
    """Return the region's table of bricks, as `storage.bricks.read_survey_bricks` does."""
    depth = {"g": 24.7, "r": 24.0, "z": 23.1}
    return pd.DataFrame(
        {
            "brickname": [brick.brickname for brick in bricks],
            "brickid": [brick.brickid for brick in bricks],
            "ra": [brick.ra for brick in bricks],
            "dec": [brick.dec for brick in bricks],
            "nobjs": [5000 + number % 7 for number in range(len(bricks))],
            "survey_primary": True,
        }
        | {f"psfdepth_{band}": depth[band] for band in BANDS}
    )
