"""The append-only record of the promotion gate: what was asked, what was answered, what moved.

One SQLite table beside the other ledgers of the home folder; its triggers refuse every change of
a row. A *case* is one hold of one promote run: one evidence packet shown to people. Each event of
a case is written at most once, so writing it again (a flow body that runs twice, a repair after a
crash) changes nothing. Nothing here touches the registry.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from tasks.locks import held
from tasks.references import EvidencePacket, ModelRef, Reference
from tasks.settings import Settings

BUSY_SECONDS = 30  # how long a writer waits for another one
LOCK_SECONDS = 60  # an alias is moved in well under a second

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY,
    at TEXT NOT NULL,             -- UTC, ISO 8601
    case_id TEXT NOT NULL,
    event TEXT NOT NULL,
    ask INTEGER NOT NULL,         -- which form of the case; below 0: not by a form; else 0
    downstream TEXT NOT NULL,
    body TEXT NOT NULL,           -- JSON
    UNIQUE (case_id, event, ask)
);
CREATE TRIGGER IF NOT EXISTS events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'decisions are never changed: append an event'); END;
CREATE TRIGGER IF NOT EXISTS events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'decisions are never deleted'); END;
"""


class Event(StrEnum):
    """What may happen to a case, in order; MOVING without MOVED is a crash to repair.

    REFUSED and APPROVAL (the first of two) may happen several times, each under a number `ask`.
    PUT_BACK is the only event of a case of its own.
    """

    OPENED = "opened"
    GROUNDS = "grounds"
    REFUSED = "refused"
    APPROVAL = "approval"
    DECIDED = "decided"
    STALE = "stale"
    MOVING = "moving"
    MOVED = "moved"
    CLOSED = "closed"
    PUT_BACK = "put_back"


class Case(Reference):
    """One evidence packet, shown by one promote run, waiting for a decision until `deadline`.

    Of the kind "rollback" there is neither packet nor run: `challenger` is the version that comes
    back for `champion`, and `previous` the one that would come back after it.
    """

    case_id: str
    flow_run_id: str
    attempt: int
    downstream: str
    challenger: ModelRef
    champion: ModelRef | None
    evidence: str
    deadline: datetime
    kind: Literal["promotion", "rollback"] = "promotion"
    previous: ModelRef | None = None


class Decision(Reference):
    """What a person decided about a case; `expired` when nobody did in time.

    `user` was authenticated, as `proof` says ("session", "token", "code", "proxy", "single-user");
    `reviewer` is the name shown, which only in single-user mode may be another. `broken` are the
    limits that were overridden, for the reason `override`. `approved_by` names everybody whose
    approval counted. While `waits_for` is not empty the decision does not stand yet.
    """

    case: Case
    approve: bool
    reviewer: str
    reason: str
    ask: int = 1
    expired: bool = False
    wants_labels: bool = False
    user: str = ""
    proof: str = ""
    override: str = ""
    broken: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    waits_for: str = ""


class LedgerEvent(Reference):
    """One row of the ledger."""

    sequence: int
    at: datetime
    case_id: str
    event: Event
    ask: int
    downstream: str
    body: dict[str, Any]


def ledger_path(settings: Settings) -> Path:
    """Return the SQLite file of the record."""
    return settings.home.resolve() / "decisions.sqlite"


def evidence_digest(packet: EvidencePacket) -> str:
    """Return the digest that binds a decision to what was shown, 64 hexadecimal digits."""
    return packet.content_digest()


def append(settings: Settings, case: Case, event: Event, body: Any, ask: int = 0) -> bool:
    """Append an event of a case.

    Parameters
    ----------
    body : reference or JSON-ready mapping
    ask : int
        Which form of the case it belongs to, where it belongs to one.

    Returns
    -------
    bool
        False when the case has this event already; the first one stands and nothing is written.
    """
    content = body.model_dump(mode="json") if isinstance(body, Reference) else body
    row = (
        datetime.now(UTC).isoformat(),
        case.case_id,
        event.value,
        ask,
        case.downstream,
        json.dumps(content, sort_keys=True),
    )
    names = "at, case_id, event, ask, downstream, body"
    with _connect(settings) as database:
        written = database.execute(
            f"INSERT INTO events ({names}) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (case_id, event, ask) DO NOTHING",
            row,
        )
        return written.rowcount == 1


