from dataclasses import replace

import pytest

from storage.budget import Budget, Estimate, Machine, obstacles
from storage.budget.budget import Parallel
from storage.budget.verdict import size_text

GB = 1e9
PARALLEL = Parallel(workers=2, threads=1, cores=2, bricks_per_commit=64)
NONE = Estimate(0.0, 0.0, 0.0)
BUDGET = Budget(
    bricks=100,
    objects=Estimate(9000, 10_000, 11_000),
    read_bytes=NONE,
    fetch_bytes=NONE,
    staging_bytes=NONE,
    store_bytes=Estimate(40 * GB, 50 * GB, 80 * GB),
    seconds=NONE,
    worker_bytes=1 * GB,
    commits=4,
    ledger_rows=100,
    object_rows=12_800,
    database_rows=80,
    notes=(),
)
MACHINE = Machine(
    store="/data/store",
    staging="/scratch/staging",
    store_free=100 * GB,
    staging_free=100 * GB,
    one_disk=False,
    memory_free=8 * GB,
    worker_limit=4 * GB,
)


def test_what_fits_has_no_obstacle():
    assert obstacles(BUDGET, MACHINE, PARALLEL) == ()


def test_a_small_disk_is_fatal_and_the_advice_says_how_much_fits():
    (found,) = obstacles(BUDGET, replace(MACHINE, store_free=25 * GB), PARALLEL)
    assert found.fatal
    assert "25 GB are free" in found.what
    assert "50 GB are needed" in found.what
    assert "/data/store" in found.what
    assert "about 49 of 100 bricks fit" in found.advice


def test_a_disk_that_only_the_high_end_overflows_is_a_warning():
    (found,) = obstacles(BUDGET, replace(MACHINE, store_free=60 * GB), PARALLEL)
    assert not found.fatal
    assert "80 GB are needed if the estimate is low" in found.what


def test_staging_has_a_disk_of_its_own_or_shares():
    budget = replace(BUDGET, staging_bytes=Estimate(30 * GB, 30 * GB, 30 * GB))
    (apart,) = obstacles(budget, replace(MACHINE, staging_free=20 * GB), PARALLEL)
    assert apart.fatal
    assert "BRICKYARD_STAGING" in apart.what
    shared = replace(MACHINE, one_disk=True, store_free=75 * GB, staging_free=75 * GB)
    (together,) = obstacles(budget, shared, PARALLEL)
    assert together.fatal
    assert "80 GB are needed" in together.what


def test_little_memory_is_fatal_and_fewer_workers_are_advised():
    (found,) = obstacles(BUDGET, replace(MACHINE, memory_free=2.5 * GB), PARALLEL)
    assert found.fatal
    assert "--workers 1" in found.advice
    (found,) = obstacles(BUDGET, replace(MACHINE, memory_free=1.5 * GB), PARALLEL)
    assert "not even one worker" in found.advice


def test_a_worker_that_dask_would_stop_is_fatal():
    (found,) = obstacles(BUDGET, replace(MACHINE, worker_limit=1.2 * GB), PARALLEL)
    assert found.fatal
    assert "960 MB" in found.what
    assert obstacles(BUDGET, replace(MACHINE, worker_limit=None), PARALLEL) == ()


def test_memory_that_was_not_measured_is_not_judged():
    budget = replace(BUDGET, worker_bytes=None)
    assert obstacles(budget, replace(MACHINE, memory_free=1.0), PARALLEL) == ()


def test_fatal_obstacles_come_first():
    machine = replace(MACHINE, store_free=60 * GB, memory_free=2.5 * GB)
    assert [obstacle.fatal for obstacle in obstacles(BUDGET, machine, PARALLEL)] == [True, False]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1500, "1.5 kB"), (25e9, "25 GB"), (3.4e15, "3.4 PB")]
)
def test_sizes_are_told_in_their_unit(number, text):
    assert size_text(number) == text
