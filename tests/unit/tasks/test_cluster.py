import os
import signal

import dask
import pytest
from distributed import KilledWorker, LocalCluster

from tasks.cluster import (
    DASK_CONFIG,
    NoWorkers,
    SchedulerUnreachable,
    connect,
    open_cluster,
    run_units,
)
from tasks.clusters import WORKER_ENVIRONMENT
from tasks.progress import report, report_to
from tasks.settings import Settings


def test_an_unreachable_scheduler_is_a_clear_error(tmp_path):
    settings = Settings(home=tmp_path, scheduler="tcp://127.0.0.1:9", connect_timeout=0.3)
    with (
        pytest.raises(SchedulerUnreachable, match="BRICKYARD_SCHEDULER"),
        open_cluster(settings),
    ):
        pass


def test_an_address_that_is_none_is_the_same_error(tmp_path):
    settings = Settings(home=tmp_path, scheduler="nonsense://x", connect_timeout=0.3)
    with pytest.raises(SchedulerUnreachable, match="nonsense"), open_cluster(settings):
        pass


def test_progress_reaches_the_listener_and_only_inside_the_block():
    heard = []
    with report_to(lambda *told: heard.append(told)):
        report("bricks", 1, 2)
    report("bricks", 2, 2)
    assert heard == [("bricks", 1, 2)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def square(number: int) -> int:
    if number < 0:
        die()
    return number * number


@pytest.mark.slow
def test_a_unit_that_kills_its_worker_costs_only_itself(monkeypatch):
    for name in WORKER_ENVIRONMENT:  # an earlier cluster of this process leaves Dask's own there
        monkeypatch.delenv(name, raising=False)
    with (
        dask.config.set({**DASK_CONFIG, "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        [environment] = client.run(lambda: dict(os.environ)).values()
        results = dict(run_units(client, square, [(2,), (-1,), (3,)]))
    assert environment.items() >= WORKER_ENVIRONMENT.items()  # as the system sees it at the start
    assert results[0] == 4
    assert results[2] == 9
    assert isinstance(results[1], KilledWorker)


@pytest.mark.slow
def test_a_result_that_is_lost_with_its_worker_is_made_again_at_once():
    # To wait for an answer of the dead one would take longer than the test may.
    patient = {**DASK_CONFIG, "distributed.comm.timeouts.connect": "600s"}
    with (
        dask.config.set(patient),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        future = client.submit(square, 3)
        assert future.exception() is None  # done, and not fetched yet
        [worker] = client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        assert future.result(timeout=150) == 9


def test_a_scheduler_without_workers_is_a_clear_error(tmp_path):
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        settings = Settings(home=tmp_path, scheduler=address, worker_timeout=0.2)
        with pytest.raises(NoWorkers, match="BRICKYARD_WORKER_TIMEOUT"), open_cluster(settings):
            pass


def test_nothing_is_started_where_nothing_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.cluster.start_cluster", None)
    with open_cluster(Settings(home=tmp_path), needed=False) as address:
        assert address == ""
