"""A backup holds what a restore needs, says what it leaves out, and is put back whole or not."""

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from small_survey import SURVEY, write_small_survey
from typer.testing import CliRunner

from flows.__main__ import app
from storage.repository import (
    open_repository,
    read_session,
    snapshot_id,
    tag_snapshot,
    transaction,
)
from storage.survey_digest import content_digest_of
from tasks.backup import (
    PREDICTED,
    BackupDamaged,
    BackupRefused,
    back_up,
    read_manifest,
    restore,
)
from tasks.backup.manifest import read_files
from tasks.backup.places import find_home_files, state_elsewhere
from tasks.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return a home with a store, a database that is in use, an encoder and what is no state."""
    settings = Settings(home=tmp_path / "home")
    write_small_survey(Path(settings.store_path), {"b1": 3, "b2": 2})
    repository = open_repository(Path(settings.store_path) / "survey")
    tag_snapshot(repository, "first", snapshot_id(repository))
    for name, text in {
        "encoders/abc/weights.safetensors": "weights",
        "prefect/storage/result": "{}",
        "services.json": "{}",
        "desk.log": "log",
        "promotion.lock": "",
        "staging/dr10/brick.fits": "being fetched",
        f"reports/report.html.{7}.part": "half",
    }.items():
        path = settings.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return settings


@pytest.fixture
def database(settings):
    """Return a connection that has written into the log of a database of the home."""
    with closing(sqlite3.connect(settings.home / "queue.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE items (number INTEGER)")
        connection.execute("INSERT INTO items VALUES (1)")
        connection.commit()
        yield connection


def survey_digest(settings: Settings, tag: str | None = None) -> str:
    repository = open_repository(Path(settings.store_path) / "survey")
    return content_digest_of(read_session(repository, tag=tag), SURVEY)


def elsewhere(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "other")


def test_what_was_saved_is_restored_with_its_tags_and_what_is_no_state_is_not(
    settings, database, tmp_path
):
    done = back_up(settings, tmp_path / "backup")
    assert done.databases == ("queue.sqlite",)
    assert done.left_out == {
        "records of running services": 1,
        "logs of services": 1,
        "locks": 1,
        "being fetched": 1,
        "files being written": 1,
        "sides of databases": 2,
    }
    other = elsewhere(tmp_path)
    (other.home / "prefect").mkdir(parents=True)  # the command line makes it
    restore(other, tmp_path / "backup")
    assert survey_digest(other) == survey_digest(settings) == survey_digest(other, "first")
    with closing(sqlite3.connect(other.home / "queue.sqlite")) as copy:
        assert copy.execute("SELECT number FROM items").fetchall() == [(1,)]
    found = find_home_files(other)
    assert set(found.before + found.after) == {
        "queue.sqlite",
        "prefect/storage/result",
        "encoders/abc/weights.safetensors",
    }
    assert not list(other.home.rglob(".restoring"))


@pytest.mark.parametrize("predictions", [False, True])
def test_predictions_are_left_out_and_counted_unless_they_are_asked_for(
    settings, tmp_path, predictions
):
    path = settings.predictions_path / "dr10/south/morphology/v1-abc/150/1500p020-abc.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("rows")
    done = back_up(settings, tmp_path / "backup", predictions=predictions)
    assert done.left_out.get(PREDICTED, 0) == (0 if predictions else 1)
    other = elsewhere(tmp_path)
    said = CliRunner().invoke(app, ["--home", str(other.home), "restore", str(tmp_path / "backup")])
    assert said.exit_code == 0
    assert ("`brickyard cycle` makes" in said.stdout) == (not predictions)
    assert bool(list(other.predictions_path.rglob("*.parquet"))) == predictions


def test_a_backup_during_commits_is_one_of_the_states_that_were_there(settings, tmp_path):
    store, ended = Path(settings.store_path), threading.Event()

    def commit() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            with transaction(open_repository(store / "survey"), "note") as session:
                import zarr

                zarr.open_group(session.store, path=SURVEY, mode="r+").attrs["note"] = number

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        for number in range(3):
            done = back_up(settings, tmp_path / f"backup{number}")
            copy = open_repository(tmp_path / f"backup{number}" / "store" / "survey")
            assert done.snapshots["survey"] == snapshot_id(copy)
            assert content_digest_of(read_session(copy), SURVEY)
    finally:
        ended.set()
        writer.join()
    ids = {info.id for info in open_repository(store / "survey").ancestry(branch="main")}
    assert done.snapshots["survey"] in ids


def test_references_come_after_everything_that_they_name(settings, tmp_path):
    back_up(settings, tmp_path / "backup")
    paths = [saved.path for saved in read_files(tmp_path / "backup") if "survey/" in saved.path]
    refs = [path.startswith("survey/refs/") for path in paths]
    assert refs == sorted(refs)
    assert any(refs)


def test_a_store_outside_the_home_goes_to_the_store_of_the_restoring_one(settings, tmp_path):
    apart = tmp_path / "disk"
    Path(settings.store_path).rename(apart)
    back_up(Settings(home=settings.home, store=str(apart)), tmp_path / "backup")
    other = Settings(home=tmp_path / "other", store=str(tmp_path / "disk2"))
    restore(other, tmp_path / "backup")
    assert survey_digest(other)
    assert not (other.home / "store").exists()


def test_a_home_or_store_that_is_not_empty_is_not_restored_over(settings, tmp_path):
    back_up(settings, tmp_path / "backup")
    before = survey_digest(settings)
    with pytest.raises(BackupRefused, match="is not empty"):
        restore(settings, tmp_path / "backup")
    assert survey_digest(settings) == before
    with pytest.raises(BackupRefused, match="is not empty"):
        restore(Settings(home=tmp_path / "other", store=settings.store_path), tmp_path / "backup")


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_of_a_damaged_backup_nothing_is_restored(settings, tmp_path, harm):
    back_up(settings, tmp_path / "backup")
    victim = tmp_path / "backup" / "home" / "encoders" / "abc" / "weights.safetensors"
    victim.unlink() if harm == "missing" else victim.write_text("weighty")
    other = elsewhere(tmp_path)
    with pytest.raises(BackupDamaged, match=rf"weights.safetensors .*{harm}"):
        restore(other, tmp_path / "backup")
    assert not [path for path in other.home.rglob("*") if path.is_file()]


def test_a_manifest_that_does_not_belong_to_its_list_is_refused(settings, tmp_path):
    back_up(settings, tmp_path / "backup")
    with (tmp_path / "backup" / "files.jsonl").open("a") as lines:
        lines.write("\n")
    with pytest.raises(BackupDamaged, match="not the list"):
        restore(elsewhere(tmp_path), tmp_path / "backup")


def test_an_unfinished_backup_and_one_of_another_format_are_refused(settings, tmp_path):
    back_up(settings, tmp_path / "backup")
    manifest = tmp_path / "backup" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(BackupRefused, match="format 99"):
        read_manifest(tmp_path / "backup")
    manifest.unlink()
    with pytest.raises(BackupRefused, match="did not end"):
        read_manifest(tmp_path / "backup")


def test_a_backup_goes_into_a_new_folder_outside_of_what_it_saves(settings, tmp_path):
    with pytest.raises(BackupRefused, match="inside of what is to be saved"):
        back_up(settings, settings.home / "backup")
    back_up(settings, tmp_path / "backup")
    with pytest.raises(BackupRefused, match="holds a backup"):
        back_up(settings, tmp_path / "backup")
    with pytest.raises(BackupRefused, match="no home folder"):
        back_up(elsewhere(tmp_path), tmp_path / "backup2")


def test_a_damaged_database_is_named(settings, tmp_path):
    path = settings.home / "labels.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE labels (text TEXT)")
        database.executemany("INSERT INTO labels VALUES (?)", [("x" * 1000,)] * 100)
        database.commit()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(BackupDamaged, match=r"labels.sqlite"):
        back_up(settings, tmp_path / "backup")
    assert not (tmp_path / "backup" / "manifest.json").exists()


def test_state_on_other_machines_is_named_with_what_to_do_and_without_passwords(
    settings, tmp_path, monkeypatch
):
    remote = Settings(
        home=settings.home,
        store="s3://bucket/store",
        tracking_uri="postgresql://brickyard:secret@host/mlflow",
    )
    url = "postgresql+asyncpg://brickyard:secret@host/prefect"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
    with pytest.raises(BackupRefused, match="versioning or replication") as refusal:
        back_up(remote, tmp_path / "backup")
    assert "secret" not in str(refusal.value)
    assert str(refusal.value).count("pg_dump") == 2
    done = back_up(remote, tmp_path / "backup", only_local=True)
    assert len(done.elsewhere) == 3
    back_up(settings, tmp_path / "whole", only_local=True)
    bucket = Settings(home=tmp_path / "other", store="s3://bucket/store")
    with pytest.raises(BackupRefused, match="bucket"):
        restore(bucket, tmp_path / "whole")


def test_the_embedded_default_has_nothing_elsewhere(settings):
    environment = {"PREFECT_HOME": str(settings.home / "prefect")}
    assert state_elsewhere(settings, environment) == []
    assert "copy it" in state_elsewhere(settings, {"PREFECT_HOME": "/somewhere"})[0]


def test_mlflow_finds_its_files_in_another_home(settings, tmp_path):
    old, new = settings.home.resolve(), tmp_path / "other"
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as database:
        database.execute("CREATE TABLE runs (artifact_uri TEXT)")
        places = [old.as_uri() + "/mlartifacts/a", f"{old}/mlartifacts/b", f"{old}-2/c", "s3://x"]
        database.executemany("INSERT INTO runs VALUES (?)", [(place,) for place in places])
        database.commit()
    back_up(settings, tmp_path / "backup")
    assert restore(elsewhere(tmp_path), tmp_path / "backup").relocated == 2
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        found = [row[0] for row in database.execute("SELECT artifact_uri FROM runs")]
    expected = [new.as_uri() + "/mlartifacts/a", f"{new}/mlartifacts/b", f"{old}-2/c", "s3://x"]
    assert found == expected
