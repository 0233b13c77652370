"""Whatever kills or starves an ingest: nothing is lost or doubled, and the next run ends it."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_disk import small_disk
from tiny_bricks import TinyBrick

from flows.ingest import ingest_bricks
from flows.parameters import IngestRun
from storage.brick import IngestConfig
from storage.brick_store import ledger, read_objects
from storage.bricks import brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from storage.errors import RepositoryBusy, RepositoryFull, StorageError
from storage.repository import open_repository, read_session, repository_exists
from storage.survey_digest import content_digest_of
from storage.survey_group import list_surveys
from tasks.references import Receipt
from tasks.settings import Settings
from tasks.snapshots import tidy_store

pytestmark = pytest.mark.timeout(1500)  # a busy machine takes many times as long
SURVEY = "dr10/south"
BRICKS = 6
OBJECTS = 3 * BRICKS
CONFIG = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))
RUN = IngestRun(bricks_per_commit=2)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release of small bricks in a row, three objects each."""
    root = tmp_path_factory.mktemp("release") / "south"
    first = brick_at(150.0, 2.0).brickid
    for number in range(BRICKS):
        TinyBrick(root, brick=brick_from_id(first + number)).write()
    return root


def ingest(release: Path) -> Receipt:
    return ingest_bricks(str(release), config=CONFIG, run=RUN)


def content(home: Path) -> str:
    return content_digest_of(session_of(home), SURVEY)


def session_of(home: Path):
    return read_session(open_repository(Settings(home=home).store_path + "/survey"))


def assert_whole(home: Path) -> None:
    """Every brick is there once, with its three objects, each once."""
    objects = read_objects(session_of(home), SURVEY)
    assert len(objects) == OBJECTS
    assert not objects.duplicated(["release", "brickid", "objid"]).any()
    assert objects.groupby("brickname").size().to_dict() == dict.fromkeys(
        ledger(session_of(home), SURVEY).index, 3
    )


@pytest.fixture(scope="module")
def undisturbed(release: Path, cluster: LocalCluster, tmp_path_factory) -> str:
    """Return the content digest of a run that nothing happened to."""
    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRICKYARD_HOME", str(home))
        patch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
        receipt = ingest(release)
    assert receipt.counts["written"] == BRICKS
    assert_whole(home)
    return content(home)


def _ingest_in_child(home: str, scheduler: str, release: str, api: str) -> None:
    os.environ |= {"BRICKYARD_HOME": home, "BRICKYARD_SCHEDULER": scheduler}
    with temporary_settings({PREFECT_API_URL: api}):
        ingest(Path(release))


@pytest.fixture(scope="module")
def start_ingest(cluster: LocalCluster, release: Path) -> Callable[[Path], multiprocessing.Process]:
    """Return a function that starts an ingest in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flows.ingest", "distributed", "icechunk"])
    api = PREFECT_API_URL.value()

    def start(home: Path) -> multiprocessing.Process:
        arguments = (str(home), cluster.scheduler_address, str(release), api)
        process = context.Process(target=_ingest_in_child, args=arguments)
        process.start()
        return process

    return start


def assert_readable(home: Path) -> int:
    """Whatever was committed before a kill is whole; return how many bricks that are."""
    if not repository_exists(Settings(home=home).store_path + "/survey"):
        return 0
    try:
        table = ledger(session_of(home), SURVEY, ("state", "n_objects"))
    except StorageError:  # killed between the repository's making and its first bricks
        assert list_surveys(session_of(home)) == []
        return 0
    objects = read_objects(session_of(home), SURVEY)
    assert len(objects) == table["n_objects"].sum()
    assert not objects.duplicated(["brickid", "objid"]).any()
    return int((table["n_objects"] > 0).sum())


@pytest.mark.parametrize("wanted", [3, pytest.param(20, marks=pytest.mark.drill)])
def test_kills_of_the_flow_lose_and_double_nothing(
    release, undisturbed, start_ingest, home, wanted
):
    rng = np.random.default_rng(20)
    for _ in range(2):  # the first one imports everything
        started = time.monotonic()
        process = start_ingest(home)
        process.join()
        assert process.exitcode == 0
        whole_run = time.monotonic() - started
        assert content(home) == undisturbed
        shutil.rmtree(home)
    kills, seen = 0, []
    while kills < wanted or not max(seen):  # some kill has to come after a commit
        process = start_ingest(home)
        process.join(timeout=rng.uniform(0.1, 0.9) * whole_run)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            seen.append(assert_readable(home))
        else:
            assert process.exitcode == 0
            assert content(home) == undisturbed
            shutil.rmtree(home)
    receipt = ingest(release)
    assert receipt.total == BRICKS
    assert receipt.counts["written"] + receipt.counts["already_present"] == BRICKS
    assert content(home) == undisturbed
    assert_whole(home)


def test_a_killed_worker_costs_only_time(release, undisturbed, cluster, home):
    killed: list[int] = []

    def kill_a_worker() -> None:
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            pids = client.run(os.getpid)
            for _ in range(2):
                time.sleep(0.5)
                pid = next(iter(pids.values()))
                if not killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    receipt = ingest(release)
    thread.join()
    assert killed
    if receipt.counts["written"] < BRICKS:  # a brick that was on the worker too often
        receipt = ingest(release)
    assert receipt.counts["failed"] == 0
    assert content(home) == undisturbed
    assert_whole(home)


def test_a_full_disk_is_an_error_that_says_so_and_the_next_run_ends_the_work(
    release, undisturbed, home, tmp_path, monkeypatch
):
    disk = tmp_path / "disk"
    with small_disk(disk, "400k"):
        monkeypatch.setenv("BRICKYARD_STORE", str(disk / "store"))
        with pytest.raises(RepositoryFull, match="Free space"):
            ingest(release)
        session = read_session(open_repository(disk / "store" / "survey"))
        before = len(read_objects(session, SURVEY))
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert tidy_store(Settings())["survey"] > 0
        receipt = ingest(release)
        assert receipt.counts["already_present"] * 3 == before
        repository = open_repository(disk / "store" / "survey")
        assert content_digest_of(read_session(repository), SURVEY) == undisturbed


def test_of_two_ingests_at_once_the_second_is_refused_and_loses_nothing(
    release, undisturbed, start_ingest, home
):
    first = start_ingest(home)
    lock = Path(Settings(home=home).store_path) / "ingest-dr10-south.lock.json"
    deadline = time.monotonic() + 60
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RepositoryBusy, match=f"process {first.pid}"):
        ingest(release)
    first.join()
    assert first.exitcode == 0
    assert content(home) == undisturbed
    assert_whole(home)
