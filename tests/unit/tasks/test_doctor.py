"""What the doctor finds, and what it leaves alone."""

import sqlite3
from collections import namedtuple
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from storage.repository import open_repository
from tasks import doctor
from tasks.doctor import Finding, examine
from tasks.lost_runs import LostRun
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


@pytest.fixture
def server():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield


def test_a_run_whose_process_is_gone_is_wrong(settings, server, monkeypatch):
    monkeypatch.setattr(doctor, "lost_runs", lambda: ())
    assert [finding.level for finding in found(settings, "flow runs")] == ["ok"]
    lost = LostRun(id="1b2c", name="happy-otter", process=77)
    monkeypatch.setattr(doctor, "lost_runs", lambda: (lost,))
    [finding] = found(settings, "flow runs")
    assert finding.level == "wrong"
    assert "happy-otter" in finding.found
    assert "77" in finding.found
    assert "1b2c" in finding.advice


def test_a_server_that_does_not_answer_is_noted_and_without_one_nothing_is_asked(
    settings, server, monkeypatch
):
    def refuse() -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(doctor, "lost_runs", refuse)
    [finding] = found(settings, "flow runs")
    assert finding.level == "note"
    assert "PREFECT_API_URL" in finding.advice
    with temporary_settings({PREFECT_API_URL: None}):
        assert found(settings, "flow runs") == []
