"""A cycle over a survey that is in use: what is new or changed, and what it would cost.

A cycle fixes at its beginning the snapshot and the champions that it works with, and writes them
into `<home>/cycles/<flow run>.json`: the body of a flow that was suspended or is retried runs again
from its start and goes on with these, not with whatever has come since. What each step took is
kept there too, and tells the next dry run what to expect.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from prefect.runtime import flow_run
from pydantic import Field

from storage import embedding_store
from storage.errors import StorageError
from storage.repository import (
    EMBEDDING_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
)
from tasks import tracking
from tasks.encoders import NoEncoder, find_encoder
from tasks.planning import PlanRequest, plan_ingest
from tasks.prediction import stale_bricks, written_bricks
from tasks.publication import propose
from tasks.references import EncoderRef, ModelRef, Reference, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import find_snapshot
from tasks.whole_files import whole_file

SLOW_CYCLES = 5  # newest records that rates are taken from


class StepCost(Reference):
    """What a step did: bricks, objects, seconds of wall time."""

    bricks: int = 0
    objects: int = 0
    seconds: float = 0.0


class CycleRecord(Reference):
    """What a cycle works with, and what its steps took so far."""

    cycle: str
    survey: str
    source: str
    started_at: datetime
    snapshot: SnapshotRef
    champions: tuple[ModelRef, ...]
    encoders: tuple[EncoderRef, ...]
    notes: tuple[str, ...] = ()
    steps: dict[str, StepCost] = Field(default_factory=dict)


class StepPlan(Reference):
    """What a step would do; `seconds` is None where no cycle has measured it yet.

    `bricks` and `objects` are those known to be stale now; where bricks are to be ingested,
    `at_most` adds those, as it is not known yet which of them will change.
    """

    step: str
    bricks: int
    objects: int
    at_most: int
    seconds: float | None
    note: str = ""


class CyclePlan(Reference):
    """What a cycle would do, step by step, and what it found on the way."""

    survey: str
    snapshot: SnapshotRef | None
    steps: tuple[StepPlan, ...]
    notes: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Return whether there is nothing to do."""
        return not any(step.at_most for step in self.steps)


def cycle_record(settings: Settings) -> CycleRecord | None:
    """Return what this flow run fixed before it was suspended or retried, or None."""
    path = _path(settings, str(flow_run.id or ""))
    if not flow_run.id or not path.is_file():
        return None
    return CycleRecord.model_validate_json(path.read_text(encoding="utf-8"))


def begin_cycle(
    settings: Settings,
    snapshot: SnapshotRef,
    source: str,
    downstreams: list[str] | None = None,
    encoder: str = "",
) -> CycleRecord:
    """Fix what a cycle works with, and write it down.

    Parameters
    ----------
    downstreams : list of str, optional
        Those to predict; all that have a champion by default.
    encoder : str
        As for `tasks.encoders.find_encoder`; by default those that the champions were made with.
    """
    champions, notes = champions_of(settings, downstreams)
    encoders, lost = encoders_of(settings, champions, encoder)
    record = CycleRecord(
        cycle=str(flow_run.id or uuid4()),
        survey=snapshot.survey,
        source=source,
        started_at=datetime.now(UTC),
        snapshot=snapshot,
        champions=champions,
        encoders=encoders,
        notes=(*notes, *lost),
    )
    return keep(settings, record)


def champions_of(
    settings: Settings, downstreams: list[str] | None
) -> tuple[tuple[ModelRef, ...], tuple[str, ...]]:
    """Return the champions, and which of the downstream tasks that were named have none."""
    names = downstreams if downstreams is not None else tracking.registered_models(settings)
    found = {name: tracking.champion(settings, name) for name in sorted(names)}
    notes = [
        f"{name} has no champion, so it is not predicted" for name, one in found.items() if not one
    ]
    return tuple(one for one in found.values() if one), tuple(notes)


def encoders_of(
    settings: Settings, champions: tuple[ModelRef, ...], name: str
) -> tuple[tuple[EncoderRef, ...], tuple[str, ...]]:
    """Return the encoders to embed with, and which are lost: embeddings then stay as they are."""
    digests = {tracking.version_tags(settings, one).get("encoder_digest", "") for one in champions}
    found, notes = [], []
    for wanted in [name] if name else sorted(digest[:16] for digest in digests - {""}):
        try:
            found.append(find_encoder(settings, wanted))
        except NoEncoder as error:
            notes.append(f"nothing is embedded by {wanted}: {error}")
    return tuple(found), tuple(notes)


@contextmanager
def timed(settings: Settings, cycle: str, step: str) -> Iterator[list[tuple[int, int]]]:
    """Note what a step took; whoever works inside appends (bricks, objects)."""
    done: list[tuple[int, int]] = []
    started = time.monotonic()
    yield done
    path = _path(settings, cycle)
    record = CycleRecord.model_validate_json(path.read_text(encoding="utf-8"))
    cost = StepCost(
        bricks=sum(bricks for bricks, _ in done),
        objects=sum(objects for _, objects in done),
        seconds=time.monotonic() - started,
    )
    keep(settings, record.model_copy(update={"steps": record.steps | {step: cost}}))


