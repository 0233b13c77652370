"""Two that open a new file at once: the one that comes second waits."""

import sqlite3
import threading
from contextlib import closing

import pytest

from storage.write_ahead import use_write_ahead_log


@pytest.fixture
def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "new.sqlite", timeout=0)) as database:
        yield database


@pytest.fixture
def other(tmp_path):
    """Return a connection that is writing."""
    path = tmp_path / "new.sqlite"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE rows (number INTEGER)")
        yield other


def mode(database):
    return database.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_file_in_use_is_waited_for(other, database):
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database.execute("PRAGMA journal_mode = WAL")
    ending = threading.Timer(0.3, other.commit)
    ending.start()
    use_write_ahead_log(database, 30)
    ending.join()
    assert mode(database) == "wal"


def test_one_that_stays_in_use_is_an_error(other, database):
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_write_ahead_log(database, 0.1)


def test_twice_changes_nothing(database):
    for _ in range(2):
        use_write_ahead_log(database, 0)
        assert mode(database) == "wal"
