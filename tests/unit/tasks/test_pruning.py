"""Predictions that nothing refers to are deleted; what a release or a champion needs stays."""

import time
from pathlib import Path

import pytest
from champions import make_champion
from measured_survey import sky_patch
from placed_survey import write_galaxies
from typer.testing import CliRunner

from flows.__main__ import app
from storage.brick_ledger import BrickRecord, record_bricks
from storage.errors import StorageError
from storage.repository import open_repository, transaction
from storage.schema import BrickState
from tasks.prediction import plan_prediction, written_bricks
from tasks.prediction_files import prediction_path
from tasks.prediction_worker import predict_bricks
from tasks.pruning import CannotPrune, Prunable, plan_pruning, prune
from tasks.publication import propose, publish
from tasks.references import ModelRef, SnapshotRef
from tasks.releases import BRICKS, folder_of, list_releases, verify_release
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

SURVEY = "dr10/south"
PATCH = sky_patch(2, 1)
NAMES = tuple(brick.brickname for brick in PATCH)
MONTH = 30.0


def predict_all(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> None:
    predict_bricks(settings, snapshot, model, plan_prediction.fn(settings, snapshot, model))


def write_file(settings: Settings, snapshot: SnapshotRef, model: ModelRef, name: str) -> Path:
    """Write a file of the present state of a brick, without predicting it."""
    version = written_bricks(snapshot).at[name, "version"]
    path = prediction_path(settings, SURVEY, model, name, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"rows")
    return path


def change_brick(settings: Settings, name: str) -> SnapshotRef:
    """Let a brick look ingested again with other content."""
    repository = open_repository(Path(settings.store_path) / "survey")
    with transaction(repository, "change") as session:
        record = BrickRecord(
            name, 1, BrickState.WRITTEN, n_objects=6, content_digest="2", config_digest="a"
        )
        record_bricks(session, SURVEY, [record])
    return find_snapshot(settings, SURVEY, None)


@pytest.fixture
def former(tracking: Settings) -> ModelRef:
    """Return a model with a release of two bricks; it is champion until another one is."""
    snapshot = write_galaxies(tracking, PATCH, 6)
    model = make_champion(tracking)
    predict_all(tracking, snapshot, model)
    publish.fn(tracking, propose.fn(tracking, snapshot, model), None)
    return model


def in_a_month() -> float:
    return time.time() + MONTH * 24 * 3600


def files_of(settings: Settings) -> set[Path]:
    return {path for path in settings.predictions_path.rglob("*") if path.is_file()}


def test_only_what_neither_a_release_nor_the_champion_needs_is_deleted(tracking, former):
    snapshot = change_brick(tracking, NAMES[0])
    left = write_file(tracking, snapshot, former, NAMES[0])  # after the release
    champion = make_champion(tracking, seed=1)
    for name in NAMES:
        write_file(tracking, snapshot, champion, name)
    plan = plan_pruning(tracking, now=in_a_month())
    assert plan.paths == (left,)
    what = f"{SURVEY} morphology {left.parent.parent.name}"
    assert plan.prunable == (Prunable(what, 1, len(b"rows")),)
    assert plan.kept == {"a release": 2, "the champion": 2}
    before = files_of(tracking)  # a plan is a dry run
    assert left in before
    assert prune(tracking, plan) == 1
    assert files_of(tracking) == before - {left}
    assert plan_prediction.fn(tracking, snapshot, champion) == ()
    [release] = list_releases(tracking)
    verify_release(folder_of(tracking, release))
    assert plan_pruning(tracking, now=in_a_month()).paths == ()


def test_a_champion_keeps_the_newest_state_of_a_brick_only(tracking, former):
    second = change_brick(tracking, NAMES[0])
    old = write_file(tracking, second, former, NAMES[0])
    repository = open_repository(Path(tracking.store_path) / "survey")
    with transaction(repository, "away") as session:
        record_bricks(session, SURVEY, [BrickRecord(NAMES[0], 1, BrickState.WITHDRAWN)])
    plan = plan_pruning(tracking, now=in_a_month())
    assert plan.paths == (old,)
    assert plan.kept == {"a release": 2}


def test_young_files_and_half_releases_are_kept_until_they_are_old(tracking, former):
    part = tracking.predictions_path / ".dr10-south-morphology-0002.7.part" / "catalogue.parquet"
    part.parent.mkdir()
    part.write_bytes(b"half")
    assert plan_pruning(tracking).kept == {"a release": 2, "being young": 1}
    plan = plan_pruning(tracking, now=in_a_month())
    assert [item.what for item in plan.prunable] == ["unfinished releases"]
    assert prune(tracking, plan) == 1
    assert not part.parent.exists()
    assert prune(tracking, plan) == 0


def test_where_a_release_does_not_say_what_it_needs_nothing_is_deleted(tracking, former):
    [release] = list_releases(tracking)
    (folder_of(tracking, release) / BRICKS).unlink()
    with pytest.raises(CannotPrune, match=release.tag):
        plan_pruning(tracking, now=in_a_month())


def test_where_the_store_cannot_be_read_nothing_is_deleted(tracking, former):
    with pytest.raises(StorageError):
        plan_pruning(
            tracking.model_copy(update={"store": str(tracking.home / "elsewhere")}),
            now=in_a_month(),
        )
    assert len(files_of(tracking)) == 2


def test_a_home_without_predictions_has_nothing_to_prune(tmp_path):
    assert plan_pruning(Settings(home=tmp_path)).paths == ()


def test_the_command_says_what_it_would_do_before_it_does_it(tracking, former):
    left = write_file(tracking, change_brick(tracking, NAMES[1]), former, NAMES[1])
    make_champion(tracking, seed=1)
    command = ["--home", str(tracking.home), "prune", "--older-than", "0"]
    said = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "1 files, 0.0 MB would be deleted" in said.stdout
    assert left.exists()
    said = CliRunner().invoke(app, [*command, "--delete"], catch_exceptions=False)
    assert "deleted 1 files" in said.stdout
    assert not left.exists()
