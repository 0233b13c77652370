"""All bricks of DR10 through planner, state table and scheduler, with no pixel work.

The flow is the real one, with its Prefect server, ledger, commits and two Dask workers. Only what a
worker does with a brick is replaced, by functions that return at once. The ledger of all bricks but
the first and the last ones is filled in large commits; those are handed out 64 a commit, as usual.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from figures import Figure, record
from own_prefect import server_of_its_own
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
from simulated_release import (
    ACCOUNT,
    BRICKS,
    NAMES,
    NUMBERS,
    OBJECTS,
    SURVEY,
    SimulatedSource,
    digest_of,
    write_nothing,
)

import flows.ingest
import tasks.bricks
from flows.ingest import ingest_bricks
from lvm.checkpoint import save_encoder
from lvm.testing import TinyEncoder
from storage.brick_store import BrickRecord, allocate, record_bricks
from storage.repository import open_repository, transaction
from storage.schema import BrickState
from tasks.embedding import plan_embedding
from tasks.references import EncoderRef, Receipt
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

PER_COMMIT, HANDED = 64, 1024  # the default; bricks handed out at either end of the list
COMMITS = HANDED // PER_COMMIT
FILL_STEP = 8192
GIB = 2**30
TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "events", "artifact", "log")


@dataclass
class Clock:
    """Seconds of the calls of a function in this process: of the clock, and of its processors."""

    function: Callable[..., Any]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.function(*arguments)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return result


@dataclass
class Run:
    """One run of the flow: clocks of its tasks, peak memory [GiB], new rows of the database."""

    receipt: Receipt
    changes: Clock
    partitions: Clock
    closing: Clock
    peak: float
    rows: dict[str, int]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return a home, with a Prefect server and everything but pixels as it is in the product."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRICKYARD_HOME", str(tmp_path_factory.mktemp("all") / "home"))
        patch.setattr(flows.ingest, "open_bricks", lambda *_: SimulatedSource())
        patch.setattr(tasks.bricks, "write_unit", write_nothing)
        with server_of_its_own(tmp_path_factory.mktemp("prefect")):
            yield Settings()


def run_flow(bricks: Sequence[str] | None) -> Run:
    """Ingest with a clock at every task of the flow."""
    forget_peak()
    before = rows_of_prefect()
    with pytest.MonkeyPatch.context() as patch:
        clocks = {}
        for name in ("find_changes", "ingest_partition", "close_ingest"):
            clocks[name] = Clock(getattr(flows.ingest, name))
            patch.setattr(flows.ingest, name, clocks[name])
        receipt = ingest_bricks("/nowhere", bricks=list(bricks) if bricks else None)
    peak = peak_gib()
    after = rows_of_prefect()
    new = {table: after[table] - before[table] for table in TABLES}
    return Run(receipt, *clocks.values(), peak, new)


def fill_ledger(settings: Settings, names: Sequence[str]) -> list[float]:
    """Record bricks as ingested, in large commits; return seconds of each."""
    source, seconds = SimulatedSource(), []
    repository = open_repository(Path(settings.store_path) / "survey")
    for start in range(0, len(names), FILL_STEP):
        block, begin = names[start : start + FILL_STEP], time.perf_counter()
        with transaction(repository, "fill") as session:
            rows = allocate(session, SURVEY, dict.fromkeys(block, OBJECTS))
            records = [
                BrickRecord(
                    name,
                    NUMBERS[name],
                    BrickState.WRITTEN,
                    rows[name],
                    OBJECTS,
                    content_digest=digest_of(name),
                    config_digest=source.config_digest(),
                    fingerprint=digest_of(name),
                    receipt=ACCOUNT,
                )
                for name in block
            ]
            record_bricks(session, SURVEY, records)
        seconds.append(time.perf_counter() - begin)
    return seconds


def rows_of_prefect() -> dict[str, int]:
    """Count rows in Prefect's database once nothing more comes."""
    url = str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())
    counts: dict[str, int] = {}
    while True:
        with closing(sqlite3.connect(url.partition("///")[2], timeout=60)) as database:
            now = {
                table: int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in TABLES
            }
        if now == counts:
            return counts
        counts = now
        time.sleep(5)  # states of task runs and events arrive late


