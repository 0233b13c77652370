"""Ingest: plan units on workers, give them rows, let workers write them, commit once a partition.

The committing process holds the writer lock of the cutout repository for the whole partition. Rows
are given in one commit (they are padding until written), cutouts and ledger follow in the next: a
killed run leaves the last snapshot as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_store import (
    BrickRecord,
    RowRange,
    allocate,
    create_survey,
    is_complete,
    ledger,
    receipts,
    record_bricks,
    write_cutouts,
)
from storage.repository import (
    SURVEY_REPOSITORY,
    fork,
    merge,
    open_repository,
    snapshot_id,
    transaction,
    writer_lock,
)
from storage.schema import BrickState
from tasks.cluster import connect, run_units
from tasks.progress import report
from tasks.references import Outcome, Receipt, UnitReceipt
from tasks.sources import Source, UnitCutouts, UnitPlan


@dataclass(frozen=True)
class IngestRequest:
    """What is ingested, and where to; small enough to send to every worker."""

    store: str
    survey: str
    source: Source

    @property
    def repository(self) -> Path:
        """Return the folder of the cutout repository."""
        return Path(self.store) / SURVEY_REPOSITORY


@dataclass(frozen=True)
class Written:
    """What a worker sends back of a unit: its fork and the account, no pixels."""

    session: icechunk.ForkSession
    objects: int
    digest: str
    account: dict[str, Any]


@task(name="list-units", cache_policy=NO_CACHE)
def list_units(request: IngestRequest, wanted: list[str] | None) -> tuple[str, ...]:
    """Return the names of the bricks or blocks to ingest."""
    return request.source.list_units(wanted)


def partitions(names: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Yield the names in parts of at most `size`: what becomes visible in one commit."""
    for start in range(0, len(names), size):
        yield names[start : start + size]


@task(name="ingest-partition", cache_policy=NO_CACHE)
def ingest_partition(
    scheduler: str, request: IngestRequest, names: tuple[str, ...]
) -> tuple[UnitReceipt, ...]:
    """Ingest some units on the workers and commit them together.

    Returns
    -------
    tuple of UnitReceipt
        One for each name: a bad brick never takes the others with it.

    Raises
    ------
    RepositoryBusy
        If another run is writing to the store.
    """
    with (
        writer_lock(request.repository, what=f"ingest {request.survey}"),
        connect(scheduler) as client,
    ):
        repository = open_repository(request.repository, create=True)
        plans = _plan(client, request, names)
        pending, found, rows = _give_rows(repository, request, plans)
        found |= _write_pending(repository, client, request, pending, rows)
    return tuple(found[name] for name in names)


def survey_unit(request: IngestRequest, name: str) -> UnitPlan:
    """Plan one unit; runs on a worker."""
    return request.source.survey(name)


def write_unit(
    session: icechunk.ForkSession, request: IngestRequest, name: str, rows: RowRange
) -> Written:
    """Read one unit and write it into its rows; runs on a worker."""
    found = request.source.read(name)
    objects = int(found.dataset.sizes["object"])
    write_cutouts(session, request.survey, rows, found.dataset)
    return Written(session, objects, found.digest, _account(found))


def _account(found: UnitCutouts) -> dict[str, Any]:
    return {
        "not_selected": found.not_selected,
        "without_cutout": found.without_cutout,
        "notes": list(found.notes),
        "verification": found.verification,
        "files": found.files,
    }


def _plan(client: Client, request: IngestRequest, names: tuple[str, ...]) -> list[UnitPlan]:
    plans: dict[str, UnitPlan] = {}
    units = [(request, name) for name in names]
    for count, (index, result) in enumerate(run_units(client, survey_unit, units), 1):
        name = names[index]
        plans[name] = _failed_plan(name, result) if isinstance(result, BaseException) else result
        report("units planned", count, len(names))
    return [plans[name] for name in names]


def _give_rows(
    repository: icechunk.Repository, request: IngestRequest, plans: list[UnitPlan]
) -> tuple[list[UnitPlan], dict[str, UnitReceipt], dict[str, RowRange]]:
    """Return what is left to do, receipts of what is done already, and rows for the rest."""
    digest = request.source.config_digest()
    message = f"rows for {len(plans)} units of {request.survey}"
    with transaction(repository, message) as session:
        create_survey(session, request.survey, request.source.layout())
        table = ledger(session, request.survey)
        done = [
            plan
            for plan in plans
            if plan.status != "failed" and is_complete(table, plan.name, plan.digest, digest)
        ]
        names = {plan.name for plan in done}
        pending = [plan for plan in plans if plan.name not in names]
        counts = {plan.name: plan.n_objects for plan in pending if plan.status == "ready"}
        rows = allocate(session, request.survey, counts) if counts else {}
    objects = {plan.name: int(table.at[plan.name, "n_objects"]) for plan in done}
    return pending, {plan.name: _present(plan.name, objects[plan.name]) for plan in done}, rows


