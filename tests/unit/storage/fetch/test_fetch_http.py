"""Transfers from a real HTTP server that misbehaves."""

import errno
import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_http import Fault, FaultyServer
from fetch_release import BANDS, NAME, QUICK, FileRelease, path_of

from storage.fetch import FetchConfig, FetchFailed, FetchRefused, ReleaseTree, StagingFull

IMAGE = path_of("image", "g")
IMPATIENT = replace(QUICK, timeout_seconds=0.6)


def tree(server: FaultyServer, config: FetchConfig = QUICK) -> ReleaseTree:
    return ReleaseTree(server.url, "dr9", "south", config)


def only_image(server: FaultyServer, staging: Path, config: FetchConfig = QUICK) -> Path:
    return tree(server, config).fetch_file(IMAGE, staging)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_fault_of_a_moment_is_tried_again(
    release: FileRelease, server: FaultyServer, staging: Path, status: int
) -> None:
    server.script("image-g.fits.fz", Fault(status=status), Fault(status=status))
    report = tree(server).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert report.retries == 2
    assert server.statuses()[status] == 2


def test_a_head_that_fails_for_a_moment_is_no_absent_file(
    release: FileRelease, server: FaultyServer
) -> None:
    server.script("image-g.fits.fz", Fault(status=500, methods=("HEAD",)))
    described = tree(server).describe(NAME, BANDS)
    assert {file.path for file in described.files} == set(release.content)


def test_a_server_that_stays_broken_is_given_up(server: FaultyServer, staging: Path) -> None:
    server.script("image-g.fits.fz", *[Fault(status=500)] * 9)
    with pytest.raises(FetchFailed, match=r"image-g.*status 500; gave up after 4 tries"):
        only_image(server, staging)
    assert len(server.asked("image-g.fits.fz")) == QUICK.attempts


