"""A survey of made-up galaxies at places of the sky, with catalogue, votes and embeddings.

Half of the galaxies are round and half edge-on; the catalogue and the votes say which. For tests
of data sets and of downstream tasks; no brick is rendered and no flow runs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from measured_survey import sky_patch

from lvm.checkpoint import save_encoder
from lvm.inference import embed
from lvm.testing import TINY_CUTOUT, TinyEncoder, galaxies
from storage.brick_store import (
    BrickRecord,
    RowRange,
    allocate,
    create_survey,
    ledger,
    record_bricks,
    write_cutouts,
)
from storage.bricks import Brick, brick_wcs
from storage.cutouts import sky_to_pixel
from storage.embedding_store import (
    EmbeddedBrick,
    EmbeddingLayout,
    EmbeddingWriter,
    brick_version,
    create_embeddings,
    embedding_group,
    record_embedded,
    reserve_rows,
)
from storage.label_store import append_labels
from storage.repository import fork, merge, open_repository, read_session, snapshot_id, transaction
from storage.schema import BrickState, SurveyLayout, catalogue_columns
from storage.splits import SplitConfig
from tasks.loaders import load_cutouts
from tasks.references import EmbeddingsRef, EncoderRef, SnapshotRef
from tasks.settings import Settings

SURVEY, BANDS = "dr10/south", ("g", "r", "z")
# Cells of 26 arcsec: a brick has thousands, so that a few hundred objects fill every split.
SPLIT = SplitConfig(healpix_order=13, train=0.6, val=0.2, test=0.2)
VOTERS = 20


@dataclass(frozen=True)
class PlacedSurvey:
    """What was written: the snapshot, the encoder and its embeddings."""

    snapshot: SnapshotRef
    encoder: EncoderRef
    embeddings: EmbeddingsRef


def place_galaxies(settings: Settings, bricks: int = 2, count: int = 120) -> PlacedSurvey:
    """Write bricks with so many galaxies each, their votes and their embeddings."""
    patch = sky_patch(bricks, 1)
    snapshot = write_galaxies(settings, patch, count)
    append_labels(settings.labels_path, pd.concat([votes(brick, count) for brick in patch]))
    folder = settings.encoder_path / "tiny"
    digest = save_encoder(TinyEncoder(), folder)
    encoder = EncoderRef(path=str(folder), digest=digest)
    return PlacedSurvey(snapshot, encoder, embed_galaxies(settings, snapshot, encoder, patch))


def write_galaxies(settings: Settings, bricks: list[Brick], count: int) -> SnapshotRef:
    """Write bricks of galaxies; those that are there already stay."""
    path = Path(settings.store_path) / "survey"
    repository = open_repository(path, create=True)
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(BANDS, TINY_CUTOUT))
        ranges = allocate(session, SURVEY, {brick.brickname: count for brick in bricks})
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for brick in bricks:
            write_cutouts(child, SURVEY, ranges[brick.brickname], cutouts(brick, count))
        merge(session, [child])
        records = [
            BrickRecord(
                brick.brickname,
                brick.brickid,
                BrickState.WRITTEN,
                ranges[brick.brickname],
                count,
                content_digest="1",
                config_digest="a",
            )
            for brick in bricks
        ]
        record_bricks(session, SURVEY, records)
    return SnapshotRef(
        store=settings.store_path, survey=SURVEY, snapshot_id=snapshot_id(repository)
    )


def made(brick: Brick, count: int) -> dict[str, np.ndarray]:
    """Return the pixels of a brick's galaxies, and which of them are edge-on."""
    return galaxies(count, np.random.default_rng(brick.brickid))


