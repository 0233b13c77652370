"""What is out of date because bricks changed: embeddings by brick, catalogues by snapshot.

Nothing is flagged when a brick is ingested again. What depends on it carries the digests or the
snapshot that it was made from, and is stale when those are no longer the store's.
"""

from pathlib import Path
from typing import Any

import icechunk
import pandas as pd

from storage import embedding_store
from storage.brick_ledger import changed_bricks, ledger
from storage.catalogue import read_metadata
from storage.errors import StorageError
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
)
from storage.schema import BrickState
from tasks.references import Reference
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

_COLUMNS = ("state", "row_start", "n_objects", "content_digest", "config_digest")
NAMED_BRICKS = 20  # of the stale ones, that are named in the answer


class Dependent(Reference):
    """Something that was made from a survey: how many bricks it has right, wrong or not at all."""

    kind: str
    name: str
    current: int
    stale: int
    missing: int
    stale_bricks: tuple[str, ...] = ()


def find_stale(settings: Settings, survey: str) -> tuple[Dependent, ...]:
    """Compare everything made from a survey with the bricks that are in the store now."""
    snapshot = find_snapshot(settings, survey, None)
    store = settings.store_path
    session = read_session(
        open_repository(repository_place(store, SURVEY_REPOSITORY)), snapshot=snapshot.snapshot_id
    )
    table = ledger(session, survey, _COLUMNS)
    written = table[table["state"] == int(BrickState.WRITTEN)]
    return (
        *_embeddings(repository_place(store, EMBEDDING_REPOSITORY), survey, written),
        *_catalogues(settings, survey, table),
    )


def _embeddings(path: str, survey: str, written: pd.DataFrame) -> list[Dependent]:
    if not repository_exists(path):
        return []
    session = read_session(open_repository(path))
    found = []
    for digest in embedding_store.encoders_of(session, survey):
        embedded = embedding_store.embedding_ledger(session, digest, survey)
        pending = embedding_store.pending(written, embedded).index
        stale = pending.intersection(embedded.index)
        found.append(
            Dependent(
                kind="embeddings",
                name=digest[:16],
                current=len(written) - len(pending),
                stale=len(stale),
                missing=len(pending) - len(stale),
                stale_bricks=tuple(map(str, stale[:NAMED_BRICKS])),
            )
        )
    return found


def _catalogues(settings: Settings, survey: str, table: pd.DataFrame) -> list[Dependent]:
    repository = open_repository(repository_place(settings.store_path, SURVEY_REPOSITORY))
    found = []
    for file in sorted(settings.catalogue_path.rglob("catalogue.parquet")):
        snapshot: dict[str, Any] = read_metadata(file.parent)["snapshot"]
        if snapshot["survey"] == survey:
            found.append(_catalogue(repository, file, snapshot, table))
    return found


def _catalogue(
    repository: icechunk.Repository, file: Path, snapshot: dict[str, Any], table: pd.DataFrame
) -> Dependent:
    name = f"{file.parent.parent.name}/{file.parent.name}"
    try:
        session = read_session(repository, snapshot=snapshot["snapshot_id"])
    except StorageError:  # of another store, or expired: nothing of it can be said to be current
        missing = int((table["state"] == int(BrickState.WRITTEN)).sum())
        return Dependent(kind="catalogue", name=name, current=0, stale=0, missing=missing)
    before = ledger(session, snapshot["survey"], _COLUMNS)
    changes = changed_bricks(before, table)
    count = changes["change"].value_counts().to_dict()
    stale = changes.index[changes["change"] != "added"]
    was_written = int((before["state"] == int(BrickState.WRITTEN)).sum())
    return Dependent(
        kind="catalogue",
        name=name,
        current=was_written - len(stale),
        stale=len(stale),
        missing=int(count.get("added", 0)),
        stale_bricks=tuple(map(str, stale[:NAMED_BRICKS])),
    )
