import pytest
from measured_survey import SURVEY, bricks_table, record_again, sky_patch, write_survey

from storage.errors import StorageError
from storage.quality.limits import Limit, QualityLimits
from storage.quality.results import Level
from storage.repository import snapshot_id
from storage.schema import BrickState
from tasks import quality
from tasks.quality import artifact_key, check_quality, report_path, write_text
from tasks.references import SnapshotRef
from tasks.settings import Settings

BRICKS = sky_patch(2, 1)


@pytest.fixture
def artifacts(monkeypatch):
    """Collect what would go to Prefect's server."""
    made = []
    monkeypatch.setattr(
        quality,
        "create_markdown_artifact",
        lambda text, key, description: made.append((text, key, description)),
    )
    return made


@pytest.fixture
def survey(tmp_path):
    settings = Settings(home=tmp_path / "home")
    repository = write_survey(tmp_path / "home" / "store" / "survey", BRICKS)
    return settings, repository


def reference(settings, repository):
    snapshot = snapshot_id(repository)
    return SnapshotRef(store=settings.store_path, survey=SURVEY, snapshot_id=snapshot)


def test_report_is_written_and_shown(survey, artifacts):
    settings, repository = survey
    snapshot = reference(settings, repository)
    found = check_quality.fn(settings, snapshot)
    path = settings.home.resolve() / "reports" / f"dr10-south-{snapshot.snapshot_id}.html"
    assert found.path == str(path) == str(report_path(settings, snapshot))
    assert snapshot.snapshot_id in path.read_text()
    assert list(path.parent.iterdir()) == [path]
    [(text, key, description)] = artifacts
    assert (key, description) == ("quality-dr10-south", found.verdict)
    assert str(path) in text
    assert found.passed
    assert found.checks["depth"] is Level.PASS
    assert found.checks["outliers"] is Level.NOT_MEASURED
    assert found.found["failed bricks"] == "none of 2"
    assert quality.QualityRef.model_validate_json(found.model_dump_json()) == found


def test_a_gate_that_fails_fails_the_survey_but_makes_the_report(survey, artifacts):
    settings, repository = survey
    lost = sky_patch(1, 1, dec=9.0)[0]
    record_again(repository, BRICKS, broken=[(lost, BrickState.FAILED, "CorruptFile: a")])
    found = check_quality.fn(settings, reference(settings, repository))
    assert not found.passed
    assert found.worst is Level.FAIL
    assert artifacts
    lenient = QualityLimits(failed=Limit(0.5, 0.5))
    assert check_quality.fn(settings, reference(settings, repository), lenient).passed


def test_bricks_table_is_read_from_its_file(survey, artifacts, tmp_path):
    from astropy.table import Table

    settings, repository = survey
    table = Table.from_pandas(bricks_table([*BRICKS, *sky_patch(1, 1, dec=9.0)]))
    path = tmp_path / "survey-bricks-dr10-south.fits.gz"
    table.write(path)
    found = check_quality.fn(settings, reference(settings, repository), None, str(path))
    assert found.checks["bricks of the table"] is Level.WARN
    assert found.checks["counts against the table"] is Level.PASS
    with pytest.raises(StorageError, match="no such table"):
        check_quality.fn(settings, reference(settings, repository), None, str(tmp_path / "none"))


def test_a_write_that_breaks_leaves_the_old_report(tmp_path):
    path = tmp_path / "report.html"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udc80")
    assert path.read_text() == "old"


def test_artifact_keys_are_what_prefect_accepts():
    assert artifact_key("dr10/south") == "quality-dr10-south"
    assert artifact_key("images/Galaxy Zoo_2") == "quality-images-galaxy-zoo-2"