def read_events(
    settings: Settings, *, case_id: str | None = None, downstream: str | None = None
) -> list[LedgerEvent]:
    """Return the events of one case, of one downstream task or all of them, in order."""
    wanted = {"case_id": case_id, "downstream": downstream}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(f"{name} = :{name}" for name in chosen) or "1"
    names = ("sequence", "at", "case_id", "event", "ask", "downstream", "body")
    query = f"SELECT {', '.join(names)} FROM events WHERE {where} ORDER BY sequence"
    with _connect(settings) as database:
        rows = database.execute(query, chosen).fetchall()
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [LedgerEvent.model_validate({**row, "body": json.loads(row["body"])}) for row in found]


def find_event(settings: Settings, case: Case, event: Event) -> LedgerEvent | None:
    """Return the event of a case, or None when it has not happened."""
    found = [item for item in read_events(settings, case_id=case.case_id) if item.event is event]
    return found[0] if found else None


def record_decision(settings: Settings, decision: Decision) -> tuple[Decision, datetime]:
    """Record a decision, unless its case was decided before, and return the one that stands.

    Returns
    -------
    decision, at : tuple
        The first decision recorded for the case and when that was.
    """
    append(settings, decision.case, Event.DECIDED, decision)
    standing = find_event(settings, decision.case, Event.DECIDED)
    if standing is None:
        raise RuntimeError(f"{ledger_path(settings)} lost the decision that was just written")
    return Decision.model_validate(standing.body), standing.at


def find_decision(settings: Settings, case: Case) -> Decision | None:
    """Return the decision that stands for a case, or None while nobody has decided."""
    found = find_event(settings, case, Event.DECIDED)
    return Decision.model_validate(found.body) if found else None


def find_case(settings: Settings, case_id: str) -> tuple[Case, EvidencePacket] | None:
    """Return a case that was opened and its evidence as recorded, whatever others say of it."""
    for item in read_events(settings, case_id=case_id):
        if item.event is Event.OPENED:
            packet = EvidencePacket.model_validate(item.body["evidence"])
            return Case.model_validate(item.body["case"]), packet
    return None


def append_aside(settings: Settings, case: Case, event: Event, body: Any) -> None:
    """Append an event that came by no form, such as a refusal at the desk; the next number."""
    while True:
        taken = [e.ask for e in read_events(settings, case_id=case.case_id) if e.event is event]
        if append(settings, case, event, body, min([0, *taken]) - 1):
            return


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Let one process of this home decide, or look at the champion and move it, at a time."""
    with held(
        settings.home.resolve() / "promotion.lock",
        LOCK_SECONDS,
        "decides about a model or moves its alias",
        "nothing was decided here; try again, or end that process first",
    ):
        yield


def unfinished_decisions(settings: Settings, downstream: str | None) -> list[Decision]:
    """Return decisions whose consequences were not carried out to the end, oldest first."""
    events = read_events(settings, downstream=downstream)
    ends = {Event.STALE, Event.CLOSED}
    closed = {item.case_id for item in events if item.event in ends}
    decided = [item for item in events if item.event is Event.DECIDED]
    return [Decision.model_validate(item.body) for item in decided if item.case_id not in closed]


def overdue_cases(settings: Settings, downstream: str | None, now: datetime) -> list[Case]:
    """Return cases whose deadline has passed without a decision, oldest first."""
    events = read_events(settings, downstream=downstream)
    decided = {item.case_id for item in events if item.event is Event.DECIDED}
    opened = [
        Case.model_validate(item.body["case"]) for item in events if item.event is Event.OPENED
    ]
    return [case for case in opened if case.case_id not in decided and case.deadline < now]


@contextmanager
def _connect(settings: Settings) -> Iterator[sqlite3.Connection]:
    path = ledger_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        with database:  # commits, or rolls back when the block raises
            database.executescript(SCHEMA)
            yield database
    finally:
        database.close()
