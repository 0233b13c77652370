"""Rounds of labelling and the objects in them: what the queue's file holds, and its rows as values.

`tasks.label_queue` is what people work with.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage.catalogue import format_object_id
from tasks.errors import TaskError

SCHEMA = """
CREATE TABLE IF NOT EXISTS rounds (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL, survey TEXT NOT NULL, question TEXT NOT NULL,
    answers TEXT NOT NULL,           -- JSON list, in the order of the keys 1, 2, 3 ...
    guideline TEXT NOT NULL, blind INTEGER NOT NULL, wanted INTEGER NOT NULL,
    opened_by TEXT NOT NULL, opened_at REAL NOT NULL, closed_at REAL
);
CREATE TABLE IF NOT EXISTS items (
    item INTEGER PRIMARY KEY AUTOINCREMENT,
    round INTEGER NOT NULL REFERENCES rounds (number),
    release INTEGER NOT NULL, brickid INTEGER NOT NULL, objid INTEGER NOT NULL,
    why TEXT NOT NULL, proposal TEXT NOT NULL, confidence REAL NOT NULL, model TEXT NOT NULL,
    gold TEXT NOT NULL,              -- the known answer of a test object; empty: none
    missing INTEGER NOT NULL,        -- answers still wanted
    UNIQUE (round, release, brickid, objid)
);
CREATE INDEX IF NOT EXISTS items_waiting ON items (round, item) WHERE missing > 0;
CREATE TABLE IF NOT EXISTS claims (
    item INTEGER NOT NULL REFERENCES items (item), annotator TEXT NOT NULL,
    expires REAL NOT NULL, PRIMARY KEY (item, annotator)
);
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL REFERENCES items (item),
    annotator TEXT NOT NULL, answer TEXT NOT NULL, state TEXT NOT NULL, at REAL NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS answers_once ON answers (item, annotator)
    WHERE state <> 'undone';
CREATE INDEX IF NOT EXISTS answers_by_annotator ON answers (annotator, id);
"""


class QueueProblem(TaskError, ValueError):
    """A round cannot be opened or used like this."""


class NothingToAsk(QueueProblem):
    """There is no object that a round could ask about."""


@dataclass(frozen=True)
class QueueItem:
    """An object to label: why it was chosen, what a model proposes, the answer where known.

    `gold` marks an object whose answer is known; nobody is told, and it shows who answers well.
    """

    release: int
    brickid: int
    objid: int
    why: str = ""
    proposal: str = ""
    confidence: float = 0.0
    model: str = ""
    gold: str = ""

    @property
    def object_id(self) -> str:
        """Return `<release>-<brickid>-<objid>`."""
        return format_object_id(self.release, self.brickid, self.objid)


@dataclass(frozen=True)
class RoundPlan:
    """What a round asks.

    Parameters
    ----------
    answers : the choices, in the order of their keys
    blind : the model's proposal is shown only after the answer
    wanted : answers of different people wanted for each object
    """

    survey: str
    question: str
    answers: tuple[str, ...]
    title: str = ""
    guideline: str = ""
    blind: bool = True
    wanted: int = 1
    opened_by: str = ""

    def __post_init__(self) -> None:
        if len(self.answers) < 2 or len(set(self.answers)) != len(self.answers):
            raise QueueProblem(f"answers {self.answers}: give at least two different ones")
        if self.wanted < 1:
            raise QueueProblem(f"{self.wanted} answers wanted: at least 1")


@dataclass(frozen=True)
class Round:
    """A round and how far it is: `objects` in it, `missing` of them without all answers."""

    number: int
    plan: RoundPlan
    opened_at: datetime
    closed_at: datetime | None
    objects: int
    missing: int

    @property
    def name(self) -> str:
        """Return what people call it."""
        return self.plan.title or f"{self.plan.question}, round {self.number}"


@dataclass(frozen=True)
class Claim:
    """An object that is somebody's to answer, or that they answered last."""

    item: int
    round: int
    key: tuple[int, int, int]
    why: str
    proposal: str
    confidence: float
    model: str
    answer: str = ""

    @property
    def object_id(self) -> str:
        """Return `<release>-<brickid>-<objid>`."""
        return format_object_id(*self.key)


CLAIM_COLUMNS = (
    "i.item, i.round, i.release, i.brickid, i.objid, i.why, i.proposal, i.confidence, i.model"
)