def catalogue(brick: Brick, count: int) -> pd.DataFrame:
    """Return ids, places and catalogue columns of a brick's galaxies."""
    rng = np.random.default_rng(brick.brickid)
    ra, dec = (
        rng.uniform(low + 0.01, high - 0.01, count)
        for low, high in ((brick.ra1, brick.ra2), (brick.dec1, brick.dec2))
    )
    y, x = sky_to_pixel(brick_wcs(brick), ra, dec)
    pixels = made(brick, count)
    flux = pixels["image"].sum(axis=(2, 3))
    edge_on = pixels["target"][:, 1] > 0
    table = pd.DataFrame(np.nan, index=range(count), columns=list(catalogue_columns(BANDS)))
    for index, band in enumerate(BANDS):
        table[f"flux_{band}"], table[f"mw_transmission_{band}"] = flux[:, index], 1.0
    table["shape_r"] = np.where(edge_on, 1.2, 0.8)
    table["shape_e1"], table["shape_e2"] = np.where(edge_on, 0.6, 0.05), 0.02
    table["sersic"], table["bx"], table["by"] = rng.uniform(1.1, 3.0, count), x, y
    ids = {"release": 10000, "brickid": brick.brickid, "objid": np.arange(count)}
    return table.assign(**ids, ra=ra, dec=dec)


def cutouts(brick: Brick, count: int) -> xr.Dataset:
    """Return the galaxies of a brick as the store takes them."""
    pixels, table = made(brick, count), catalogue(brick, count)
    columns = list(catalogue_columns(BANDS))
    values = table[columns].to_numpy(np.float32)
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), pixels["image"]),
            "invvar": (("object", "band", "y", "x"), pixels["invvar"]),
            "maskbits": (("object", "y", "x"), pixels["maskbits"]),
            "release": ("object", table["release"].to_numpy(np.int32)),
            "brickid": ("object", table["brickid"].to_numpy(np.int32)),
            "objid": ("object", table["objid"].to_numpy(np.int64)),
            "ra": ("object", table["ra"].to_numpy()),
            "dec": ("object", table["dec"].to_numpy()),
            "type": ("object", np.full(count, 2, np.uint8)),
            "catalogue": (("object", "column"), values),
        },
        coords={"band": list(BANDS), "column": columns},
    )


def votes(brick: Brick, count: int) -> pd.DataFrame:
    """Return rows of the label ledger: most people say of each galaxy what it is."""
    edge_on = made(brick, count)["target"][:, 1] > 0
    rows = []
    for answer, right in (("elliptical", ~edge_on), ("edge-on", edge_on)):
        table = catalogue(brick, count)[["release", "brickid", "objid"]]
        rows.append(table.assign(answer=answer, count=np.where(right, VOTERS - 2.0, 2.0)))
    return pd.concat(rows).assign(survey=SURVEY, question="morphology", annotator="people")


def embed_galaxies(
    settings: Settings, snapshot: SnapshotRef, encoder: EncoderRef, bricks: list[Brick]
) -> EmbeddingsRef:
    """Write the embeddings of bricks, as the embed flow does."""
    store, model = Path(settings.store_path), TinyEncoder()
    table = ledger(read_session(open_repository(store / "survey")), SURVEY)
    group = embedding_group(encoder.digest, SURVEY)
    repository = open_repository(store / "embeddings", create=True)
    with transaction(repository, "rows") as session:
        create_embeddings(session, SURVEY, EmbeddingLayout(encoder.digest, model.spec.width, {}))
        reserve_rows(session, encoder.digest, SURVEY, int((table.row_start + table.rows).max()))
    with transaction(repository, "embeddings") as session:
        child, done = fork(session), []
        for brick in bricks:
            entry = table.loc[brick.brickname]
            start, count = int(entry["row_start"]), int(entry["n_objects"])
            batch = load_cutouts(snapshot, np.arange(start, start + count))
            [(_, vectors)] = embed(model, [batch])
            ids = catalogue(brick, count)[["release", "brickid", "objid"]]
            rows = RowRange(start, int(entry["rows"]))
            EmbeddingWriter(child, group).write(rows, vectors, ids)
            version = str(brick_version(table)[brick.brickname])
            name = brick.brickname
            done.append(EmbeddedBrick(name, rows, count, version, snapshot.snapshot_id))
        merge(session, [child])
        record_embedded(session, group, done)
    return EmbeddingsRef(
        store=str(store),
        survey=SURVEY,
        encoder_digest=encoder.digest,
        snapshot_id=snapshot_id(repository),
        survey_snapshot_id=snapshot.snapshot_id,
    )