def test_retry_after_is_honoured_by_every_request(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_list()
    server.script("brick-1238p245.sha256sum", Fault(status=429, retry_after="1"))
    tree(server, replace(QUICK, connections=1)).fetch(NAME, BANDS, staging)
    refused, first = server.asked("brick-1238p245.sha256sum")
    assert first.moment - refused.moment >= 1.0
    after = sorted(r.moment for r in server.requests if r.moment > refused.moment)
    assert after[0] - refused.moment >= 1.0


@pytest.mark.parametrize(("status", "advice"), [(403, "credentials"), (401, "credentials")])
def test_a_refusal_is_not_tried_again(
    server: FaultyServer, staging: Path, status: int, advice: str
) -> None:
    server.script("image-g.fits.fz", Fault(status=status))
    with pytest.raises(FetchRefused, match=rf"image-g.*status {status}.*{advice}"):
        only_image(server, staging)
    assert len(server.asked("image-g.fits.fz")) == 1


@pytest.mark.parametrize(
    "fault", [Fault(cut_after=25_000, cut_pause=0.4), Fault(stall_after=25_000)]
)
def test_a_broken_transfer_is_resumed(
    release: FileRelease, server: FaultyServer, staging: Path, fault: Fault
) -> None:
    server.script("image-g.fits.fz", fault)
    report = tree(server, IMPATIENT).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    _, second = server.asked("image-g.fits.fz")
    assert (second.range, second.status) == ("bytes=25000-", 206)
    assert report.bytes == sum(map(len, release.content.values()))  # no byte came twice


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_silence_ends_by_a_timeout(
    release: FileRelease, server: FaultyServer, staging: Path, method: str
) -> None:
    server.script("image-g.fits.fz", Fault(silent=True, methods=(method,)))
    remote = tree(server, IMPATIENT)
    assert len(remote.describe(NAME, BANDS).files) == len(release.content)
    remote.fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert not server.faults["image-g.fits.fz"]


def test_many_cuts_with_progress_are_not_given_up(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    server.script("image-g.fits.fz", *[Fault(cut_after=3000)] * 6)  # more than `attempts`
    assert only_image(server, staging).read_bytes() == release.content[IMAGE]


def test_a_killed_transfer_is_resumed_by_the_next_run(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    server.script("image-g.fits.fz", Fault(cut_after=30_000), Fault(status=500))
    with pytest.raises(FetchFailed, match="what has arrived is kept"):
        only_image(server, staging, replace(QUICK, attempts=1))
    assert not (staging / IMAGE).exists()
    report = tree(server).fetch(NAME, BANDS, staging)
    assert report.resumed_bytes == 30_000
    assert release.staged(staging) == release.data()


def test_a_part_that_is_whole_already_is_taken(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    whole = only_image(server, staging)
    part = next((staging / ".transfer").glob("*image-g*.json")).with_suffix(".part")
    shutil.move(whole, part)  # as if killed between the last byte and the rename
    report = tree(server).fetch(NAME, BANDS, staging)
    assert len(server.asked("image-g.fits.fz")) == 1
    assert report.resumed_bytes == len(release.content[IMAGE])
    assert release.staged(staging) == release.data()


@pytest.mark.parametrize("validators", [True, False])
def test_a_part_of_another_content_is_not_continued(
    release: FileRelease, server: FaultyServer, staging: Path, validators: bool
) -> None:
    server.validators = validators
    server.script("image-g.fits.fz", Fault(cut_after=30_000), Fault(status=500))
    with pytest.raises(FetchFailed):
        only_image(server, staging, replace(QUICK, attempts=1))
    release.put(IMAGE, bytes(range(250)) * 160)
    assert only_image(server, staging).read_bytes() == release.content[IMAGE]


def test_a_server_without_ranges_starts_again(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    server.ranges = False
    server.script("image-g.fits.fz", Fault(cut_after=30_000))
    assert only_image(server, staging).read_bytes() == release.content[IMAGE]
    assert [request.status for request in server.asked("image-g.fits.fz")] == [200, 200]


def test_cuts_without_ranges_are_no_progress(server: FaultyServer, staging: Path) -> None:
    server.ranges = False
    server.script("image-g.fits.fz", *[Fault(cut_after=30_000)] * 20)
    with pytest.raises(FetchFailed):
        only_image(server, staging)
    assert len(server.asked("image-g.fits.fz")) == QUICK.attempts + 1  # the first one was a gain


def test_a_full_disk_is_said_before_the_transfer(
    server: FaultyServer, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.fetch.staging.Staging.free_bytes", lambda self: 100)
    with pytest.raises(StagingFull, match=r"bytes needed, 100 free.*make room"):
        only_image(server, staging)


def test_a_disk_that_fills_keeps_what_came(
    release: FileRelease, server: FaultyServer, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, block: memoryview) -> int:
        if os.fstat(handle).st_size >= 30_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, block[:10_000])

    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr("storage.fetch.transfer.os.write", full)
        with pytest.raises(StagingFull, match="What has arrived is kept"):
            only_image(server, staging)
    assert only_image(server, staging).read_bytes() == release.content[IMAGE]
    assert server.asked("image-g.fits.fz")[-1].range == "bytes=30000-"


def test_gzipped_files_arrive_as_they_are(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    content = gzip.compress(b"a table" * 1000, mtime=0)
    release.put("survey-bricks.fits.gz", content)
    server.content_encoding = True
    assert tree(server).fetch_file("survey-bricks.fits.gz", staging).read_bytes() == content


def test_a_file_of_no_bytes(release: FileRelease, server: FaultyServer, staging: Path) -> None:
    release.put("empty", b"")
    assert tree(server).fetch_file("empty", staging).read_bytes() == b""


def test_a_server_that_answers_get_alone(release: FileRelease, server: FaultyServer) -> None:
    server.script("image-g.fits.fz", Fault(status=405, methods=("HEAD",)))
    described = tree(server).describe(NAME, BANDS)
    file = next(file for file in described.files if file.path == IMAGE)
    assert file.size == len(release.content[IMAGE])


def test_nobody_listens(staging: Path, unused_port: int) -> None:
    nobody = ReleaseTree(f"http://127.0.0.1:{unused_port}", "dr9", "south", QUICK)
    with pytest.raises(FetchFailed, match="gave up after 4 tries"):
        nobody.fetch(NAME, BANDS, staging)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
