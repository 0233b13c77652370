"""Ingest: plan units on workers, give them rows, let workers write them, commit once a partition.

The committing process holds the writer lock of the cutout repository for the whole partition. Rows
are given in one commit (they are padding until written), cutouts and ledger follow in the next: a
killed run leaves the last snapshot as it was, and the next one takes the same rows.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import icechunk
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_ledger import is_complete, ledger_of, receipts, refresh_fingerprints
from storage.brick_store import (
    BrickRecord,
    RowRange,
    allocate,
    create_survey,
    record_bricks,
)
from storage.fetch import StagingFull
from storage.repository import (
    fork,
    merge,
    open_repository,
    raise_when_full,
    repository_place,
    snapshot_id,
    transaction,
    writer_lock,
)
from storage.schema import BrickState
from storage.snapshot_tags import SURVEY_METADATA, tag_newest
from storage.survey_group import record_configuration
from tasks.accounts import outcome_of, present, unread
from tasks.brick_worker import Written, survey_unit, write_unit
from tasks.cluster import connect, run_units
from tasks.ingest_request import IngestRequest
from tasks.progress import report
from tasks.receipts import append_units, close_log
from tasks.references import Receipt, UnitReceipt
from tasks.sources import UnitPlan, broken_plan

WAIT_SECONDS = 900.0  # for another survey's ingest, or a withdrawal, to make its commit
Outcomes = dict[str, tuple[BrickRecord, UnitReceipt]]


@contextmanager
def ingest_lock(request: IngestRequest) -> Iterator[None]:
    """Hold the right to ingest a survey for a whole run; commits take the writer lock as well.

    Raises
    ------
    RepositoryBusy
        If another run ingests this survey into this store; the message says which.
    """
    path = repository_place(request.store, f"ingest-{request.survey.replace('/', '-')}")
    with writer_lock(path, what=f"ingest {request.survey}"):
        yield


def partitions(names: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Yield the names in parts of at most `size`: what becomes visible in one commit."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


@task(name="ingest-partition", cache_policy=NO_CACHE)
def ingest_partition(scheduler: str, request: IngestRequest, names: tuple[str, ...]) -> int:
    """Ingest some units on the workers and commit them together.

    A bad brick never takes the others with it; every unit gets a line in the log of the request.

    Returns
    -------
    int
        The number of units: as many as there are names.

    Raises
    ------
    RepositoryBusy
        If another run does not stop writing to the store.
    RepositoryFull
        If the disk of the store is full. Nothing of the partition is committed.
    """
    with (
        _writing(request),
        connect(scheduler) as client,
    ):
        repository = open_repository(request.repository, create=True)
        plans = _plan(client, request, names)
        pending, found, rows = _give_rows(repository, request, plans)
        outcomes = _write_pending(repository, client, request, pending, rows)
    found |= {name: receipt for name, (_, receipt) in outcomes.items()}
    append_units(request.log, (found[name] for name in names))
    request.source.forget(names)
    return len(found)


def _writing(request: IngestRequest) -> AbstractContextManager[None]:
    what = f"ingest {request.survey}"
    return writer_lock(request.repository, what=what, timeout=WAIT_SECONDS)


def _plan(client: Client, request: IngestRequest, names: tuple[str, ...]) -> list[UnitPlan]:
    plans: dict[str, UnitPlan] = {}
    units = [(request, name) for name in names]
    for count, (index, result) in enumerate(run_units(client, survey_unit, units), 1):
        name = names[index]
        if isinstance(result, StagingFull):
            raise result
        plans[name] = broken_plan(name, result) if isinstance(result, BaseException) else result
        report("units planned", count, len(names))
    return [plans[name] for name in names]


def _give_rows(
    repository: icechunk.Repository, request: IngestRequest, plans: list[UnitPlan]
) -> tuple[list[UnitPlan], dict[str, UnitReceipt], dict[str, RowRange]]:
    """Return what is left to do, receipts of what is done already, and rows for the rest."""
    digest, source = request.source.config_digest(), request.source
    with transaction(repository, f"rows for {len(plans)} units of {request.survey}") as session:
        create_survey(session, request.survey, source.layout())
        record_configuration(session, request.survey, digest, source.configuration())
        table = ledger_of(session, request.survey, [plan.name for plan in plans])
        done = {
            plan.name: plan
            for plan in plans
            if plan.status in ("ready", "empty")
            and not request.again
            and is_complete(table, plan.name, plan.digest, digest)
        }
        seen = {name: plan.fingerprint for name, plan in done.items() if plan.fingerprint}
        refresh_fingerprints(session, request.survey, seen)
        pending = [plan for plan in plans if plan.name not in done]
        ready = {plan.name: plan for plan in pending if plan.status == "ready"}
        rows = allocate(session, request.survey, {name: ready[name].n_objects for name in ready})
        announced = [_announcement(plan, rows[name], digest) for name, plan in ready.items()]
        record_bricks(session, request.survey, announced)
    objects = {name: int(table.at[name, "n_objects"]) for name in done}
    return pending, {name: present(name, objects[name]) for name in done}, rows


def _announcement(plan: UnitPlan, rows: RowRange, digest: str) -> BrickRecord:
    """Return the ledger row of a unit whose files are here and whose cutouts will follow."""
    verified = plan.verification == "verified"
    return BrickRecord(
        brickname=plan.name,
        brickid=plan.brickid,
        state=BrickState.VERIFIED if verified else BrickState.FETCHED,
        rows=rows,
        content_digest=plan.digest,
        config_digest=digest,
        fingerprint=plan.fingerprint,
        verification=plan.verification,
    )


def _write_pending(
    repository: icechunk.Repository,
    client: Client,
    request: IngestRequest,
    pending: list[UnitPlan],
    rows: dict[str, RowRange],
) -> Outcomes:
    """Write what is left on the workers and commit cutouts and ledger together."""
    digest = request.source.config_digest()
    ready = [plan for plan in pending if plan.status == "ready"]
    outcomes = {plan.name: unread(plan, digest) for plan in pending if plan.status != "ready"}
    message = f"{len(pending)} units of {request.survey}"
    metadata = {SURVEY_METADATA: request.survey, "config_digest": digest}
    with transaction(repository, message, metadata) as session:
        units = [(fork(session), request, plan.name, rows[plan.name]) for plan in ready]
        forks = []
        for count, (index, result) in enumerate(run_units(client, write_unit, units), 1):
            plan = ready[index]
            if isinstance(result, Written):
                forks.append(result.session)
                plan = replace(plan, digest=result.digest, n_objects=result.objects)
                outcomes[plan.name] = outcome_of(plan, rows[plan.name], digest, result.account)
            else:
                raise_when_full(result)
                outcomes[plan.name] = unread(broken_plan(plan.name, result, plan), digest)
            report("bricks written", count, len(ready))
        merge(session, forks)
        records = [record for record, _ in outcomes.values()]
        if _changed(session, request.survey, records):
            record_bricks(session, request.survey, records)
    return outcomes


def _changed(session: icechunk.Session, survey: str, records: list[BrickRecord]) -> bool:
    """Say whether the ledger learns anything: a brick that fails again the same way is no news."""
    known = receipts(session, survey, [record.brickname for record in records])
    broken = (BrickState.FAILED, BrickState.QUARANTINED)
    return any(
        record.state not in broken
        or dict(record.receipt) not in _failures(known.get(record.brickname, {}))
        for record in records
    )


def _failures(receipt: dict[str, Any]) -> tuple[Any, ...]:
    """Return the accounts of failure in a receipt: itself, or the last one of a brick kept."""
    return receipt, receipt.get("last_failure")


@task(name="ingest-receipt", cache_policy=NO_CACHE)
def close_ingest(request: IngestRequest, tag: str | None = None) -> Receipt:
    """Name the snapshot that the run led to and return its receipt: all units, counted."""
    with _writing(request):
        repository = open_repository(request.repository, create=True)
        name = tag_newest(repository, request.survey, tag)
        return close_log(request.log, request.survey, snapshot_id(repository), name)
