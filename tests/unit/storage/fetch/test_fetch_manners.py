"""The limits that all processes of a host share."""

import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_http import FaultyServer
from fetch_release import BANDS, NAME, OTHER, QUICK, FileRelease

from storage.errors import StorageError
from storage.fetch import FetchConfig, ReleaseTree
from storage.fetch.manners import Manners, Pace

FETCH = """
import pickle, sys, tempfile
from pathlib import Path
tree, staging, brickname, tempfile.tempdir = pickle.loads(bytes.fromhex(sys.argv[1]))
tree.fetch(brickname, ("g", "r", "z"), Path(staging))
"""


def fetch_in_processes(tree: ReleaseTree, staging: Path, names: list[str], shared: Path) -> None:
    arguments = [pickle.dumps((tree, str(staging), name, str(shared))).hex() for name in names]
    runs = [subprocess.Popen([sys.executable, "-c", FETCH, argument]) for argument in arguments]
    assert [run.wait() for run in runs] == [0] * len(names)


@pytest.mark.slow
def test_processes_share_the_slots_of_a_server(tmp_path: Path, shared_folder: Path) -> None:
    release = FileRelease(tmp_path / "release", bricknames=(NAME, OTHER)).write()
    with FaultyServer(release.root, seconds_a_piece=0.05).running() as server:
        tree = ReleaseTree(server.url, "dr9", "south", replace(QUICK, connections=3))
        fetch_in_processes(tree, tmp_path / "staging", [NAME, OTHER], shared_folder)
        assert server.most_at_once == 3  # each process alone would use them all
    assert release.staged(tmp_path / "staging") == release.data()


@pytest.mark.slow
def test_processes_never_fetch_one_file_twice(tmp_path: Path, shared_folder: Path) -> None:
    release = FileRelease(tmp_path / "release").write()
    with FaultyServer(release.root, seconds_a_piece=0.02).running() as server:
        tree = ReleaseTree(server.url, "dr9", "south", QUICK)
        fetch_in_processes(tree, tmp_path / "staging", [NAME, NAME], shared_folder)
        answered = [request for request in server.asked(".fits.fz") if request.status == 200]
        assert len(answered) == len({request.path for request in answered}) == 13
    assert release.staged(tmp_path / "staging") == release.data()


@pytest.mark.slow
def test_a_process_killed_in_its_transfers_leaves_what_the_next_resumes(
    tmp_path: Path, shared_folder: Path
) -> None:
    release = FileRelease(tmp_path / "release", size=2_000_000).write()
    release.write_list()
    staging = tmp_path / "staging"
    with FaultyServer(release.root, seconds_a_piece=0.05).running() as server:
        tree = ReleaseTree(server.url, "dr9", "south", QUICK)
        argument = pickle.dumps((tree, str(staging), NAME, str(shared_folder))).hex()
        victim = subprocess.Popen([sys.executable, "-c", FETCH, argument])
        while sum(part.stat().st_size for part in staging.rglob("*.part")) < 1_000_000:
            time.sleep(0.02)
        victim.kill()
        victim.wait()
        server.seconds_a_piece = 0.0
        report = tree.fetch(NAME, BANDS, staging)
        asked = len(server.asked(".fits.fz")) + len(server.asked("tractor-1238p245.fits"))
    assert release.staged(staging) == release.data()
    assert report.resumed_bytes >= 1_000_000
    assert report.resumed_bytes + report.present_bytes + report.bytes == sum(
        map(len, release.content.values())
    )
    assert asked == 14 + QUICK.connections  # only what was under way is asked for twice


def test_the_pace_of_requests(tmp_path: Path) -> None:
    release = FileRelease(tmp_path / "release").write()
    with FaultyServer(release.root).running() as server:
        config = replace(QUICK, requests_per_second=40.0, connections=8)
        manners = Manners(server.url, config)
        manners.postpone(0.0)
        for _ in range(40):  # the burst of a second is used up
            manners._requests.reserve(1.0)
        started = time.monotonic()
        ReleaseTree(server.url, "dr9", "south", config).describe(NAME, BANDS)
        seconds = time.monotonic() - started
        assert len(server.requests) == 17
        assert seconds >= 0.9 * 16 / 40


def test_the_pace_of_bytes(tmp_path: Path) -> None:
    release = FileRelease(tmp_path / "release", size=20_000).write()
    total = sum(map(len, release.content.values()))
    with FaultyServer(release.root).running() as server:
        config = replace(QUICK, bytes_per_second=total / 1.5)  # a second of it is the burst
        started = time.monotonic()
        ReleaseTree(server.url, "dr9", "south", config).fetch(NAME, BANDS, tmp_path / "staging")
        assert time.monotonic() - started > 0.35


def test_a_pace_is_a_rate_with_a_burst(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", per_second=10.0)
    waits = [pace.reserve(1.0) for _ in range(20)]
    assert waits[:10] == [0.0] * 10
    assert 0.4 < waits[-1] <= 0.9


def test_a_pace_of_another_time_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "pace").write_text(repr(time.time() + 1e6))
    assert Pace(tmp_path / "pace", per_second=10.0).reserve(1.0) == 0.0
    (tmp_path / "pace").write_text("rubbish")
    assert Pace(tmp_path / "pace", per_second=10.0).reserve(1.0) == 0.0


def test_a_slot_is_waited_for() -> None:
    config = replace(QUICK, connections=1)
    first, second = (Manners("https://survey.invalid/dr9", config) for _ in range(2))
    order = []

    def take() -> None:
        with second.turn():
            order.append("second")

    with first.turn():
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.15)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_servers_have_their_own_slots() -> None:
    config = replace(QUICK, connections=1)
    with Manners("https://one.invalid/a", config).turn(), Manners("s3://two/a", config).turn():
        pass


def test_a_folder_of_another_user_is_refused(
    shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = os.getuid() + 1
    (shared_folder / f"brickyard-fetch-{user}").mkdir()
    monkeypatch.setattr("storage.fetch.manners.os.getuid", lambda: user)
    with pytest.raises(StorageError, match="belongs to another user"):
        Manners("https://survey.invalid", QUICK)


@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"requests_per_second": 0.0},
        {"bytes_per_second": 0.0},
        {"bytes_per_second": -1.0},
        {"attempts": 0},
        {"timeout_seconds": -1.0},
        {"first_wait_seconds": 2.0, "longest_wait_seconds": 1.0},
    ],
)
def test_limits_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(StorageError, match=next(iter(options))):
        FetchConfig(**options)


def test_storage_options_travel_and_are_not_shown() -> None:
    config = FetchConfig(storage_options={"secret": "keep", "anon": False})
    assert config == FetchConfig(storage_options=(("anon", False), ("secret", "keep")))
    assert pickle.loads(pickle.dumps(config)).options() == {"secret": "keep", "anon": False}
    assert "keep" not in repr(config)
