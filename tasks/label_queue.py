"""The queue of the labelling desk: which objects wait for whose answer, in which round.

One SQLite file, `<home>/queue.sqlite`. It only says what is waiting and who works on it; answers
themselves are rows of the append-only label ledger (`storage.label_store`). An answer is noted
here first as *pending*, written to the ledger, then noted as *done*; what a crash leaves in
between is put right by `LabelQueue.repair` from what the ledger says.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.write_ahead import use_write_ahead_log
from tasks.label_rounds import (
    CLAIM_COLUMNS,
    FREE_QUERY,
    HELD_QUERY,
    ITEM_COLUMNS,
    ROUNDS_QUERY,
    SCHEMA,
    Claim,
    QueueItem,
    QueueProblem,
    Round,
    RoundPlan,
    asked_ids,
    claim_of,
    insert_answer,
    insert_items,
    insert_round,
    round_of,
    settle_answer,
)
from tasks.settings import Settings

BUSY_SECONDS = 30.0  # how long a writer waits for another one
CLAIM_SECONDS = 900.0  # an object taken and not answered goes back to the others after this
STALE_SECONDS = 60.0  # an answer that is pending for so long was cut short by a crash

Draw = Callable[[frozenset[str]], Sequence[QueueItem]]


def open_queue(settings: Settings) -> "LabelQueue":
    """Open the queue of a home; the file is made where absent."""
    return LabelQueue(settings.home.resolve() / "queue.sqlite")


class LabelQueue:
    """Rounds, objects, claims and the state of answers; every method is one transaction."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as database:
            use_write_ahead_log(database, BUSY_SECONDS)
            database.executescript(SCHEMA)

    def open_round(self, plan: RoundPlan, items: Sequence[QueueItem]) -> int:
        """Open a round on objects, in the order in which they are to be shown; return its number.

        Raises
        ------
        NothingToAsk
            If there are no objects.
        """
        with self._write() as database:
            return insert_round(database, plan, self._clock(), items)

    def open_drawn_round(self, plan: RoundPlan, draw: Draw) -> int:
        """Open a round on objects that no other open round asks about; return its number.

        Drawing may take minutes and keeps nobody from answering. If another round has got one of
        the objects meanwhile, they are drawn again.

        Parameters
        ----------
        draw : function
            `(asked) -> items`: draw objects, none of them `asked` (object ids).

        Raises
        ------
        NothingToAsk
            If none can be drawn.
        """
        while True:
            items = draw(self.asked(plan.survey, plan.question))
            with self._write() as database:
                taken = asked_ids(database, plan.survey, plan.question)
                if taken.isdisjoint(item.object_id for item in items):
                    return insert_round(database, plan, self._clock(), items)

    def asked(self, survey: str, question: str) -> frozenset[str]:
        """Return the ids of objects of which open rounds still want answers to a question."""
        with self._connect() as database:
            return asked_ids(database, survey, question)

    def items(self, number: int) -> tuple[QueueItem, ...]:
        """Return the objects of a round in their order."""
        query = f"SELECT {ITEM_COLUMNS} FROM items WHERE round = ? ORDER BY item"
        with self._connect() as database:
            return tuple(QueueItem(*row) for row in database.execute(query, (number,)))

    def add_items(self, number: int, items: Iterable[QueueItem]) -> int:
        """Add objects to an open round; return how many were not in it yet."""
        wanted = self._open(number).plan.wanted
        with self._write() as database:
            return insert_items(database, number, wanted, items)

    def want_more(self, number: int, keys: Iterable[tuple[int, int, int]], more: int = 1) -> None:
        """Ask further people about objects of a round, as where those who answered disagree."""
        query = (
            "UPDATE items SET missing = missing + ? "
            "WHERE round = ? AND release = ? AND brickid = ? AND objid = ?"
        )
        with self._write() as database:
            database.executemany(query, [(more, number, *key) for key in keys])

    def close_round(self, number: int) -> None:
        """End a round; nobody is asked any more, the answers stay."""
        with self._write() as database:
            query = "UPDATE rounds SET closed_at = ? WHERE number = ? AND closed_at IS NULL"
            database.execute(query, (self._clock(), number))

    def rounds(self, *, waiting_only: bool = False) -> list[Round]:
        """Return all rounds, or those that still want answers, newest first."""
        with self._connect() as database:
            found = [
                round_of(row) for row in database.execute(f"{ROUNDS_QUERY} ORDER BY number DESC")
            ]
        return [item for item in found if not waiting_only or (item.missing and not item.closed_at)]

    def round(self, number: int) -> Round:
        """Return one round, or raise `QueueProblem`."""
        with self._connect() as database:
            row = database.execute(f"{ROUNDS_QUERY} WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise QueueProblem(f"there is no round {number}: the label page lists those that wait")
        return round_of(row)

    def claim(self, number: int, annotator: str, most: int) -> list[Claim]:
        """Take objects of a round for an annotator, those that they hold already first.

        Nobody else is given them until they are answered or `CLAIM_SECONDS` have passed, unless
        a round wants several answers for each; an object that they skipped does not come back.
        """
        now = self._clock()
        with self._write() as database:
            if database.execute(
                "SELECT 1 FROM rounds WHERE number = ? AND closed_at IS NOT NULL", (number,)
            ).fetchone():
                return []
            who = {"r": number, "a": annotator, "t": now}
            rows = database.execute(HELD_QUERY, {**who, "n": most}).fetchall()
            rows += database.execute(FREE_QUERY, {**who, "n": most - len(rows)}).fetchall()
            claims = [claim_of(row) for row in rows]
            database.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                [(claim.item, annotator, now + CLAIM_SECONDS) for claim in claims],
            )
        return claims

    def find(self, number: int, items: Sequence[int]) -> list[Claim]:
        """Return objects of a round by their numbers in the queue."""
        marks = ", ".join("?" * len(items))
        query = f"SELECT {CLAIM_COLUMNS}, '' FROM items i WHERE i.round = ? AND i.item IN ({marks})"
        with self._connect() as database:
            return [claim_of(row) for row in database.execute(query, (number, *items))]

    def begin(self, annotator: str, answers: Mapping[int, str]) -> dict[int, int]:
        """Note answers to objects as pending, before they go to the ledger.

        Returns
        -------
        dict
            For every object that this annotator had not answered or skipped before: the number of
            the answer, for `finish`.
        """
        begun = {}
        with self._write() as database:
            for item, answer in answers.items():
                number = insert_answer(database, item, annotator, answer, "pending", self._clock())
                if number is not None:
                    begun[item] = number
        return begun

    def finish(self, answers: Sequence[int]) -> None:
        """Note answers as done, after they went to the ledger."""
        with self._write() as database:
            for number in answers:
                settle_answer(database, number, done=True)

    def skip(self, item: int, annotator: str) -> bool:
        """Do not ask this annotator about an object again; others are asked."""
        with self._write() as database:
            number = insert_answer(database, item, annotator, "", "skipped", self._clock())
            claim = (item, annotator)
            database.execute("DELETE FROM claims WHERE item = ? AND annotator = ?", claim)
            return number is not None

    def last(self, number: int, annotator: str) -> tuple[int, Claim] | None:
        """Return what an annotator answered or skipped last in a round, and its answer's number."""
        query = (
            f"SELECT a.id, {CLAIM_COLUMNS}, a.answer FROM answers a JOIN items i USING (item) "
            "WHERE a.annotator = ? AND i.round = ? AND a.state IN ('done', 'skipped') "
            "ORDER BY a.id DESC LIMIT 1"
        )
        with self._connect() as database:
            row = database.execute(query, (annotator, number)).fetchone()
        return (int(row[0]), claim_of(row[1:])) if row else None

    def begin_undo(self, answer: int, annotator: str) -> bool:
        """Note that an answer is being taken back; False when it is not theirs or was already."""
        with self._write() as database:
            query = (
                "UPDATE answers SET state = CASE state WHEN 'done' THEN 'undoing' ELSE 'undone' END"
                " WHERE id = ? AND annotator = ? AND state IN ('done', 'skipped')"
            )
            return database.execute(query, (answer, annotator)).rowcount == 1

    def finish_undo(self, answer: int, annotator: str) -> None:
        """Give an object back to the annotator whose answer was taken back."""
        with self._write() as database:
            settle_answer(database, answer, done=False)
            database.execute(
                "INSERT OR REPLACE INTO claims SELECT item, ?, ? FROM answers WHERE id = ?",
                (annotator, self._clock() + CLAIM_SECONDS, answer),
            )

    def repair(self, stands: Callable[[Claim, str, str], bool], before: float = 0.0) -> int:
        """Put right what a crash left half done; return how many answers.

        Parameters
        ----------
        stands : function
            `(object, annotator, survey) -> bool`: whether the ledger has this answer.
        before : float
            Time [s] before which what is half done is so because of a crash, whatever its age.
        """
        query = (
            f"SELECT a.id, a.annotator, r.survey, {CLAIM_COLUMNS}, a.answer FROM answers a "
            "JOIN items i USING (item) JOIN rounds r ON r.number = i.round "
            "WHERE a.state IN ('pending', 'undoing') AND a.at < ?"
        )
        with self._connect() as database:
            stale = max(self._clock() - STALE_SECONDS, before)
            rows = database.execute(query, (stale,)).fetchall()
        found = [(int(row[0]), stands(claim_of(row[3:]), row[1], row[2])) for row in rows]
        with self._write() as database:
            for number, done in found:
                settle_answer(database, number, done=done)
        return len(found)

    def annotators(self, number: int) -> list[dict[str, Any]]:
        """Return, for everybody who answered in a round, how much and how well on gold objects."""
        query = (
            "SELECT a.annotator, COUNT(*) AS answers, SUM(i.gold <> '') AS gold, "
            "SUM(i.gold <> '' AND i.gold = a.answer) AS gold_right FROM answers a "
            "JOIN items i USING (item) WHERE i.round = ? AND a.state = 'done' "
            "GROUP BY a.annotator ORDER BY answers DESC"
        )
        names = ("annotator", "answers", "gold", "gold_right")
        with self._connect() as database:
            rows = database.execute(query, (number,)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _open(self, number: int) -> Round:
        found = self.round(number)
        if found.closed_at is not None:
            raise QueueProblem(f"round {number} is closed: open another one")
        return found

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._connect() as database:
            database.execute("BEGIN IMMEDIATE")  # what is read below stays true until the commit
            yield database

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        try:
            with database:  # commits, or rolls back when the block raises
                yield database
        finally:
            database.close()
