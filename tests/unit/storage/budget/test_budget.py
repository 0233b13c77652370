from dataclasses import replace

import numpy as np
import pytest

from storage.budget import BrickCost, CatalogueCount, Measurements, Work, budget_of
from storage.budget.budget import Parallel
from storage.cutouts import CutoutConfig
from storage.ingest_config import IngestConfig
from storage.selection import Selection

WORK = Work(
    release="dr9",
    listed=110,
    left_out={"not_listed": 5},
    done=5,
    candidates=np.full(100, 1000.0),
    counted=True,
    fetched=False,
)
PARALLEL = Parallel(workers=2, threads=1, cores=2, bricks_per_commit=64)
COST = BrickCost(
    brickname="a",
    objects=100,
    fetch_seconds=0.0,
    plan_seconds=0.5,
    read_seconds=3.5,
    write_seconds=2.0,
    commit_seconds=0.25,
    store_bytes=20_000_000,
)
MEASURED = Measurements(
    catalogues=tuple(CatalogueCount(name, 1000.0, 100) for name in "abcd"),
    costs=(COST, replace(COST, brickname="b")),
    file_bytes=dict.fromkeys("abcd", 90_000_000),
    neighbours=dict.fromkeys("abcd", 0),
    peak_bytes=800_000_000,
)


def plan(work=WORK, config=None, measured=MEASURED, parallel=PARALLEL):
    return budget_of(work, config or IngestConfig(), measured, parallel)


def test_measured_bricks_scale_to_all():
    budget = plan()
    assert budget.bricks == 100
    assert budget.objects.best == pytest.approx(10_000)
    assert budget.read_bytes.best == pytest.approx(9e9)
    assert budget.fetch_bytes.best == 0
    fixed = 100 * 8_000 + 4 * 2_000_000
    assert budget.store_bytes.best == pytest.approx(10_000 * 200_000 + fixed)
    assert budget.worker_bytes == pytest.approx(1e9)
    assert budget.commits == 4  # two for each of two parts
    assert budget.ledger_rows == 100
    assert budget.object_rows == 100 * 128
    assert budget.database_rows == 16 * 5


def test_wall_time_is_the_parts_over_the_lanes():
    # every brick is measured: 2 x 4 s of reading, 2 x 2 s of writing, one commit of 0.25 s
    work = replace(WORK, candidates=np.full(2, 1000.0))
    measured = replace(MEASURED, catalogues=MEASURED.catalogues[:2])
    budget = plan(work, measured=measured)
    assert budget.objects.low == budget.objects.high == 200
    assert budget.store_bytes.low == budget.store_bytes.high
    seconds = budget.seconds
    assert seconds.low == pytest.approx(12.0 / 2 + 0.25 + 3)
    assert seconds.best == pytest.approx(12.0 / 2 * 1.15 + 0.25 + 10)
    assert seconds.high == pytest.approx(12.0 / 2 * 1.3 + 0.25 + 30)


def test_wall_time_of_all_bricks_follows_those_measured():
    # 100 x 4 s of reading; 128 rows a brick at 2 s; two parts with a commit of 0.25 s
    seconds = plan().seconds
    assert seconds.best == pytest.approx((100 * 4.0 + 100 * 2.0) / 2 * 1.15 + 0.5 + 10)
    assert seconds.low < 300 < seconds.high


def test_more_workers_than_cores_are_not_faster():
    four = replace(PARALLEL, workers=4)
    assert plan(parallel=four).seconds == plan().seconds
    assert plan(parallel=replace(four, cores=4)).seconds.best < 0.6 * plan().seconds.best


def test_fetching_in_turn_bounds_the_wall_time():
    costs = tuple(replace(cost, fetch_seconds=50.0) for cost in MEASURED.costs)
    budget = plan(replace(WORK, fetched=True), measured=replace(MEASURED, costs=costs))
    assert budget.seconds.best == pytest.approx(100 * 50.0 + 0.5 + 10)
    assert budget.seconds.high > budget.seconds.best


def test_fetched_files_are_staged_a_part_at_a_time():
    budget = plan(replace(WORK, fetched=True))
    assert budget.fetch_bytes.best == pytest.approx(9e9)
    assert budget.staging_bytes.best == pytest.approx(9e9 * 0.64)


def test_neighbours_are_fetched_for_cutouts_at_the_edge():
    wide = replace(MEASURED, neighbours=dict.fromkeys("abcd", 8))
    budget = plan(replace(WORK, fetched=True), measured=wide)
    assert budget.fetch_bytes.low == pytest.approx(budget.read_bytes.low)
    assert budget.fetch_bytes.best == pytest.approx(27e9)
    assert budget.fetch_bytes.high == pytest.approx(9 * budget.read_bytes.high)
    assert any("neighbours" in note for note in budget.notes)


def test_objects_without_a_cutout_are_not_counted():
    costs = (replace(COST, objects=50), replace(COST, brickname="b", objects=100))
    objects = plan(measured=replace(MEASURED, costs=costs)).objects
    all_kept = plan().objects
    assert objects.best == pytest.approx(7_500)
    assert objects.low == pytest.approx(all_kept.low * 0.5)  # a quarter is lost, or twice that,
    assert objects.high == pytest.approx(all_kept.high * 0.875)  # or half of it


def test_detected_objects_come_from_the_pixels():
    budget = plan(measured=replace(MEASURED, catalogues=()))
    assert budget.objects.best == pytest.approx(10_000)
    assert any("pixels" in note for note in budget.notes)


def test_without_measurements_published_averages_stand_in():
    work = replace(WORK, candidates=np.ones(331_958), counted=False, fetched=True)
    budget = plan(work, measured=Measurements())
    assert budget.objects.best == pytest.approx(76.17e6, rel=1e-3)  # Stein et al. 2021
    assert budget.objects.high == pytest.approx(4 * budget.objects.low)
    assert budget.fetch_bytes.high == pytest.approx(331_958 * 280e6)
    assert budget.seconds is None
    assert budget.worker_bytes is None


def test_a_fainter_limit_gives_more_objects_but_not_more_than_there_are():
    def best(max_mag):
        config = IngestConfig(selection=Selection(max_mag=max_mag))
        return plan(config=config, measured=Measurements()).objects.best

    assert best(21.0) == pytest.approx(best(20.0) * 10**0.4)
    assert best(30.0) == best(None) == pytest.approx(100_000)


def test_larger_cutouts_take_more_room():
    def best(size):
        config = IngestConfig(cutout=CutoutConfig(size=size))
        return plan(config=config, measured=Measurements()).store_bytes.best

    assert best(304) > 3.5 * best(152)


def test_nothing_to_do_costs_nothing():
    budget = plan(replace(WORK, candidates=np.empty(0)), measured=Measurements())
    assert budget.objects.best == budget.store_bytes.best == budget.seconds.best == 0
    assert (budget.bricks, budget.commits, budget.object_rows) == (0, 0, 0)
