"""What was decided and what was labelled, to look through and to take away as CSV or JSON."""

import csv
import io
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.catalogue import format_object_id
from tasks.decisions import Event, LedgerEvent, read_events
from tasks.errors import TaskError
from tasks.label_queue import LabelQueue
from tasks.label_rounds import Round
from tasks.references import Interval
from tasks.release_decisions import ReleaseCase, ReleaseDecision, decided_cases
from tasks.round_history import RoundRecord, campaigns, read_history
from tasks.settings import Settings

PAGE = 100
MOST_EXPORTED = 1_000_000  # rows of one file
_LABEL_COLUMNS = (
    "id, created_at, survey, release, brickid, objid, question, answer, annotator, count, round, "
    "guideline, shown, comment"
)
_TOLD = {
    Event.OPENED: "evidence shown",
    Event.REFUSED: "answer refused",
    Event.APPROVAL: "first approval",
    Event.DECIDED: "decided",
    Event.STALE: "evidence out of date",
    Event.MOVED: "champion moved",
    Event.PUT_BACK: "put back by audit",
}
_ENDED = {"enough": "the answers are in", "deadline": "the deadline passed"}
#: A spreadsheet takes a cell that begins with one of these for a formula, whoever typed it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class BadFilter(TaskError, ValueError):
    """A filter of the history that cannot be."""


@dataclass(frozen=True)
class Filter:
    """Which rows: empty fields do not filter; `since` and `until` are dates, YYYY-MM-DD."""

    who: str = ""
    text: str = ""
    since: str = ""
    until: str = ""
    kind: str = ""
    start: int = 0

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "Filter":
        """Read a filter from the query of an address."""
        start = values.get("start", "0")
        if not start.isdecimal() or len(start) > 9:
            raise BadFilter(f"start {start!r}: give a whole number")
        names = ("who", "text", "since", "until", "kind")
        return cls(**{name: values.get(name, "").strip()[:200] for name in names}, start=int(start))


@dataclass(frozen=True)
class RoundRow:
    """A round of labelling, who answered in it and what was learnt.

    `learns` tells a round of active learning from one that somebody opened. Without a measure,
    `metric` is empty and `why_not` says why, where that is known.
    """

    round: Round
    people: list[dict[str, Any]]
    state: str
    learns: bool
    metric: str = ""
    value: Interval | None = None
    version: str = ""
    test_objects: int = 0
    why_not: str = ""


def label_rounds(settings: Settings, queue: LabelQueue) -> list[RoundRow]:
    """Return all rounds of labelling, the newest first."""
    learnt = {
        item.opened.queue_round: item
        for name in campaigns(settings)
        for item in read_history(settings, name)
        if item.opened
    }
    return [
        _round_row(item, queue.annotators(item.number), learnt.get(item.number))
        for item in queue.rounds()
    ]


def _round_row(found: Round, people: list[dict[str, Any]], learnt: RoundRecord | None) -> RoundRow:
    state = "waits for answers" if found.missing else "every answer is in"
    if found.closed_at is not None:
        why = learnt.closed.why if learnt and learnt.closed else ""
        state = f"ended: {_ENDED.get(why, why)}" if why else "closed"
    measured = learnt.measured if learnt else None
    if measured is None or measured.evaluation is None:
        why_not = measured.why if measured else ""
        return RoundRow(found, people, state, learnt is not None, why_not=why_not)
    evaluation = measured.evaluation
    return RoundRow(
        found,
        people,
        state,
        learns=True,
        metric=evaluation.headline,
        value=evaluation.metrics[evaluation.headline],
        version=evaluation.model.version,
        test_objects=evaluation.test_objects,
    )


def decisions(settings: Settings, chosen: Filter) -> list[dict[str, Any]]:
    """Return what happened at the gate and to releases that were held, newest first."""
    rows = [_event_row(item) for item in reversed(read_events(settings)) if item.event in _TOLD]
    rows += [_release_row(*item) for item in decided_cases(settings)]
    rows.sort(key=lambda row: str(row["at"]), reverse=True)
    return [row for row in rows if _fits(row, chosen)]


