"""Bricks of a release on a web server: what they have, staging, verification, setting aside."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_http import Fault, FaultyServer
from fetch_release import BANDS, LAYOUT, NAME, QUICK, FileRelease, path_of

from storage.errors import BrickNotFound, ChecksumMismatch, CorruptFile, StorageError
from storage.fetch import FetchConfig, ReleaseTree
from storage.legacysurvey import locate_brick_files

IMAGE = path_of("image", "g")


def tree(server: FaultyServer, config: FetchConfig = QUICK) -> ReleaseTree:
    return ReleaseTree(server.url, "dr9", "south", config)


def test_a_brick_is_staged_in_the_canonical_layout(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_list()
    report = tree(server).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert report.bytes == sum(len(content) for content in release.content.values())
    assert (report.retries, report.resumed_bytes) == (0, 0)
    assert set(report.absent) == set(LAYOUT.checksum_paths(NAME)[1:])
    files = locate_brick_files(staging, NAME, BANDS, "south")
    assert set(report.files) >= set(files.data_files())
    assert list(files.nexp) == list(files.psfsize) == list(BANDS)
    assert len(files.checksum_lists) == 1


def test_the_catalogue_alone(release: FileRelease, server: FaultyServer, staging: Path) -> None:
    tree(server).fetch(NAME, BANDS, staging, kinds=("tractor",))
    assert list(release.staged(staging)) == [path_of("tractor")]


def test_a_second_fetch_moves_no_bytes(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    tree(server).fetch(NAME, BANDS, staging)
    again = tree(server).fetch(NAME, BANDS, staging)
    assert (again.bytes, again.present_bytes) == (0, sum(map(len, release.content.values())))
    assert len(server.asked("image-g.fits.fz")) == 1


def test_a_listed_file_is_not_even_asked_about_again(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_list()
    tree(server).fetch(NAME, BANDS, staging)
    assert tree(server).fetch(NAME, BANDS, staging).bytes == 0
    assert not server.asked(".fits.fz", "HEAD")


@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_changed_is_fetched_again(
    release: FileRelease, server: FaultyServer, staging: Path, listed: bool
) -> None:
    if listed:
        release.write_list()
    tree(server).fetch(NAME, BANDS, staging)
    release.put(IMAGE, bytes(40_000))
    if listed:
        release.write_list()
    report = tree(server).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    changed = [len(release.content[IMAGE])]
    changed += [len(release.content[LAYOUT.checksum_paths(NAME)[0]])] if listed else []
    assert report.bytes == sum(changed)


def test_absent_is_not_tried_again_and_not_an_error(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    (release.root / path_of("image", "r")).unlink()
    (release.root / path_of("maskbits")).unlink()
    report = tree(server).fetch(NAME, BANDS, staging)
    assert {path_of("image", "r"), path_of("maskbits")} < set(report.absent)
    assert len(server.asked("image-r.fits.fz")) == 1
    assert list(locate_brick_files(staging, NAME, BANDS, "south").image) == ["g", "z"]


def test_a_brick_that_is_not_there(server: FaultyServer, staging: Path) -> None:
    with pytest.raises(BrickNotFound, match=r"no coadd and no catalogue of brick 0001p000"):
        tree(server).fetch("0001p000", BANDS, staging)
    with pytest.raises(BrickNotFound, match="no brick name"):
        tree(server).fetch("../secret", BANDS, staging)


def test_a_damaged_transfer_is_fetched_once_more(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_list()
    server.script("image-g.fits.fz", Fault(wrong=True))
    report = tree(server).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert report.retries == 1
    assert len(set(report.files)) == len(report.files)
    assert not list((staging / ".transfer").glob("*.wrong"))


@pytest.mark.parametrize("packed", [True, False])
def test_a_wrong_file_is_refused_and_can_be_set_aside(
    release: FileRelease, server: FaultyServer, staging: Path, packed: bool
) -> None:
    if packed:
        release.write_packed_lists()
    else:
        release.write_list()
    wrong = bytes(1000)
    (release.root / IMAGE).write_bytes(wrong)
    with pytest.raises(ChecksumMismatch, match="image-g"):
        tree(server).fetch(NAME, BANDS, staging)
    assert len(server.asked("image-g.fits.fz")) == 2
    assert not (staging / IMAGE).exists()  # never under its name
    aside = tree(server).quarantine(staging, NAME, "image-g is wrong")
    assert (aside / Path(IMAGE).name).read_bytes() == wrong
    assert '"reason": "image-g is wrong"' in (aside / "note.json").read_text()
    assert not (staging / IMAGE).parent.exists()
    with pytest.raises(BrickNotFound):
        locate_brick_files(staging, NAME, BANDS, "south")


def test_a_wrong_file_is_taken_where_verification_is_off(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_list()
    (release.root / IMAGE).write_bytes(b"wrong")
    tree(server, replace(QUICK, verify=False)).fetch(NAME, BANDS, staging)
    assert (staging / IMAGE).read_bytes() == b"wrong"


def test_a_list_that_is_no_list(release: FileRelease, server: FaultyServer, staging: Path) -> None:
    release.put(LAYOUT.checksum_paths(NAME)[0], b"<html>maintenance</html>")
    with pytest.raises(CorruptFile, match="fetch the list again"):
        tree(server).fetch(NAME, BANDS, staging)
    release.write_list()
    tree(server).fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()


def test_describe_says_sizes_and_what_is_absent(release: FileRelease, server: FaultyServer) -> None:
    (release.root / path_of("nexp", "z")).unlink()
    del release.content[path_of("nexp", "z")]
    release.write_list()
    described = tree(server).describe(NAME, BANDS)
    assert {file.path: file.size for file in described.files} == {
        path: len(content) for path, content in release.content.items()
    }
    assert described.size == sum(map(len, release.content.values()))
    assert path_of("nexp", "z") in described.absent
    image = hashlib.sha256(release.content[IMAGE]).hexdigest()
    assert described.listed[Path(IMAGE).name] == image


@pytest.mark.parametrize("lists", ["pipeline", "packed", "none"])
def test_fingerprints(release: FileRelease, server: FaultyServer, lists: str) -> None:
    def write_lists() -> None:
        if lists == "pipeline":
            release.write_list()
        elif lists == "packed":
            release.write_packed_lists()

    write_lists()
    remote = tree(server)
    first = remote.fingerprint(remote.describe(NAME, BANDS))
    assert remote.fingerprints([NAME, "0001p000"], BANDS) == {NAME: first}
    release.put(IMAGE, bytes(39_000))
    write_lists()
    second = remote.fingerprints([NAME], BANDS)[NAME]
    assert second == remote.fingerprint(remote.describe(NAME, BANDS)) != first


def test_a_fingerprint_costs_one_request_where_the_pipeline_has_a_list(
    release: FileRelease, server: FaultyServer
) -> None:
    release.write_list()
    tree(server).fingerprints([NAME], BANDS)
    assert len(server.requests) == 1


def test_bricks_are_listed_from_the_table(release: FileRelease, server: FaultyServer) -> None:
    release.write_region_table()
    assert tree(server).list_bricks() == (NAME,)


def test_a_table_that_is_not_there(server: FaultyServer) -> None:
    with pytest.raises(StorageError, match=r"survey-bricks-dr9-south.*check the source's address"):
        tree(server).list_bricks()


def test_discard_leaves_other_bricks(
    release: FileRelease, server: FaultyServer, staging: Path
) -> None:
    release.write_packed_lists()
    tree(server).fetch(NAME, BANDS, staging)
    tree(server).discard(staging, NAME)
    shared = LAYOUT.checksum_paths(NAME)[2]
    assert list(release.staged(staging)) == [shared]
    assert not (staging / IMAGE).parent.exists()
    left = {path.suffix for path in (staging / ".transfer").iterdir()}
    assert left <= {".lock", ".json"}
    tree(server).discard(staging, NAME)  # nothing to do
    assert tree(server).fetch(NAME, BANDS, staging).bytes > 0
