"""Embed the objects of a snapshot on Dask workers and commit the vectors with their provenance.

Only names, rows and forks travel: see `tasks.embedding_worker` for what a worker does. A partition
of bricks is a commit; what a killed run did not commit is pending for the next.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import icechunk
import pandas as pd
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.checkpoint import encoder_document
from lvm.forward import ForwardConfig
from storage import embedding_store
from storage.brick_store import RowRange, ledger, ledger_of
from storage.embedding_store import EmbeddedBrick, EmbeddingLayout, embedding_group
from storage.ledger_table import read_ledger
from storage.repository import (
    EMBEDDING_REPOSITORY,
    fork,
    merge,
    open_repository,
    raise_when_full,
    read_session,
    repository_place,
    snapshot_id,
    transaction,
    writer_lock,
)
from storage.schema import BrickState
from tasks.cluster import connect, run_units
from tasks.embedding_worker import Embedded, EmbedRequest, checked_encoder, embed_bricks
from tasks.progress import report
from tasks.receipts import append_units, close_log
from tasks.references import (
    EmbeddingsRef,
    EncoderRef,
    Outcome,
    Receipt,
    SnapshotRef,
    UnitReceipt,
)
from tasks.snapshots import open_snapshot

# Bricks of together so many objects are one call to a worker: large enough that opening a snapshot
# and filling the read-ahead cost nothing, small enough that a lost worker loses a minute of a CPU.
CALL_OBJECTS = 4096
CALLS_A_WORKER = 2  # a call holds at most this part of what is left for each worker
_PENDING_COLUMNS = ("state", "row_start", "rows", "n_objects", "content_digest", "config_digest")


@dataclass(frozen=True)
class EmbedRun:
    """One run of the flow: what is embedded, by what, how, and where its receipts are logged."""

    snapshot: SnapshotRef
    encoder: EncoderRef
    log: str
    forward: ForwardConfig = field(default_factory=ForwardConfig)

    @property
    def repository(self) -> str:
        """Return the folder of the embedding repository."""
        return repository_place(self.snapshot.store, EMBEDDING_REPOSITORY)

    @property
    def request(self) -> EmbedRequest:
        """Return what the workers of this run need."""
        group = embedding_group(self.encoder.digest, self.snapshot.survey)
        return EmbedRequest(self.snapshot, self.encoder, group, self.forward)


@task(name="plan-embedding", cache_policy=NO_CACHE)
def plan_embedding(snapshot: SnapshotRef, encoder: EncoderRef) -> tuple[str, ...]:
    """Return the bricks whose embeddings by this encoder are missing or outdated.

    The arrays for them are created and lengthened here, in a commit of their own.
    """
    survey_ledger = ledger(open_snapshot(snapshot), snapshot.survey, _PENDING_COLUMNS)
    model = checked_encoder(encoder)
    layout = EmbeddingLayout(
        encoder.digest, model.spec.width, encoder_document(model)["preprocess"]
    )
    path = repository_place(snapshot.store, EMBEDDING_REPOSITORY)
    with writer_lock(path, what=f"plan embeddings of {snapshot.survey}"):
        repository = open_repository(path, create=True)
        with transaction(repository, f"rows for embeddings of {snapshot.survey}") as session:
            embedding_store.create_embeddings(session, snapshot.survey, layout)
            stop = survey_ledger["row_start"] + survey_ledger["rows"]
            rows = int(stop.max()) if len(stop) else 0
            embedding_store.reserve_rows(session, encoder.digest, snapshot.survey, rows)
            embedded = embedding_store.embedding_ledger(session, encoder.digest, snapshot.survey)
            pending = embedding_store.pending(survey_ledger, embedded)
            return tuple(pending.sort_values("row_start").index)


@task(name="embed-partition", cache_policy=NO_CACHE)
def embed_partition(scheduler: str, run: EmbedRun, bricknames: tuple[str, ...]) -> int:
    """Embed some bricks on the workers and commit them together.

    A brick that fails, or kills its worker, costs only itself: bricks that shared a failed call
    are tried again one by one. What still fails gets a `failed` receipt and stays pending.

    Returns
    -------
    int
        The number of bricks: as many as there are names.
    """
    snapshot, request = run.snapshot, run.request
    table = ledger_of(open_snapshot(snapshot), snapshot.survey, bricknames)
    message = f"embeddings of {len(bricknames)} bricks of {snapshot.survey}"
    metadata = {"survey_snapshot": snapshot.snapshot_id, "encoder_digest": run.encoder.digest}
    with (
        writer_lock(run.repository, what=f"embed {snapshot.survey}"),
        connect(scheduler) as client,
    ):
        repository = open_repository(run.repository)
        with transaction(repository, message, metadata) as session:
            calls = Calls(client, session, request, table)
            calls.run(calls_of(table, workers=len(client.ncores())))
            calls.run([(name,) for name in calls.undecided])
            merge(session, calls.forks)
            done = [_embedded(table, name, snapshot.snapshot_id) for name in calls.done]
            embedding_store.record_embedded(session, request.group, done)
            metadata["made_on"] = calls.made_on
    receipts = [_written(table, name) for name in calls.done]
    receipts += [_failed(name, error) for name, error in calls.failed.items()]
    append_units(run.log, receipts)
    return len(receipts)


@task(name="embedding-receipt", cache_policy=NO_CACHE)
def close_embedding(run: EmbedRun, names: tuple[str, ...]) -> tuple[EmbeddingsRef, Receipt]:
    """Account for every brick of the snapshot: just embedded, embedded before, empty, failed.

    Parameters
    ----------
    names : tuple of str
        The bricks that this run was to embed; their receipts are in the log already.

    Raises
    ------
    RuntimeError
        If the number of embeddings is not the number of objects: nothing may be lost unseen.
    """
    snapshot, columns = run.snapshot, ("state", "n_objects")
    survey_ledger = ledger(open_snapshot(snapshot), snapshot.survey, columns)
    others = survey_ledger[~survey_ledger.index.isin(names)]
    append_units(run.log, _before(others))
    repository = open_repository(run.repository)
    reference = EmbeddingsRef(
        store=snapshot.store,
        survey=snapshot.survey,
        encoder_digest=run.encoder.digest,
        snapshot_id=snapshot_id(repository),
        survey_snapshot_id=snapshot.snapshot_id,
    )
    receipt = close_log(run.log, snapshot.survey, reference.snapshot_id)
    _check_counts(reference, survey_ledger, receipt)
    return reference, receipt


class Calls:
    """The calls to workers of one partition, and what came of each brick.

    Attributes
    ----------
    forks : the sessions that hold what was written
    done : bricks that are embedded
    failed : what became of the others, by brickname
    undecided : those of the failed that shared a call, of which any may be the cause
    """

    def __init__(
        self, client: Client, session: icechunk.Session, request: EmbedRequest, table: pd.DataFrame
    ) -> None:
        self._client, self._session, self._request = client, session, request
        self._table = table
        self.forks: list[icechunk.ForkSession] = []
        self.done: list[str] = []
        self.failed: dict[str, BaseException] = {}
        self.undecided: list[str] = []
        self._devices: Counter[str] = Counter()

    def run(self, calls: Iterable[tuple[str, ...]]) -> None:
        """Call the workers, each time with some bricks, and wait for all answers."""
        named = list(calls)
        units = [
            (fork(self._session), self._request, {name: _rows(self._table, name) for name in names})
            for names in named
        ]
        for index, result in run_units(self._client, embed_bricks, units):
            if isinstance(result, Embedded):
                self.forks.append(result.session)
                self.done += named[index]
                self._devices[f"{result.device} {result.precision}"] += result.objects
                for name in named[index]:
                    self.failed.pop(name, None)
            else:
                raise_when_full(result)  # every other brick would fail of it too
                self.failed |= dict.fromkeys(named[index], result)
                self.undecided += named[index] if len(named[index]) > 1 else ()
            report("bricks embedded", len(self.done), len(self._table))

    @property
    def made_on(self) -> dict[str, int]:
        """Return how many objects each kind of device and precision embedded."""
        return dict(self._devices)


def calls_of(table: pd.DataFrame, workers: int) -> Iterator[tuple[str, ...]]:
    """Group bricks, in the order of their rows, into calls of at most `CALL_OBJECTS` objects.

    A brick is never divided, so a call may hold more when it is a single brick. The last calls are
    the smallest: the workers end at nearly the same time, however fast each of them is.
    """
    ordered = table.sort_values("row_start")["n_objects"]
    shares, left = CALLS_A_WORKER * max(1, workers), int(ordered.sum())
    names: list[str] = []
    objects = 0
    for name, count in ordered.items():
        if names and objects + count > min(CALL_OBJECTS, left // shares):
            yield tuple(names)
            left -= objects
            names, objects = [], 0
        names.append(str(name))
        objects += int(count)
    if names:
        yield tuple(names)


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


def _before(table: pd.DataFrame) -> Iterator[UnitReceipt]:
    """Yield receipts of the bricks that this run left alone; those without cutouts are empty."""
    written = table["state"] == int(BrickState.WRITTEN)
    for name, count in table["n_objects"].where(written, 0).items():
        outcome = Outcome.ALREADY_PRESENT if count else Outcome.EMPTY
        yield UnitReceipt(name=str(name), outcome=outcome, objects=int(count))


def _check_counts(reference: EmbeddingsRef, table: pd.DataFrame, receipt: Receipt) -> None:
    """Compare the embeddings in the store, not the words of workers, with the objects."""
    path = f"{embedding_group(reference.encoder_digest, reference.survey)}/{embedding_store.LEDGER}"
    embedded = read_ledger(open_embeddings(reference), path, ["n_objects"])["n_objects"]
    written = table.loc[table["state"] == int(BrickState.WRITTEN), "n_objects"]
    same = embedded.reindex(written.index) == written
    failed = receipt.counts[Outcome.FAILED]
    if int((~same).sum()) > failed or receipt.total != len(table):
        raise RuntimeError(
            f"{int(written.sum())} objects went in and {int(written[same].sum())} embeddings came "
            f"out for {reference.survey}, while {failed} bricks failed: run the embed flow again "
            "and report this"
        )


def open_embeddings(reference: EmbeddingsRef) -> Any:
    """Open a read-only session on the embeddings that a reference names."""
    repository = open_repository(repository_place(reference.store, EMBEDDING_REPOSITORY))
    return read_session(repository, snapshot=reference.snapshot_id)