ITEM_COLUMNS = "release, brickid, objid, why, proposal, confidence, model, gold"
ROUNDS_QUERY = (
    "SELECT number, title, survey, question, answers, guideline, blind, wanted, opened_by, "
    "opened_at, closed_at, (SELECT COUNT(*) FROM items WHERE round = number), "
    "(SELECT COUNT(*) FROM items WHERE round = number AND missing > 0) FROM rounds"
)
_ASKED = """
SELECT i.release, i.brickid, i.objid FROM items i JOIN rounds r ON r.number = i.round
WHERE r.closed_at IS NULL AND r.survey = ? AND r.question = ? AND i.missing > 0
"""
_UNANSWERED = (
    "NOT EXISTS (SELECT 1 FROM answers s WHERE s.item = i.item AND s.annotator = :a "
    "AND s.state <> 'undone')"
)
#: What an annotator (:a) holds of a round (:r) at a time (:t), and what they may be given.
HELD_QUERY = f"""
SELECT {CLAIM_COLUMNS}, '' FROM claims c JOIN items i USING (item)
WHERE c.annotator = :a AND c.expires > :t AND i.round = :r AND {_UNANSWERED}
ORDER BY i.item LIMIT :n
"""
FREE_QUERY = f"""
SELECT {CLAIM_COLUMNS}, '' FROM items i WHERE i.round = :r AND i.missing > 0 AND {_UNANSWERED}
  AND NOT EXISTS (SELECT 1 FROM claims m
                  WHERE m.item = i.item AND m.annotator = :a AND m.expires > :t)
  AND (SELECT COUNT(*) FROM claims c WHERE c.item = i.item AND c.expires > :t) < i.missing
ORDER BY i.item LIMIT :n
"""


def claim_of(row: Sequence[Any]) -> Claim:
    """Return a row of `CLAIM_COLUMNS` and an answer as a value."""
    item, number, release, brickid, objid, why, proposal, confidence, model, answer = row
    key = (int(release), int(brickid), int(objid))
    return Claim(item, number, key, why, proposal, float(confidence), model, answer)


def round_of(row: Sequence[Any]) -> Round:
    """Return a row of `ROUNDS_QUERY` as a value."""
    number, title, survey, question, answers, guideline, blind, wanted, opened_by = row[:9]
    opened_at, closed_at, objects, missing = row[9:]
    plan = RoundPlan(
        survey,
        question,
        tuple(json.loads(answers)),
        title,
        guideline,
        bool(blind),
        int(wanted),
        opened_by,
    )
    return Round(
        number,
        plan,
        datetime.fromtimestamp(opened_at, UTC),
        datetime.fromtimestamp(closed_at, UTC) if closed_at else None,
        objects,
        missing,
    )


def asked_ids(database: sqlite3.Connection, survey: str, question: str) -> frozenset[str]:
    """Return the objects of which open rounds still want answers to a question."""
    return frozenset(format_object_id(*row) for row in database.execute(_ASKED, (survey, question)))


def insert_round(
    database: sqlite3.Connection, plan: RoundPlan, at: float, items: Sequence[QueueItem]
) -> int:
    """Open a round at a time [s] on objects; return its number, or raise `NothingToAsk`."""
    if not items:
        raise NothingToAsk(
            "no objects to ask about: the choice of objects is empty, or other open rounds ask "
            "about all of them"
        )
    names = "title, survey, question, answers, guideline, blind, wanted, opened_by, opened_at"
    texts = (plan.title, plan.survey, plan.question, json.dumps(plan.answers), plan.guideline)
    values = (*texts, int(plan.blind), plan.wanted, plan.opened_by, at)
    query = f"INSERT INTO rounds ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    number = database.execute(query, values).lastrowid or 0
    insert_items(database, number, plan.wanted, items)
    return number


def insert_items(
    database: sqlite3.Connection, number: int, wanted: int, items: Iterable[QueueItem]
) -> int:
    """Add objects to a round; return how many were not in it yet."""
    names = f"round, {ITEM_COLUMNS}, missing"
    rows = [
        (number, x.release, x.brickid, x.objid, x.why, x.proposal, x.confidence, x.model, x.gold)
        for x in items
    ]
    before = database.total_changes
    database.executemany(
        f"INSERT INTO items ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {wanted}) "
        "ON CONFLICT DO NOTHING",
        rows,
    )
    return database.total_changes - before


def insert_answer(
    database: sqlite3.Connection, item: int, annotator: str, answer: str, state: str, at: float
) -> int | None:
    """Insert an answer; None when the annotator has one to this object that stands."""
    names = "item, annotator, answer, state, at"
    query = f"INSERT INTO answers ({names}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    made = database.execute(query, (item, annotator, answer, state, at))
    return made.lastrowid if made.rowcount == 1 else None


def settle_answer(database: sqlite3.Connection, answer: int, *, done: bool) -> None:
    """Note an answer as done or undone, and count it where that changes something."""
    row = database.execute("SELECT item, state FROM answers WHERE id = ?", (answer,)).fetchone()
    if row is None or row[1] not in ("pending", "undoing"):
        return
    counted = row[1] == "undoing"
    change = int(counted) - int(done)
    state = "done" if done else "undone"
    database.execute("UPDATE answers SET state = ? WHERE id = ?", (state, answer))
    database.execute("UPDATE items SET missing = missing + ? WHERE item = ?", (change, row[0]))
    if done:
        database.execute(
            "DELETE FROM claims WHERE (item, annotator) IN "
            "(SELECT item, annotator FROM answers WHERE id = ?)",
            (answer,),
        )