def forget_peak() -> None:
    """Begin the measurement of peak memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_gib() -> float:
    """Return the largest resident memory of this process since it was forgotten."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / GIB


def test_every_brick_of_dr10_through_planner_ledger_and_scheduler(settings: Settings):
    early = run_flow(NAMES[:HANDED])
    assert early.receipt.counts["written"] == HANDED
    fill = fill_ledger(settings, NAMES[HANDED:-HANDED])
    late = run_flow(None)
    assert late.receipt.counts["written"] == HANDED
    assert late.receipt.counts["already_present"] == BRICKS - HANDED
    assert late.receipt.total == BRICKS
    assert late.receipt.objects == BRICKS * OBJECTS
    record_handing(early, late)
    record_planning(late)
    record_rows(late)
    what = f"record_bricks and allocate, {FILL_STEP} bricks a commit, median of {len(fill)} commits"
    per_brick = [1000 * value / FILL_STEP for value in fill[:-1]]
    record(Figure("scheduler.ledger_ms_per_brick", "ms/brick", "reported", what, per_brick))
    measure_embedding_plan(settings)


def record_handing(early: Run, late: Run) -> None:
    """Record what it costs to hand a brick to a worker and to commit it."""
    assert len(late.partitions.cpu) == len(early.partitions.cpu) == COMMITS
    ends = {"empty": early, "366898": late}
    for name, run in ends.items():
        of = "an empty ledger" if name == "empty" else f"a ledger of {BRICKS:,} bricks"
        bound = f"{PER_COMMIT} bricks a commit into {of}; flow and Dask scheduler, no pixels"
        for kind, values in (("cpu", run.partitions.cpu), ("wall", run.partitions.wall)):
            per_brick = [1000 * value / PER_COMMIT for value in values[1:]]  # the first imports
            record(
                Figure(
                    f"scheduler.brick_{kind}_ms_at_{name}", "ms/brick", "reported", bound, per_brick
                )
            )


def record_planning(late: Run) -> None:
    """Record what it costs to look through the whole list, and the memory of all that."""
    bound = f"{BRICKS:,} names against a ledger that has them; no files are looked at"
    [cpu], [wall] = late.changes.cpu, late.changes.wall
    record(Figure("scheduler.find_changes_cpu_s", "s", "reported", bound, [cpu]))
    record(Figure("scheduler.find_changes_wall_s", "s", "reported", bound, [wall]))
    bound = f"the receipt of {BRICKS:,} bricks from the log of the run, and its tag"
    record(Figure("scheduler.close_cpu_s", "s", "reported", bound, late.closing.cpu))
    bound = f"the process of the flow over {BRICKS:,} bricks, {HANDED} of them handed out"
    record(Figure("scheduler.coordinator_peak_gib", "GiB", "<= 2", bound, [late.peak]))
    assert late.peak <= 2


def record_rows(late: Run) -> None:
    """Record the rows that Prefect keeps, by table and in all."""
    total = sum(late.rows.values()) / COMMITS
    parts = ", ".join(f"{table} {late.rows[table] / COMMITS:.1f}" for table in TABLES)
    bound = f"{COMMITS} commits in one run, its own rows shared out: {parts}"
    record(Figure("scheduler.prefect_rows_per_commit", "rows", "reported", bound, [total]))


def measure_embedding_plan(settings: Settings) -> None:
    """Record what it costs to find that every brick wants an embedding."""
    folder = settings.encoder_path / "tiny"
    encoder = EncoderRef(path=str(folder), digest=save_encoder(TinyEncoder(), folder))
    snapshot = find_snapshot(settings, SURVEY, None)
    forget_peak()
    plan = Clock(plan_embedding.fn)
    assert len(plan(snapshot, encoder)) == BRICKS
    bound = f"the bricks of a ledger of {BRICKS:,} that are not embedded: all; arrays made"
    record(Figure("scheduler.embed_plan_cpu_s", "s", "reported", bound, plan.cpu))
    bound = "the process that plans, torch and all its modules in it"
    record(Figure("scheduler.embed_plan_peak_gib", "GiB", "reported", bound, [peak_gib()]))
