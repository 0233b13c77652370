"""A small survey with embeddings that a test chooses, for tests of search, rarity, map and drift.

Its bricks, objects and receipts are those of `measured_survey`; no encoder runs.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from measured_survey import SURVEY, Change, objects_of, sky_patch, write_survey

from storage.brick_store import RowRange, ledger
from storage.bricks import Brick
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
from storage.repository import fork, merge, open_repository, read_session, transaction
from tasks.references import EncoderRef
from tasks.settings import Settings

WIDTH = 8
DIGEST = "e" * 64


def make_survey(
    settings: Settings, columns: int, rows: int, count: int, change: Change | None = None
) -> list[Brick]:
    """Ingest a patch of bricks with so many objects each into the store of a home."""
    bricks = sky_patch(columns, rows)
    objects = {brick.brickname: objects_of(brick, count) for brick in bricks}
    write_survey(Path(settings.store_path) / "survey", bricks, objects=objects, change=change)
    return bricks


def embed_bricks(
    settings: Settings, vectors: Mapping[str, np.ndarray], digest: str = DIGEST
) -> EncoderRef:
    """Write embeddings of bricks, as the embed flow does, and an encoder with their digest."""
    store = Path(settings.store_path)
    session = read_session(open_repository(store / "survey"))
    table = ledger(session, SURVEY)
    path = embedding_group(digest, SURVEY)
    repository = open_repository(store / "embeddings", create=True)
    with transaction(repository, "rows") as session:
        width = next(iter(vectors.values())).shape[1]
        create_embeddings(session, SURVEY, EmbeddingLayout(digest, width, {}))
        reserve_rows(session, digest, SURVEY, int((table["row_start"] + table["rows"]).max()))
    bricks = {brick.brickname: brick for brick in sky_patch(8, 8)}
    with transaction(repository, "embeddings") as session:
        child = fork(session)
        done = []
        for name, values in vectors.items():
            rows = RowRange(int(table.at[name, "row_start"]), int(table.at[name, "rows"]))
            ids = objects_of(bricks[name], len(values))[["objid"]]
            ids = ids.assign(release=10000, brickid=bricks[name].brickid)
            EmbeddingWriter(child, path).write(rows, values, ids)
            version = str(brick_version(table)[name])
            done.append(EmbeddedBrick(name, rows, len(values), version, "SNAPSHOT"))
        merge(session, [child])
        record_embedded(session, path, done)
    return encoder_reference(settings, digest)


def encoder_reference(settings: Settings, digest: str = DIGEST) -> EncoderRef:
    """Put an encoder's digest where encoders are found, and refer to it."""
    folder = settings.encoder_path / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digest").write_text(digest)
    return EncoderRef(path=str(folder), digest=digest)


def clustered(bricks: list[Brick], count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return embeddings of three kinds of objects, each brick with some of each, float32."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(3, WIDTH)) + 5
    return {
        brick.brickname: (
            centres[np.arange(count) % 3] + 0.3 * rng.normal(size=(count, WIDTH))
        ).astype(np.float32)
        for brick in bricks
    }
