"""What happened in rounds of active learning: an append-only ledger, `<home>/rounds.sqlite`.

A campaign is the rounds of one task on one survey. Each step of a round is recorded once; whoever
comes second, as a run that was started again, gets what stands there.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from storage.write_ahead import use_write_ahead_log
from tasks.references import DatasetRef, Evaluation, ModelRef, Reference
from tasks.settings import Settings

Step = Literal["opened", "disputed", "closed", "frozen", "fitted", "measured"]
BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT NOT NULL, number INTEGER NOT NULL,
    step TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL CHECK (json_valid(body)),
    UNIQUE (campaign, number, step)
);
CREATE TRIGGER IF NOT EXISTS steps_no_update BEFORE UPDATE ON steps
    BEGIN SELECT RAISE(ABORT, 'steps of rounds are append-only'); END;
CREATE TRIGGER IF NOT EXISTS steps_no_delete BEFORE DELETE ON steps
    BEGIN SELECT RAISE(ABORT, 'steps of rounds are append-only'); END;
"""


class Opened(Reference):
    """What a round asks about, and why each object was chosen.

    `objects` are the reason by object id, "random" for the share that is drawn evenly; `gold` are
    the objects with a known answer, which are in no other count. `strategy` is the one that was
    used, which before there is a model is a simpler one than was asked for.
    """

    queue_round: int
    strategy: str
    seed: int
    snapshot_id: str
    model: ModelRef | None
    objects: dict[str, str]
    gold: tuple[str, ...] = ()
    deadline: datetime


class Closed(Reference):
    """What came of a round.

    `estimates` are fractions of answers among the random share alone, with 95 % limits: they hold
    for all objects that could have been asked about.
    """

    why: str
    labels: int
    by_annotator: dict[str, int]
    agreement: tuple[dict[str, Any], ...] = ()
    reliability: tuple[dict[str, Any], ...] = ()
    estimates: dict[str, dict[str, float]] = Field(default_factory=dict)
    flow_run_id: str = ""


class Measured(Reference):
    """How the model of a round does on the frozen test; None, with the reason, without a model."""

    evaluation: Evaluation | None
    why: str = ""


class RoundRecord(Reference):
    """A round as far as it is."""

    campaign: str
    number: int
    opened: Opened | None = None
    disputed: tuple[str, ...] | None = None
    closed: Closed | None = None
    frozen: DatasetRef | None = None
    fitted: ModelRef | None = None
    measured: Measured | None = None

    @property
    def value(self) -> float | None:
        """Return the headline measure; None without a model."""
        found = self.measured.evaluation if self.measured else None
        return found.metrics[found.headline].value if found else None


def campaign_of(downstream: str, survey: str, name: str = "") -> str:
    """Return the id of a campaign; a task may have several by name."""
    return "/".join(part for part in (downstream, survey, name) if part)


def read_history(settings: Settings, campaign: str) -> tuple[RoundRecord, ...]:
    """Return the rounds of a campaign in their order."""
    query = "SELECT number, step, body FROM steps WHERE campaign = ? ORDER BY id"
    with _database(settings) as database:
        rows = database.execute(query, (campaign,)).fetchall()
    rounds: dict[int, dict[str, Any]] = {}
    for number, step, body in rows:
        rounds.setdefault(number, {})[step] = json.loads(body)
    return tuple(
        RoundRecord(campaign=campaign, number=number, **steps)
        for number, steps in sorted(rounds.items())
    )


def read_round(settings: Settings, campaign: str, number: int) -> RoundRecord:
    """Return one round; one that was not begun is empty."""
    found = {item.number: item for item in read_history(settings, campaign)}
    return found.get(number, RoundRecord(campaign=campaign, number=number))


def campaigns(settings: Settings) -> tuple[str, ...]:
    """Return the ids of all campaigns."""
    with _database(settings) as database:
        rows = database.execute("SELECT DISTINCT campaign FROM steps ORDER BY campaign").fetchall()
    return tuple(row[0] for row in rows)


def record(
    settings: Settings, campaign: str, number: int, step: Step, body: Reference | tuple[str, ...]
) -> bool:
    """Record a step; False when it stands there already, and nothing is changed then."""
    content = body.model_dump(mode="json") if isinstance(body, Reference) else body
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    values = (campaign, number, step, now, json.dumps(content))
    names = "campaign, number, step, at, body"
    query = f"INSERT INTO steps ({names}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    with _database(settings) as database:
        return database.execute(query, values).rowcount == 1


@contextmanager
def _database(settings: Settings) -> Iterator[sqlite3.Connection]:
    path = settings.home.resolve() / "rounds.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        use_write_ahead_log(database, BUSY_SECONDS)
        database.executescript(_SCHEMA)
        with database:  # commits, or rolls back when the block raises
            yield database
    finally:
        database.close()
