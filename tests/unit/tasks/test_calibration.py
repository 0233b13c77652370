import pickle
import shutil

import pytest
from faulty_http import FaultyServer
from tiny_bricks import TinyBrick

from storage.bricks import brick_from_name
from storage.cutouts import CutoutConfig
from storage.fetch import FetchConfig
from storage.ingest_config import IngestConfig
from storage.legacysurvey import coadd_path
from tasks.calibration import CalibrationFailed, CalibrationJob, calibrate, measure
from tasks.settings import Settings

SMALL = IngestConfig(cutout=CutoutConfig(size=20, edge="drop"), on_mismatch="note")
QUICK = FetchConfig(requests_per_second=1000.0)
EAST = brick_from_name("1241p245")


@pytest.fixture
def release(tmp_path):
    """Return the root of a release of two bricks: 3 galaxies, one at the edge; and 2."""
    region = tmp_path / "release" / "south"
    TinyBrick(region).write()
    TinyBrick(
        region,
        brick=EAST,
        places=((60.0, 60.0), (30.0, 71.0)),
        fluxes=(20, 15),
        types=("EXP", "DEV"),
    ).write()
    return tmp_path / "release"


def job(tmp_path, source, names=("1238p245", "1241p245"), bricks=2, **changes):
    values = {
        "settings": Settings(home=tmp_path / "home"),
        "source": str(source),
        "survey": ("dr10", "south"),
        "config": SMALL,
        "candidates": dict.fromkeys(names, 10.0),
        "bricks": bricks,
    }
    return CalibrationJob(**(values | changes))


def test_bricks_are_read_and_written_for_real(tmp_path, release):
    found = measure(job(tmp_path, release))
    assert {count.brickname: count.selected for count in found.catalogues} == {
        "1238p245": 3,
        "1241p245": 2,
    }
    objects = {cost.brickname: cost.objects for cost in found.costs}
    assert objects == {"1238p245": 2, "1241p245": 2}
    assert all(cost.store_bytes > 20 * 20 * 3 for cost in found.costs)
    assert all(
        min(cost.plan_seconds, cost.read_seconds, cost.write_seconds) > 0 for cost in found.costs
    )
    assert {cost.fetch_seconds for cost in found.costs} == {0.0}
    files = [path.stat().st_size for path in (release / "south").rglob("*1238p245*.fits*")]
    assert found.file_bytes["1238p245"] == sum(files)
    assert found.neighbours == {"1238p245": 0, "1241p245": 0}
    assert found.peak_bytes > 0


def test_nothing_of_it_stays(tmp_path, release):
    before = sorted(tmp_path.rglob("*"))
    measure(job(tmp_path, release, bricks=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_brick_is_told_and_another_one_is_measured(tmp_path, release):
    coadd_path(release / "south", "1238p245", "image", "g").write_bytes(b"SIMPLE  = broken")
    found = measure(job(tmp_path, release, bricks=1))
    assert [cost.brickname for cost in found.costs] == ["1241p245"]
    assert set(found.failures) == {"1238p245"}


def test_bricks_that_are_not_there_are_told(tmp_path, release):
    names = ("1238p245", "0001m002")
    found = measure(job(tmp_path, release, names, bricks=1))
    assert "BrickNotFound" in found.failures["0001m002"]
    assert set(found.file_bytes) == {"1238p245"}


def test_no_readable_brick_is_an_error_that_says_why(tmp_path, release):
    shutil.rmtree(release / "south" / "tractor")
    with pytest.raises(CalibrationFailed, match=r"no tractor catalogue.*--calibrate 0"):
        measure(job(tmp_path, release))


def test_a_remote_release_is_fetched_into_a_folder_that_goes_away(tmp_path, release):
    before = sorted(tmp_path.rglob("*"))
    with FaultyServer(release).running() as server:
        found = measure(job(tmp_path, server.url, bricks=1, fetch=QUICK))
    cost = found.costs[0]
    assert cost.objects == 2
    assert cost.fetch_seconds > 0
    files = [path.stat().st_size for path in (release / "south").rglob("*1241p245*.fits*")]
    assert found.file_bytes["1241p245"] == sum(files)
    assert sorted(tmp_path.rglob("*")) == before


def test_cutouts_that_reach_over_the_edge_count_their_neighbours(tmp_path, release):
    wide = IngestConfig(cutout=CutoutConfig(size=256), on_mismatch="note")
    found = measure(job(tmp_path, release, bricks=0, config=wide))
    assert found.neighbours["1238p245"] >= 3


@pytest.mark.slow
def test_the_process_of_its_own_measures_its_own_memory(tmp_path, release):
    found = calibrate(job(tmp_path, release, bricks=1))
    assert len(found.costs) == 1
    assert 100e6 < found.peak_bytes < 2e9


def test_an_error_can_leave_the_process_of_its_own(tmp_path, release):
    with pytest.raises(CalibrationFailed, match="no sample brick") as told:
        measure(job(tmp_path, release, names=("0001m002",)))
    assert repr(pickle.loads(pickle.dumps(told.value))) == repr(told.value)


@pytest.mark.drill
def test_an_error_leaves_the_process_of_its_own(tmp_path, release):
    with pytest.raises(CalibrationFailed, match="no sample brick"):
        calibrate(job(tmp_path, release, names=("0001m002",)))
