"""An own home with a real, empty MLflow for each test; no server."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tasks.settings import Settings
from tasks.tracking import model_versions


@event.listens_for(Engine, "connect")
def do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """Leave writing to the system: MLflow commits some ten times a test, 5 ms each."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of an MLflow database that was just created (which takes seconds)."""
    home = tmp_path_factory.mktemp("empty-tracking")
    assert model_versions(Settings(home=home), "nothing") == []
    return home


@pytest.fixture
def tracking(empty_tracking: Path, tmp_path: Path) -> Settings:
    """Return the settings of a fresh home with an empty MLflow."""
    home = tmp_path / "home"
    shutil.copytree(empty_tracking, home)
    return Settings(home=home)
