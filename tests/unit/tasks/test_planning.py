import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from faulty_http import FaultyServer

from storage.brick_ledger import BrickRecord, record_bricks
from storage.brick_store import create_survey
from storage.bricks import brick_from_id
from storage.budget import BrickCost, CatalogueCount, Measurements
from storage.cutouts import CutoutConfig
from storage.errors import SchemaMismatch, StorageError
from storage.ingest_config import IngestConfig
from storage.repository import open_repository, transaction
from storage.schema import BrickState
from storage.selection import Selection
from tasks import planning
from tasks.brick_sources import open_bricks
from tasks.cluster import SchedulerUnreachable
from tasks.planning import PlanRequest, plan_ingest
from tasks.settings import Settings

NAMES = [brick_from_id(330_000 + number).brickname for number in range(40)]
SURVEY = ("dr10", "south")


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", workers=2)


@pytest.fixture
def release(tmp_path):
    """Return the root of a release: folders of 10 bricks, and a table of 40 with growing counts."""
    root = tmp_path / "release"
    for name in NAMES[:10]:
        (root / "south" / "coadd" / name[:3] / name).mkdir(parents=True)
    write_table(root / "south" / "survey-bricks-dr10-south.fits.gz")
    return root


def write_table(path):
    counts = np.arange(1, 41) * 100
    Table({"brickname": NAMES, "nobjs": counts, "nrex": counts // 2, "npsf": counts // 2}).write(
        path
    )
    return path


@pytest.fixture
def jobs(monkeypatch):
    """Take the place of the calibration: a tenth of the candidates is selected; keep the jobs."""
    seen = []

    def calibrate(job):
        seen.append(job)
        counts = tuple(CatalogueCount(n, c, round(c / 10)) for n, c in job.candidates.items())
        cost = BrickCost(counts[0].brickname, counts[0].selected, 0, 1, 2, 1, 0.1, 10_000_000)
        return Measurements(counts, (cost,), dict.fromkeys(job.candidates, 5000), {}, 10**8)

    monkeypatch.setattr(planning, "calibrate", calibrate)
    return seen


def request(source, **changes):
    return PlanRequest(str(source), SURVEY, IngestConfig(), **changes)


def record(settings, states, config=None, size=152):
    """Write bricks into the ledger with a state each."""
    config = config or IngestConfig(cutout=CutoutConfig(size=size))
    source = open_bricks(settings, "/nowhere", SURVEY, config)
    repository = open_repository(f"{settings.store_path}/survey", create=True)
    with transaction(repository, "bricks") as session:
        create_survey(session, "dr10/south", source.layout())
        digest = source.config_digest()
        records = [
            BrickRecord(name, 330_000 + NAMES.index(name), state, config_digest=digest)
            for name, state in states.items()
        ]
        record_bricks(session, "dr10/south", records)


def test_the_bricks_of_a_folder_are_counted_with_its_own_table(settings, release, jobs):
    plan = plan_ingest(settings, request(release))
    assert (plan.work.listed, plan.work.bricks, plan.work.absent) == (10, 10, 0)
    assert plan.work.counted
    assert plan.work.candidates.sum() == sum(range(1, 11)) * 50
    assert plan.budget.objects.best == pytest.approx(275, rel=0.02)
    assert not plan.refused


def test_a_table_that_is_given_says_which_bricks_there_are(settings, release, jobs, tmp_path):
    table = write_table(tmp_path / "table.fits")
    plan = plan_ingest(settings, request(release, bricks_table=str(table)))
    assert (plan.work.bricks, plan.work.absent) == (40, 30)
    assert set(jobs[0].candidates) <= set(NAMES[:10])  # only what is there can be measured
    assert plan.budget.objects.best == pytest.approx(4100, rel=0.02)


def test_the_sample_runs_from_poor_to_rich_bricks(settings, release, jobs):
    plan_ingest(settings, request(release, calibrate=1))
    assert list(jobs[0].candidates) == [NAMES[number] for number in (1, 3, 6, 8)]
    assert jobs[0].bricks == 1


def test_names_and_lists_choose_bricks(settings, release, jobs, tmp_path):
    listed = tmp_path / "names.txt"
    listed.write_text(f"{NAMES[3]}\n{NAMES[4]}\n")
    found = plan_ingest(settings, request(release, bricks=(NAMES[0],), brick_list=str(listed)))
    assert found.work.candidates.tolist() == [50.0, 200.0, 250.0]


def test_a_brick_outside_the_table_counts_as_the_mean(settings, release, jobs):
    other = brick_from_id(400_000).brickname
    found = plan_ingest(settings, request(release, bricks=(NAMES[0], NAMES[2], other)))
    assert found.work.candidates.tolist() == [50.0, 150.0, 100.0]


def test_what_the_ledger_has_is_not_planned_again(settings, release, jobs):
    states = dict.fromkeys(NAMES[:3], BrickState.WRITTEN) | {
        NAMES[3]: BrickState.EMPTY,
        NAMES[4]: BrickState.FAILED,
        NAMES[5]: BrickState.WITHDRAWN,
    }
    record(settings, states)
    plan = plan_ingest(settings, request(release))
    assert (plan.work.listed, plan.work.done, plan.work.bricks) == (10, 4, 5)
    assert plan.work.left_out == {"withdrawn earlier": 1}
    again = plan_ingest(settings, request(release, again=True))
    assert (again.work.done, again.work.bricks) == (0, 10)


def test_bricks_of_another_configuration_are_to_do(settings, release, jobs):
    record(settings, dict.fromkeys(NAMES[:3], BrickState.WRITTEN))
    other = PlanRequest(str(release), SURVEY, IngestConfig(selection=Selection(max_mag=19.0)))
    assert plan_ingest(settings, other).work.bricks == 10


def test_a_survey_of_another_size_is_refused_before_the_run(settings, release, jobs):
    record(settings, {NAMES[0]: BrickState.WRITTEN}, size=64)
    with pytest.raises(SchemaMismatch, match=r"64 pixel.*152 pixel"):
        plan_ingest(settings, request(release))


def test_bricks_outside_the_footprint_are_counted_by_reason(settings, release, jobs):
    config = IngestConfig(selection=Selection(dec_range=(-90.0, -80.0)))
    plan = plan_ingest(settings, PlanRequest(str(release), SURVEY, config))
    assert plan.work.bricks == 0
    assert sum(plan.work.left_out.values()) == 10
    assert plan.budget.seconds.best == 0
    assert jobs == []


def test_without_calibration_nothing_is_measured(settings, release, jobs):
    plan = plan_ingest(settings, request(release, calibrate=0))
    assert jobs == []
    assert plan.budget.seconds is None
    assert plan.budget.objects.best == pytest.approx(2750 * 0.0387, rel=0.01)


def test_a_remote_table_says_which_bricks_there_are(settings, release, jobs):
    with FaultyServer(release).running() as server:
        plan = plan_ingest(settings, request(server.url))
        assert (plan.work.bricks, plan.work.fetched) == (40, True)
        assert plan.budget.fetch_bytes.best == pytest.approx(40 * 5000)
        (release / "south" / "survey-bricks-dr10-south.fits.gz").unlink()
    (settings.staging_path / "dr10" / "south" / "survey-bricks-dr10-south.fits.gz").unlink()
    with FaultyServer(release).running() as server:
        named = plan_ingest(settings, request(server.url, bricks=tuple(NAMES[:2])))
        assert (named.work.bricks, named.work.counted) == (2, False)
        with pytest.raises(StorageError, match="no such file"):
            plan_ingest(settings, request(server.url))


def test_the_workers_of_a_running_cluster_count(settings, release, jobs, monkeypatch):
    workers = {
        "a": {"nthreads": 1, "memory_limit": 4_000_000_000},
        "b": {"nthreads": 1, "memory_limit": 3_000_000_000},
    }

    @contextmanager
    def connect(address, timeout):
        yield SimpleNamespace(scheduler_info=lambda n_workers: {"workers": workers})

    monkeypatch.setattr(planning, "connect", connect)
    elsewhere = settings.model_copy(update={"scheduler": "tcp://host:8786", "workers": 9})
    plan = plan_ingest(elsewhere, request(release))
    assert (plan.parallel.workers, plan.parallel.cores) == (2, 2)
    assert plan.machine.worker_limit == 3e9
    workers["b"]["memory_limit"] = 0
    assert plan_ingest(elsewhere, request(release)).machine.memory_free is None
    workers.clear()
    with pytest.raises(SchedulerUnreachable, match="has no worker"):
        plan_ingest(elsewhere, request(release))


def test_the_document_is_json(settings, release, jobs):
    document = plan_ingest(settings, request(release)).document()
    text = json.loads(json.dumps(document))
    assert text["refused"] is False
    assert text["budget"]["bricks"] == 10
    assert "candidates" not in text["work"]
