"""Sessions, commits, tags, the writer lock, and what a killed writer leaves."""

import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.errors import RepositoryBusy, StorageError
from storage.repository import (
    fork,
    merge,
    open_repository,
    read_session,
    repository_exists,
    snapshot_id,
    tag_snapshot,
    transaction,
    writer_lock,
)

HOLD_LOCK = """
import sys, time
from storage.repository import writer_lock
with writer_lock(sys.argv[1], what="a long ingest"):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    time.sleep(60)
"""

WRITE_UNTIL_KILLED = """
import sys, time
import numpy as np, zarr
from storage.repository import open_repository, transaction, writer_lock
path = sys.argv[1]
with writer_lock(path, what="doomed"), transaction(open_repository(path), "never") as session:
    array = zarr.open_array(session.store, path="a", mode="r+")
    for value in range(1000000):
        array[:] = np.full(64, value % 100 + 1)
        if value == 20:
            sys.stdout.write("writing\\n")
            sys.stdout.flush()
"""


def _start(code: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() in {"held", "writing"}
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_missing_repository_says_what_to_do(tmp_path):
    assert not repository_exists(tmp_path / "survey")
    with pytest.raises(StorageError, match="run the ingest first"):
        open_repository(tmp_path / "survey")
    assert not (tmp_path / "survey").exists()


def test_created_repository_opens_again(tmp_path):
    first = open_repository(tmp_path / "survey", create=True)
    assert repository_exists(tmp_path / "survey")
    assert snapshot_id(open_repository(tmp_path / "survey")) == snapshot_id(first)


CREATE_AND_DIE = """
import os, sys
from pathlib import Path
import storage.repository
Path.rename = lambda *_: os._exit(9)
storage.repository.open_repository(sys.argv[1], create=True)
"""


def test_a_creation_that_was_killed_leaves_nothing_in_the_way(tmp_path):
    place = tmp_path / "survey"
    died = subprocess.run([sys.executable, "-c", CREATE_AND_DIE, str(place)], check=False)
    assert died.returncode == 9
    assert not repository_exists(place)
    assert not place.exists()
    assert snapshot_id(open_repository(place, create=True))


def test_an_empty_folder_becomes_a_repository(tmp_path):
    (tmp_path / "survey").mkdir()
    assert snapshot_id(open_repository(tmp_path / "survey", create=True))


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    place = tmp_path / "survey"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="move it away"):
        open_repository(place, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]
    assert (place / "notes.txt").read_text() == "mine"


