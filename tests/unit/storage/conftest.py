"""Fixtures for tests of the store: blocks of cutouts and a small survey."""

from collections.abc import Callable
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr

from storage.brick_store import (
    BrickRecord,
    allocate,
    create_survey,
    record_bricks,
    write_cutouts,
)
from storage.repository import fork, merge, open_repository, transaction
from storage.schema import BrickState, SurveyLayout, catalogue_columns

SURVEY = "dr10/south"
SIZE = 8
BANDS = ("g", "r", "z")

MakeBlock = Callable[..., xr.Dataset]
Ingest = Callable[..., None]


@pytest.fixture
def layout() -> SurveyLayout:
    return SurveyLayout(bands=BANDS, size=SIZE)


@pytest.fixture
def make_block() -> MakeBlock:
    """Return a function that makes a block of cutouts, the same for the same arguments."""

    def make(n_objects: int, brickid: int = 1, seed: int = 0) -> xr.Dataset:
        rng = np.random.default_rng([seed, brickid])
        shape = (n_objects, len(BANDS), SIZE, SIZE)
        invvar = rng.uniform(100, 3000, shape).astype(np.float32)
        image = (rng.normal(size=shape) / np.sqrt(invvar)).astype(np.float32)
        image[::2, :, SIZE // 2, SIZE // 2] += np.float32(33.333)  # bright
        columns = catalogue_columns(BANDS)
        catalogue = rng.normal(size=(n_objects, len(columns))).astype(np.float32)
        return xr.Dataset(
            {
                "image": (("object", "band", "y", "x"), image),
                "invvar": (("object", "band", "y", "x"), invvar),
                "maskbits": (
                    ("object", "y", "x"),
                    rng.integers(0, 1 << 17, (n_objects, SIZE, SIZE), dtype=np.int32),
                ),
                "release": ("object", np.full(n_objects, 10000, np.int32)),
                "brickid": ("object", np.full(n_objects, brickid, np.int32)),
                "objid": ("object", np.arange(n_objects, dtype=np.int64) * 3),
                "ra": ("object", rng.uniform(0, 360, n_objects)),
                "dec": ("object", rng.uniform(-90, 90, n_objects)),
                "type": ("object", np.full(n_objects, 2, np.uint8)),
                "catalogue": (("object", "column"), catalogue),
            },
            coords={"band": list(BANDS), "column": list(columns)},
        )

    return make


@pytest.fixture
def repository(tmp_path: Path) -> icechunk.Repository:
    return open_repository(tmp_path / "survey", create=True)


@pytest.fixture
def ingest(layout: SurveyLayout) -> Ingest:
    """Return a function that writes blocks by brickname into a repository, as the ingest does."""

    def write(
        repository: icechunk.Repository, blocks: dict[str, xr.Dataset], content: str = "content"
    ) -> None:
        with transaction(repository, "allocate") as session:
            create_survey(session, SURVEY, layout)
            counts = {name: block.sizes["object"] for name, block in blocks.items()}
            ranges = allocate(session, SURVEY, counts)
        with transaction(repository, "write") as session:
            forks = [fork(session) for _ in blocks]
            for child, (name, block) in zip(forks, blocks.items(), strict=True):
                write_cutouts(child, SURVEY, ranges[name], block)
            merge(session, forks)
            records = [
                BrickRecord(
                    brickname=name,
                    brickid=int(block["brickid"][0]),
                    state=BrickState.WRITTEN,
                    rows=ranges[name],
                    n_objects=block.sizes["object"],
                    content_digest=content,
                    config_digest="config",
                    receipt={"objects": block.sizes["object"]},
                )
                for name, block in blocks.items()
            ]
            record_bricks(session, SURVEY, records)

    return write