def labels(settings: Settings, chosen: Filter, most: int = PAGE) -> list[dict[str, Any]]:
    """Return rows of the label ledger, newest first."""
    if not settings.labels_path.is_file():
        return []
    where, values = ["1"], []
    if chosen.who:
        where.append("annotator = ?")
        values.append(chosen.who)
    if chosen.kind:
        where.append("question = ?")
        values.append(chosen.kind)
    if chosen.since:
        where.append("created_at >= ?")
        values.append(chosen.since)
    if chosen.until:
        where.append("created_at < ?")
        values.append(f"{chosen.until}T99")  # the whole day
    if chosen.text:
        where.append("(instr(lower(comment), lower(?)) OR instr(answer, ?) OR objid = ?)")
        values += [chosen.text, chosen.text, chosen.text.rpartition("-")[2]]
    query = (
        f"SELECT {_LABEL_COLUMNS} FROM labels WHERE {' AND '.join(where)} "
        "ORDER BY id DESC LIMIT ? OFFSET ?"
    )
    address = f"{settings.labels_path.as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=30)
    try:
        rows = database.execute(query, (*values, most, chosen.start)).fetchall()
    finally:
        database.close()
    names = [name.strip() for name in _LABEL_COLUMNS.split(",")]
    return [_label_row(dict(zip(names, row, strict=True))) for row in rows]


def exported(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """Return rows as CSV or JSON.

    In CSV, text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    if form == "json":
        return json.dumps(list(rows), indent=1)
    if form != "csv":
        raise BadFilter(f"{form!r}: csv or json")
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _event_row(item: LedgerEvent) -> dict[str, Any]:
    body = item.body
    case = body.get("case", {})
    what = _TOLD[item.event]
    if item.event is Event.DECIDED:
        what = "expired" if body.get("expired") else "approved" if body["approve"] else "rejected"
        what = "taken back" if case.get("kind") == "rollback" else what
        what += ", more labels wanted" if body.get("wants_labels") else ""
    answer = body.get("answer", {})
    version = case.get("challenger", {}).get("version") or body.get("to", {}).get("version", "")
    return {
        "at": item.at.isoformat(timespec="seconds"),
        "what": what,
        "downstream": item.downstream,
        "version": version,
        "who": body.get("user") or body.get("reviewer") or answer.get("user", ""),
        "proof": body.get("proof", ""),
        "reason": body.get("reason") or body.get("refusal", ""),
        "override": body.get("override", ""),
        "evidence": (case.get("evidence") or "")[:12],
        "flow_run": case.get("flow_run_id", ""),
        "case": item.case_id[:12],
    }


def _release_row(case: ReleaseCase, decision: ReleaseDecision) -> dict[str, Any]:
    return {
        "at": decision.at.isoformat(timespec="seconds"),
        "what": f"release {case.tag} {'let pass' if decision.approve else 'refused'}",
        "downstream": case.downstream,
        "version": "",
        "who": decision.reviewer,
        "proof": decision.proof,
        "reason": decision.reason,
        "override": "",
        "evidence": case.digest[:12],
        "flow_run": case.flow_run_id,
        "case": case.digest[:12],
    }


def _label_row(row: dict[str, Any]) -> dict[str, Any]:
    key = (row.pop("release"), row.pop("brickid"), row.pop("objid"))
    return {"object_id": format_object_id(*key), **row}


def _fits(row: Mapping[str, Any], chosen: Filter) -> bool:
    text = " ".join(str(value) for value in row.values()).lower()
    day = str(row["at"])[:10]
    return (
        (not chosen.who or row["who"] == chosen.who)
        and (not chosen.kind or row["downstream"] == chosen.kind)
        and chosen.text.lower() in text
        and (not chosen.since or day >= chosen.since)
        and (not chosen.until or day <= chosen.until)
    )


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
