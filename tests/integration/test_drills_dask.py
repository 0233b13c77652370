"""Drills of embedding: the scheduler is killed, the disk fills; the next run ends the work."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, WorkerPlugin
from small_disk import empty, fill, small_disk
from small_survey import SURVEY, write_small_survey

import tasks.embedding_worker
from flows.processes import free_port
from lvm.checkpoint import save_encoder
from lvm.forward import ForwardConfig
from lvm.testing import TinyEncoder
from storage.embedding_store import embedding_ledger
from storage.errors import RepositoryFull
from storage.repository import collect_garbage, open_repository, read_session
from tasks.cluster import SchedulerUnreachable
from tasks.embedding import EmbedRun, close_embedding, embed_partition, plan_embedding
from tasks.references import EncoderRef, Receipt, SnapshotRef

pytestmark = pytest.mark.slow
TESTS = Path(__file__).resolve().parents[1]
COUNTS = {f"b{number}": 40 for number in range(1, 7)}
FORWARD = ForwardConfig(batch_size=8, device="cpu", precision="float32")


class Slow(WorkerPlugin):
    """Let every call take a second longer, so that a kill comes in the middle."""

    name = "slow"

    def setup(self, worker) -> None:
        self.embed = tasks.embedding_worker.embed_bricks

        def embed(*arguments):
            time.sleep(1)
            return self.embed(*arguments)

        tasks.embedding_worker.embed_bricks = embed

    def teardown(self, worker) -> None:
        tasks.embedding_worker.embed_bricks = self.embed


@contextmanager
def dask_cluster(folder: Path) -> Iterator[tuple[str, int]]:
    """Run a scheduler and a worker as programs; yield the address and the scheduler's process."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    path = os.pathsep.join((str(TESTS), str(TESTS / "integration")))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    scheduler = ("dask_scheduler", "--host", "127.0.0.1", "--port", str(port))
    worker = ("dask_worker", address, "--nworkers", "1", "--nthreads", "1")
    processes = []
    with (folder / "dask.log").open("ab") as log:
        for program, *options in (scheduler, (*worker, "--death-timeout", "60")):
            command = [sys.executable, "-m", f"distributed.cli.{program}", *options]
            processes.append(
                subprocess.Popen(
                    [*command, "--no-dashboard"],
                    env=environment,
                    cwd=TESTS.parent,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
    try:
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield address, processes[0].pid
    finally:
        for process in processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            finally:
                process.wait()


@pytest.fixture(scope="module")
def healthy() -> Iterator[str]:
    """Return the address of a worker of this process, which nothing happens to."""
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def encoder(tmp_path) -> EncoderRef:
    folder = tmp_path / "encoder"
    return EncoderRef(path=str(folder), digest=save_encoder(TinyEncoder(), folder))


@pytest.fixture
def run_of(encoder, tmp_path) -> Callable[[SnapshotRef], EmbedRun]:
    numbers = iter(range(100))
    return lambda snapshot: EmbedRun(
        snapshot, encoder, str(tmp_path / f"{next(numbers)}.jsonl"), FORWARD
    )


def embed_rest(address: str, run: EmbedRun) -> Receipt:
    names = plan_embedding.fn(run.snapshot, run.encoder)
    embed_partition.fn(address, run, names)
    return close_embedding.fn(run, names)[1]


def embedded(run: EmbedRun) -> dict[str, int]:
    session = read_session(open_repository(run.repository))
    table = embedding_ledger(session, run.encoder.digest, SURVEY)
    assert table.index.is_unique
    return table["n_objects"].to_dict()


@pytest.mark.drill
def test_a_killed_scheduler_is_told_as_such_and_the_next_run_ends_the_work(
    healthy, run_of, tmp_path
):
    snapshot = write_small_survey(tmp_path / "store", COUNTS)
    run = run_of(snapshot)
    names = plan_embedding.fn(snapshot, run.encoder)
    with dask_cluster(tmp_path) as (address, scheduler):
        assert embed_partition.fn(address, run, names[:2]) == 2
        with Client(address, set_as_default=False) as client:
            client.register_plugin(Slow())
        timer = threading.Timer(1.5, os.kill, (scheduler, signal.SIGKILL))
        timer.start()
        with pytest.raises(SchedulerUnreachable, match="run the same command again"):
            embed_partition.fn(address, run, names[2:])
        timer.join()
    assert embedded(run) == dict.fromkeys(names[:2], 40)  # what was committed, and no more
    receipt = embed_rest(healthy, run_of(snapshot))
    assert (receipt.counts["already_present"], receipt.counts["written"]) == (2, 4)
    assert receipt.objects == sum(COUNTS.values())
    assert embedded(run) == COUNTS


def test_a_full_disk_while_embedding_is_told_as_such_and_the_next_run_ends_the_work(
    healthy, run_of, tmp_path
):
    with small_disk(tmp_path / "disk", "100m"):
        store = tmp_path / "disk" / "store"
        snapshot = write_small_survey(store, COUNTS)
        run = run_of(snapshot)
        names = plan_embedding.fn(snapshot, run.encoder)
        assert embed_partition.fn(healthy, run, names[:1]) == 1
        fill(tmp_path / "disk")
        with pytest.raises(RepositoryFull, match="Free space"):
            embed_partition.fn(healthy, run, names[1:])
        assert embedded(run) == {names[0]: 40}
        empty(tmp_path / "disk")
        collect_garbage(open_repository(run.repository))
        receipt = embed_rest(healthy, run_of(snapshot))
        assert (receipt.counts["already_present"], receipt.counts["written"]) == (1, 5)
        assert embedded(run) == COUNTS