def keep(settings: Settings, record: CycleRecord) -> CycleRecord:
    """Write a record down and return it."""
    with whole_file(_path(settings, record.cycle)) as partial:
        partial.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return record


def rates(settings: Settings, survey: str) -> dict[str, float]:
    """Return objects a second of every step that one of the last cycles worked in."""
    folder = settings.home.resolve() / "cycles"
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    records = [CycleRecord.model_validate_json(path.read_text("utf-8")) for path in paths]
    sums: dict[str, list[float]] = {}
    for record in [one for one in records if one.survey == survey][:SLOW_CYCLES]:
        for step, cost in record.steps.items():
            if cost.objects:
                total = sums.setdefault(step, [0.0, 0.0])
                total[0] += cost.objects
                total[1] += cost.seconds
    return {step: objects / seconds for step, (objects, seconds) in sums.items() if seconds}


def plan_cycle(
    settings: Settings,
    survey: str,
    request: PlanRequest | None,
    downstreams: list[str] | None = None,
    encoder: str = "",
) -> CyclePlan:
    """Say what a cycle would do and cost; nothing is written, fetched or run.

    Parameters
    ----------
    request : PlanRequest, optional
        Where new bricks would come from; with `calibrate` some are read to measure.
    """
    champions, notes = champions_of(settings, downstreams)
    encoders, lost = encoders_of(settings, champions, encoder)
    ingest = StepPlan(step="ingest", bricks=0, objects=0, at_most=0, seconds=0.0, note="no source")
    if request is not None:
        planned = plan_ingest(settings, request)
        budget = planned.budget
        ingest = StepPlan(
            step="ingest",
            bricks=planned.work.bricks,
            objects=round(budget.objects.best) if planned.work.bricks else 0,
            at_most=round(budget.objects.high) if planned.work.bricks else 0,
            seconds=budget.seconds.best if budget.seconds else None,
            note="; ".join(obstacle.what for obstacle in planned.obstacles if obstacle.fatal),
        )
    try:
        snapshot = find_snapshot(settings, survey, None)
    except StorageError:
        notes = (*notes, f"{survey} is not in the store yet")
        return CyclePlan(survey=survey, snapshot=None, steps=(ingest,), notes=(*notes, *lost))
    known = rates(settings, survey)
    steps = [ingest]
    steps += [_embedding(snapshot, one, ingest, known) for one in encoders]
    for model in champions:
        steps += _prediction(settings, snapshot, model, ingest, known)
    return CyclePlan(survey=survey, snapshot=snapshot, steps=tuple(steps), notes=(*notes, *lost))


def _embedding(
    snapshot: SnapshotRef, encoder: EncoderRef, ingest: StepPlan, known: dict[str, float]
) -> StepPlan:
    written = written_bricks(snapshot)
    pending, path = written, repository_place(snapshot.store, EMBEDDING_REPOSITORY)
    if repository_exists(path):
        session = read_session(open_repository(path))
        if embedding_store.has_embeddings(session, encoder.digest, snapshot.survey):
            table = embedding_store.embedding_ledger(session, encoder.digest, snapshot.survey)
            pending = embedding_store.pending(written, table)
    objects = int(pending["n_objects"].sum())
    return _step(f"embed {encoder.digest[:16]}", len(pending), objects, ingest, known.get("embed"))


def _prediction(
    settings: Settings,
    snapshot: SnapshotRef,
    model: ModelRef,
    ingest: StepPlan,
    known: dict[str, float],
) -> list[StepPlan]:
    written = written_bricks(snapshot)
    stale = stale_bricks(settings, snapshot, model, written)
    objects = int(written.loc[list(stale), "n_objects"].sum())
    name = f"{model.downstream} v{model.version}"
    predict = _step(f"predict {name}", len(stale), objects, ingest, known.get("predict"))
    proposal = propose.fn(settings, snapshot, model)
    same = bool(proposal.published)
    rows = 0 if same and not ingest.bricks else proposal.rows
    rate = known.get("publish")
    return [
        predict,
        StepPlan(
            step=f"publish {name}",
            bricks=0 if same else proposal.bricks,
            objects=0 if same else proposal.rows,
            at_most=rows + (ingest.at_most if rows else 0),
            seconds=rows / rate if rate else (0.0 if not rows else None),
            note=f"as {proposal.published} is" if same else f"would be {proposal.tag}",
        ),
    ]


def _step(name: str, bricks: int, objects: int, ingest: StepPlan, rate: float | None) -> StepPlan:
    at_most = objects + ingest.at_most
    seconds = at_most / rate if rate else (0.0 if not at_most else None)
    return StepPlan(step=name, bricks=bricks, objects=objects, at_most=at_most, seconds=seconds)


def _path(settings: Settings, cycle: str) -> Path:
    return settings.home.resolve() / "cycles" / f"{cycle}.json"
