"""Embed the objects of a snapshot on Dask workers and commit the vectors with their provenance.

A worker gets the rows of one brick, a snapshot and an encoder on disk; it reads the cutouts
itself, writes vectors into its fork of the embedding repository and sends only the fork back.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.checkpoint import encoder_document, load_encoder
from lvm.encoder import Encoder
from lvm.inference import embed
from storage import embedding_store
from storage.brick_store import RowRange, ledger, ledger_of, read_objects
from storage.embedding_store import EmbeddedBrick, EmbeddingLayout, embedding_group
from storage.repository import (
    EMBEDDING_REPOSITORY,
    fork,
    merge,
    open_repository,
    read_session,
    snapshot_id,
    transaction,
    writer_lock,
)
from tasks.cluster import connect, run_units
from tasks.loaders import CutoutLoader, open_snapshot
from tasks.progress import report
from tasks.references import (
    EmbeddingsRef,
    EncoderRef,
    Outcome,
    Receipt,
    SnapshotRef,
    UnitReceipt,
)

BATCH_SIZE = 64  # cutouts a forward pass: past this a CPU gains nothing (a GPU flow sets its own)


@dataclass(frozen=True)
class EmbedRequest:
    """What a worker needs to embed a brick; a few hundred bytes."""

    snapshot: SnapshotRef
    encoder: EncoderRef
    group: str
    batch_size: int = BATCH_SIZE


@task(name="plan-embedding", cache_policy=NO_CACHE)
def plan_embedding(snapshot: SnapshotRef, encoder: EncoderRef) -> tuple[str, ...]:
    """Return the bricks whose embeddings by this encoder are missing or outdated.

    The arrays for them are created and lengthened here, in a commit of their own.
    """
    survey_ledger = ledger(open_snapshot(snapshot), snapshot.survey)
    model = _encoder(encoder.path, encoder.digest)
    layout = EmbeddingLayout(
        encoder.digest, model.spec.width, encoder_document(model)["preprocess"]
    )
    path = _repository_path(snapshot.store)
    with writer_lock(path, what=f"plan embeddings of {snapshot.survey}"):
        repository = open_repository(path, create=True)
        with transaction(repository, f"rows for embeddings of {snapshot.survey}") as session:
            embedding_store.create_embeddings(session, snapshot.survey, layout)
            stop = survey_ledger["row_start"] + survey_ledger["rows"]
            rows = int(stop.max()) if len(stop) else 0
            embedding_store.reserve_rows(session, encoder.digest, snapshot.survey, rows)
            embedded = embedding_store.embedding_ledger(session, encoder.digest, snapshot.survey)
            return tuple(embedding_store.pending(survey_ledger, embedded).index)


@task(name="embed-partition", cache_policy=NO_CACHE)
def embed_partition(
    scheduler: str, snapshot: SnapshotRef, encoder: EncoderRef, bricknames: tuple[str, ...]
) -> tuple[UnitReceipt, ...]:
    """Embed some bricks on the workers and commit them together.

    A brick that fails, or whose worker is lost, costs only itself: it gets a `failed` receipt and
    stays pending for the next run.
    """
    group = embedding_group(encoder.digest, snapshot.survey)
    request = EmbedRequest(snapshot, encoder, group)
    table = ledger_of(open_snapshot(snapshot), snapshot.survey, bricknames)
    path = _repository_path(snapshot.store)
    receipts, forks, done = [], [], []
    with writer_lock(path, what=f"embed {snapshot.survey}"), connect(scheduler) as client:
        repository = open_repository(path)
        metadata = {"survey_snapshot": snapshot.snapshot_id, "encoder_digest": encoder.digest}
        message = f"embeddings of {len(bricknames)} bricks of {snapshot.survey}"
        with transaction(repository, message, metadata) as session:
            units = [(fork(session), request, name, _rows(table, name)) for name in bricknames]
            for count, (index, result) in enumerate(run_units(client, embed_brick, units), 1):
                name = bricknames[index]
                if isinstance(result, BaseException):
                    receipts.append(_failed(name, result))
                else:
                    forks.append(result)
                    done.append(_embedded(table, name, snapshot.snapshot_id))
                    receipts.append(_written(table, name))
                report("bricks embedded", count, len(bricknames))
            merge(session, forks)
            embedding_store.record_embedded(session, group, done)
    return tuple(receipts)


@task(name="embedding-receipt", cache_policy=NO_CACHE)
def close_embedding(
    snapshot: SnapshotRef, encoder: EncoderRef, units: tuple[UnitReceipt, ...]
) -> tuple[EmbeddingsRef, Receipt]:
    """Account for every brick of the snapshot: just embedded, embedded before, empty, failed.

    Raises
    ------
    RuntimeError
        If the number of embeddings is not the number of objects: nothing may be lost unseen.
    """
    survey_ledger = ledger(open_snapshot(snapshot), snapshot.survey)
    named = {unit.name for unit in units}
    before = (_before(survey_ledger, name) for name in survey_ledger.index if name not in named)
    repository = open_repository(_repository_path(snapshot.store))
    reference = EmbeddingsRef(
        store=snapshot.store,
        survey=snapshot.survey,
        encoder_digest=encoder.digest,
        snapshot_id=snapshot_id(repository),
        survey_snapshot_id=snapshot.snapshot_id,
    )
    receipt = Receipt.of(snapshot.survey, reference.snapshot_id, chain(units, before))
    failed = {unit.name for unit in units if unit.outcome is Outcome.FAILED}
    _check_counts(reference, survey_ledger, failed)
    return reference, receipt


def embed_brick(
    session: icechunk.ForkSession, request: EmbedRequest, brickname: str, rows: RowRange
) -> icechunk.ForkSession:
    """Embed one brick; runs on a worker.

    Returns
    -------
    ForkSession
        The fork that was given, with the vectors of the brick written.
    """
    snapshot = request.snapshot
    ids = read_objects(
        open_snapshot(snapshot), snapshot.survey, bricknames=[brickname], catalogue=False
    )
    loader = CutoutLoader(snapshot, ids["row"].to_numpy())
    encoder = _encoder(request.encoder.path, request.encoder.digest)
    vectors = [vector for _, vector in embed(encoder, loader.batches(request.batch_size))]
    embedding_store.write_embeddings(session, request.group, rows, np.concatenate(vectors), ids)
    return session


@lru_cache(maxsize=2)
def _encoder(path: str, digest: str) -> Encoder:
    """Load an encoder once a process, and check that it is the one that was asked for."""
    encoder = load_encoder(Path(path))
    found = (Path(path) / "digest").read_text().strip()
    if found != digest:
        raise ValueError(
            f"the encoder at {path} has digest {found[:16]}, asked for {digest[:16]}: it was "
            "replaced; pass a reference to the encoder that is meant"
        )
    return encoder


def _repository_path(store: str) -> Path:
    return Path(store) / EMBEDDING_REPOSITORY


def _rows(table: pd.DataFrame, name: str) -> RowRange:
    return RowRange(int(table.at[name, "row_start"]), int(table.at[name, "rows"]))


def _embedded(table: pd.DataFrame, name: str, survey_snapshot: str) -> EmbeddedBrick:
    version = embedding_store.brick_version(table.loc[[name]]).iloc[0]
    count = int(table.at[name, "n_objects"])
    return EmbeddedBrick(name, _rows(table, name), count, str(version), survey_snapshot)


def _written(table: pd.DataFrame, name: str) -> UnitReceipt:
    count = int(table.at[name, "n_objects"])
    return UnitReceipt(name=name, outcome=Outcome.WRITTEN, objects=count)


def _failed(name: str, error: BaseException) -> UnitReceipt:
    return UnitReceipt(
        name=name, outcome=Outcome.FAILED, message=f"{type(error).__name__}: {error}"
    )


def _before(table: pd.DataFrame, name: str) -> UnitReceipt:
    count = int(table.at[name, "n_objects"])
    outcome = Outcome.ALREADY_PRESENT if count else Outcome.EMPTY
    return UnitReceipt(name=name, outcome=outcome, objects=count)


def _check_counts(reference: EmbeddingsRef, table: pd.DataFrame, failed: set[str]) -> None:
    expected = int(table.loc[~table.index.isin(list(failed)), "n_objects"].sum())
    session = open_embeddings(reference)
    found = embedding_store.embedding_ledger(session, reference.encoder_digest, reference.survey)
    present = int(found.loc[found.index.isin(table.index), "n_objects"].sum())
    stale = found.index.isin(list(failed))
    present -= int(found.loc[stale, "n_objects"].sum())
    if present != expected:
        raise RuntimeError(
            f"{expected} objects went in and {present} embeddings came out for {reference.survey}: "
            "run the embed flow again and report this"
        )


def open_embeddings(reference: EmbeddingsRef) -> Any:
    """Open a read-only session on the embeddings that a reference names."""
    repository = open_repository(_repository_path(reference.store))
    return read_session(repository, snapshot=reference.snapshot_id)