def test_two_that_create_at_once_open_the_same(tmp_path):
    place = tmp_path / "survey"
    with ThreadPoolExecutor(4) as threads:
        tips = list(
            threads.map(lambda _: snapshot_id(open_repository(place, create=True)), range(4))
        )
    assert len(set(tips)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["survey"]


def test_manifests_are_split_along_the_first_axis(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.repository.MANIFEST_SHARDS", 2)
    repository = open_repository(tmp_path / "survey", create=True)
    with transaction(repository, "fill") as session:
        array = zarr.create_array(
            session.store, name="a", shape=(64 * 8,), chunks=(64,), dtype="int64"
        )
        array[:] = np.arange(64 * 8)
    manifests = tmp_path / "survey" / "manifests"
    assert len(list(manifests.iterdir())) == 4
    with transaction(repository, "touch one shard") as session:
        zarr.open_array(session.store, path="a", mode="r+")[:64] = 7
    assert len(list(manifests.iterdir())) == 5  # only one of the four was written anew


def _fail_in_a_transaction(repository) -> None:
    with transaction(repository, "two") as session:
        zarr.create_group(session.store, path="b")
        raise KeyError("worker died")


def test_transaction_without_changes_makes_no_snapshot(repository):
    before = snapshot_id(repository)
    with transaction(repository, "nothing"):
        pass
    assert snapshot_id(repository) == before


def test_transaction_commits_with_metadata_or_not_at_all(repository):
    with transaction(repository, "one", {"flow_run": "x"}) as session:
        zarr.create_group(session.store, path="a")
    newest = next(repository.ancestry(branch="main"))
    assert (newest.message, newest.metadata) == ("one", {"flow_run": "x"})
    with pytest.raises(KeyError, match="worker died"):
        _fail_in_a_transaction(repository)
    assert snapshot_id(repository) == newest.id


def test_forks_cross_processes_by_pickle_and_are_merged(tmp_path):
    repository = open_repository(tmp_path / "survey", create=True)
    with transaction(repository, "create") as session:
        zarr.create_array(session.store, name="a", shape=(4,), chunks=(1,), dtype="int64")
    with transaction(repository, "write") as session:
        back = []
        for place, parcel in enumerate(pickle.dumps(fork(session)) for _ in range(4)):
            child = pickle.loads(parcel)
            zarr.open_array(child.store, path="a", mode="r+")[place] = place + 1
            back.append(pickle.loads(pickle.dumps(child)))
        merge(session, back)
    found = zarr.open_array(read_session(repository).store, path="a", mode="r")
    assert found[:].tolist() == [1, 2, 3, 4]


def test_fork_after_a_change_is_refused_with_the_way_out(repository):
    with transaction(repository, "create") as session:
        zarr.create_group(session.store, path="a")
        with pytest.raises(StorageError, match="allocate the rows in one transaction"):
            fork(session)


def test_tags_never_move(repository):
    first = snapshot_id(repository)
    tag_snapshot(repository, "frozen", first)
    tag_snapshot(repository, "frozen", first)
    with transaction(repository, "one") as session:
        zarr.create_group(session.store, path="a")
    with pytest.raises(StorageError, match="already names another"):
        tag_snapshot(repository, "frozen", snapshot_id(repository))
    assert snapshot_id(repository, tag="frozen") == first
    assert read_session(repository, tag="frozen").snapshot_id == first


def test_unknown_snapshots_and_tags_are_storage_errors(repository):
    with pytest.raises(StorageError, match="'gone'"):
        snapshot_id(repository, tag="gone")
    with pytest.raises(StorageError, match="not in the repository"):
        read_session(repository, tag="gone")
    with pytest.raises(StorageError, match="not in the repository"):
        read_session(repository, snapshot="00000000000000000000")
    with pytest.raises(StorageError, match="cannot be tagged"):
        tag_snapshot(repository, "t", "nonsense")


def test_second_writer_is_told_who_writes_and_a_killed_one_frees_the_lock(tmp_path):
    path = tmp_path / "store" / "survey"
    holder = _start(HOLD_LOCK, path)
    try:
        message = f"'a long ingest' .process {holder.pid} on"
        with pytest.raises(RepositoryBusy, match=message), writer_lock(path, what="second"):
            pass
    finally:
        _kill(holder)
    with writer_lock(path, what="third"):
        pass


def test_lock_is_freed_when_the_writer_fails(tmp_path):
    with pytest.raises(KeyError), writer_lock(tmp_path / "survey", what="fails"):
        raise KeyError
    with writer_lock(tmp_path / "survey", what="next"):
        pass


def test_snapshot_is_readable_after_a_writer_was_killed_while_writing(tmp_path):
    path = tmp_path / "survey"
    repository = open_repository(path, create=True)
    with transaction(repository, "good") as session:
        array = zarr.create_array(session.store, name="a", shape=(64,), chunks=(8,), dtype="int64")
        array[:] = 7
    good = snapshot_id(repository)
    _kill(_start(WRITE_UNTIL_KILLED, path))
    again = open_repository(path)
    assert snapshot_id(again) == good
    assert (zarr.open_array(read_session(again).store, path="a", mode="r")[:] == 7).all()
    with writer_lock(path, what="resume"), transaction(again, "resume") as session:
        zarr.open_array(session.store, path="a", mode="r+")[:] = 8
    assert (zarr.open_array(read_session(again).store, path="a", mode="r")[:] == 8).all()