def _write_pending(
    repository: icechunk.Repository,
    client: Client,
    request: IngestRequest,
    pending: list[UnitPlan],
    rows: dict[str, RowRange],
) -> dict[str, UnitReceipt]:
    """Write what is left on the workers and commit cutouts and ledger together."""
    ready = [plan for plan in pending if plan.status == "ready"]
    outcomes = {plan.name: _unread(request, plan) for plan in pending if plan.status != "ready"}
    message = f"{len(pending)} units of {request.survey}"
    with transaction(repository, message, {"survey": request.survey}) as session:
        units = [(fork(session), request, plan.name, rows[plan.name]) for plan in ready]
        forks = []
        for count, (index, result) in enumerate(run_units(client, write_unit, units), 1):
            plan = ready[index]
            if isinstance(result, Written):
                forks.append(result.session)
            outcomes[plan.name] = _outcome(request, plan, rows[plan.name], result)
            report("bricks written", count, len(ready))
        merge(session, forks)
        records = [record for record, _ in outcomes.values()]
        if _changed(session, request.survey, records):
            record_bricks(session, request.survey, records)
    return {name: receipt for name, (_, receipt) in outcomes.items()}


def _changed(session: icechunk.Session, survey: str, records: list[BrickRecord]) -> bool:
    """Say whether the ledger learns anything: a brick that fails again the same way is no news."""
    known = receipts(session, survey, [record.brickname for record in records])
    return any(
        record.state is not BrickState.FAILED or known.get(record.brickname) != dict(record.receipt)
        for record in records
    )


def _outcome(
    request: IngestRequest, plan: UnitPlan, rows: RowRange, result: Written | BaseException
) -> tuple[BrickRecord, UnitReceipt]:
    """Return the ledger row and the receipt of a unit that was read on a worker."""
    if isinstance(result, BaseException):
        return _unread(request, _failed_plan(plan.name, result, plan.brickid))
    state = BrickState.WRITTEN if result.objects else BrickState.EMPTY
    record = BrickRecord(
        brickname=plan.name,
        brickid=plan.brickid,
        state=state,
        rows=rows if result.objects else RowRange(0, 0),
        n_objects=result.objects,
        content_digest=result.digest,
        config_digest=request.source.config_digest(),
        receipt=result.account,
    )
    account = result.account
    receipt = UnitReceipt(
        name=plan.name,
        outcome=Outcome.WRITTEN if result.objects else Outcome.EMPTY,
        objects=result.objects,
        without_cutout={key: len(ids) for key, ids in account["without_cutout"].items()},
        not_selected=account["not_selected"],
        verification=account["verification"],
        notes=tuple(account["notes"]),
    )
    return record, receipt


def _unread(request: IngestRequest, plan: UnitPlan) -> tuple[BrickRecord, UnitReceipt]:
    """Return the ledger row and the receipt of a unit that is empty or cannot be read."""
    failed = plan.status == "failed"
    record = BrickRecord(
        brickname=plan.name,
        brickid=plan.brickid,
        state=BrickState.FAILED if failed else BrickState.EMPTY,
        content_digest=plan.digest,
        config_digest=request.source.config_digest(),
        receipt={"message": plan.reason, "not_selected": plan.not_selected},
    )
    outcome = Outcome.FAILED if failed else Outcome.EMPTY
    receipt = UnitReceipt(
        name=plan.name,
        outcome=outcome,
        not_selected=plan.not_selected,
        verification="not read",
        message=plan.reason,
    )
    return record, receipt


def _failed_plan(name: str, error: BaseException, brickid: int = 0) -> UnitPlan:
    reason = f"{type(error).__name__}: {error}"
    return UnitPlan(name, brickid, "", 0, "failed", reason)


def _present(name: str, objects: int) -> UnitReceipt:
    return UnitReceipt(name=name, outcome=Outcome.ALREADY_PRESENT, objects=objects)


@task(name="ingest-receipt", cache_policy=NO_CACHE)
def close_ingest(request: IngestRequest, parts: list[tuple[UnitReceipt, ...]]) -> Receipt:
    """Put the receipts of all partitions together, with the snapshot that they led to."""
    repository = open_repository(request.repository)
    units = tuple(unit for part in parts for unit in part)
    return Receipt(survey=request.survey, snapshot_id=snapshot_id(repository), units=units)
