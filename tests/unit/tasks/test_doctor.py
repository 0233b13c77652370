"""What the doctor finds, and what it leaves alone."""

import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from storage.repository import open_repository
from tasks import doctor
from tasks.doctor import Finding, examine
from tasks.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def found(settings: Settings, what: str) -> list[Finding]:
    return [finding for finding in examine(settings) if finding.what.startswith(what)]


def test_an_empty_home_is_well_and_stays_empty(settings):
    assert {finding.level for finding in examine(settings)} <= {"ok", "note"}
    assert not settings.home.exists()


def test_little_disk_is_noted_and_none_is_wrong(settings, monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, level in ((10 * 2**30, "note"), (2**30, "wrong"), (100 * 2**30, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        (home, *_) = found(settings, "disk of the home")
        assert home.level == level
        assert bool(home.advice) == (level != "ok")


def test_a_damaged_database_is_wrong(settings):
    settings.home.mkdir()
    with sqlite3.connect(settings.labels_path) as database:
        database.execute("CREATE TABLE labels (id INTEGER)")
    assert found(settings, "label ledger")[0].level == "ok"
    settings.labels_path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert found(settings, "label ledger")[0].level == "wrong"


def test_a_store_that_cannot_be_read_is_wrong(settings):
    path = Path(settings.store_path) / "survey"
    open_repository(path, create=True)
    assert found(settings, "store, survey")[0].level == "ok"
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    broken = found(settings, "store, survey")[0]
    assert broken.level == "wrong"
    assert "snapshots" in broken.advice


def test_a_fastapi_that_stops_prefect_is_wrong(settings, monkeypatch):
    version = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata,
        "version",
        lambda name: "0.165.0" if name == "fastapi" else version(name),
    )
    assert [finding.level for finding in found(settings, "versions")] == ["ok", "wrong"]
