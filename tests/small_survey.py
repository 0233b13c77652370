"""A survey of made-up galaxies in a store, brick by brick, without any brick on disk."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from lvm.testing import TINY_CUTOUT, galaxies
from storage.brick_store import BrickRecord, allocate, create_survey, record_bricks, write_cutouts
from storage.repository import (
    SURVEY_REPOSITORY,
    fork,
    merge,
    open_repository,
    snapshot_id,
    transaction,
)
from storage.schema import BrickState, SurveyLayout, catalogue_columns
from tasks.references import SnapshotRef

SURVEY, BANDS = "dr10/south", ("g", "r", "z")


def write_small_survey(
    store: Path, counts: Mapping[str, int], *, size: int = TINY_CUTOUT, version: int = 0
) -> SnapshotRef:
    """Write bricks with so many galaxies each; another version has other pixels and digests."""
    repository = open_repository(store / SURVEY_REPOSITORY, create=True)
    numbers = {name: int(name.removeprefix("b")) for name in counts}
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(BANDS, size))
        ranges = allocate(session, SURVEY, counts)
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for name, count in counts.items():
            block = cutouts_of(numbers[name], count, size=size, version=version)
            write_cutouts(child, SURVEY, ranges[name], block)
        merge(session, [child])
        records = [
            BrickRecord(
                name,
                numbers[name],
                BrickState.WRITTEN,
                ranges[name],
                count,
                content_digest=f"{version}",
                config_digest="a",
            )
            for name, count in counts.items()
        ]
        record_bricks(session, SURVEY, records)
    return reference(store)


def withdraw_bricks(store: Path, names: list[str]) -> SnapshotRef:
    """Take bricks out of the survey, as a withdrawal does."""
    with transaction(open_repository(store / SURVEY_REPOSITORY), "withdraw") as session:
        records = [
            BrickRecord(name, int(name.removeprefix("b")), BrickState.WITHDRAWN) for name in names
        ]
        record_bricks(session, SURVEY, records)
    return reference(store)


def reference(store: Path) -> SnapshotRef:
    """Return the newest snapshot of the survey."""
    repository = open_repository(store / SURVEY_REPOSITORY)
    return SnapshotRef(store=str(store), survey=SURVEY, snapshot_id=snapshot_id(repository))


def cutouts_of(number: int, count: int, *, size: int = TINY_CUTOUT, version: int = 0) -> xr.Dataset:
    """Return the galaxies of one brick as the store takes them."""
    made = galaxies(count, np.random.default_rng((number, version)), size=size)
    columns = catalogue_columns(BANDS)
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), made["image"]),
            "invvar": (("object", "band", "y", "x"), made["invvar"]),
            "maskbits": (("object", "y", "x"), made["maskbits"]),
            "release": ("object", np.full(count, 10000, np.int32)),
            "brickid": ("object", np.full(count, number, np.int32)),
            "objid": ("object", np.arange(count, dtype=np.int64)),
            "ra": ("object", np.zeros(count)),
            "dec": ("object", np.zeros(count)),
            "type": ("object", np.zeros(count, np.uint8)),
            "catalogue": (("object", "column"), np.zeros((count, len(columns)), np.float32)),
        },
        coords={"band": list(BANDS), "column": list(columns)},
    )
