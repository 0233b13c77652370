"""Releases in a local folder and in S3-compatible storage (moto's server, through s3fs)."""

import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetch_release import BANDS, LAYOUT, NAME, QUICK, FileRelease, path_of

from storage.errors import BrickNotFound, ChecksumMismatch, StorageError
from storage.fetch import FetchConfig, FetchFailed, FetchRefused, ReleaseTree
from storage.fetch.object_remote import ObjectRemote
from storage.legacysurvey import locate_brick_files

BUCKET = "survey"


@pytest.fixture
def release(tmp_path: Path) -> FileRelease:
    """Return a release whose brick has a checksum list."""
    release = FileRelease(tmp_path / "release").write()
    release.write_list()
    return release


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_config(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> FetchConfig:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = {"endpoint_url": endpoint, "key": "test", "secret": "test"}
    return replace(QUICK, timeout_seconds=5.0, storage_options=options)


@pytest.fixture
def bucket(release: FileRelease, s3_config: FetchConfig) -> ReleaseTree:
    import s3fs

    files = s3fs.S3FileSystem(**s3_config.options())
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    for path, content in release.content.items():
        files.pipe(f"{BUCKET}/dr9/{path}", content)
    return ReleaseTree(f"s3://{BUCKET}/dr9", "dr9", "south", s3_config)


def test_a_brick_from_s3(release: FileRelease, bucket: ReleaseTree, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    report = bucket.fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert report.bytes == sum(map(len, release.content.values()))
    assert bucket.fetch(NAME, BANDS, staging).bytes == 0
    described = bucket.describe(NAME, BANDS)
    assert described.size == report.bytes
    assert bucket.fingerprints([NAME], BANDS) == {NAME: described.fingerprint()}


def test_a_brick_that_s3_has_not(bucket: ReleaseTree, tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound):
        bucket.fetch("0001p000", BANDS, tmp_path)


def test_ranges_are_resumed_from_s3(
    release: FileRelease, bucket: ReleaseTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.fetch.object_remote.RANGE_BYTES", 10_000)
    real, asked = ObjectRemote._ask, []

    def broken(self: ObjectRemote, method: str, path: str, **options: int) -> object:
        if method == "cat_file":
            asked.append(options["start"])
            if len(asked) == 3:
                from storage.fetch.errors import TransientFault

                raise TransientFault("cut")
        return real(self, method, path, **options)

    monkeypatch.setattr(ObjectRemote, "_ask", broken)
    image = bucket.fetch_file(path_of("image", "g"), tmp_path)
    assert image.read_bytes() == release.content[path_of("image", "g")]
    assert asked[:4] == [0, 10_000, 20_000, 20_000]


def test_a_bucket_that_is_not_there(s3_config: FetchConfig, tmp_path: Path) -> None:
    nowhere = ReleaseTree("s3://no-such-bucket/dr9", "dr9", "south", s3_config)
    with pytest.raises(StorageError, match="survey-bricks"):
        nowhere.list_bricks(tmp_path)


def test_s3_without_credentials(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    config = replace(QUICK, storage_options={"endpoint_url": endpoint})
    with pytest.raises(FetchRefused, match="check the"):
        ReleaseTree(f"s3://{BUCKET}/dr9", "dr9", "south", config).fetch_file("x", tmp_path)


def test_s3_that_does_not_answer(tmp_path: Path) -> None:
    config = replace(
        QUICK,
        attempts=1,
        storage_options={
            "endpoint_url": "http://127.0.0.1:9",
            "anon": True,
            "config_kwargs": {"retries": {"max_attempts": 0}},
        },
    )
    with pytest.raises(FetchFailed):
        ReleaseTree("s3://survey/dr9", "dr9", "south", config).fetch_file("x", tmp_path)


def test_s3_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(StorageError, match=r"pip install brickyard\[s3\]"):
        ReleaseTree("s3://survey/dr9", "dr9", "south", QUICK).fetch_file("x", tmp_path)


def test_an_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="https:// or s3://"):
        ReleaseTree("nonsense://survey", "dr9", "south", QUICK).fetch_file("x", tmp_path)


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("ending", ["", "/", "/south", "/south/"])
def test_a_brick_from_a_folder(
    release: FileRelease, tmp_path: Path, scheme: str, ending: str
) -> None:
    staging = tmp_path / "staging"
    tree = ReleaseTree(f"{scheme}{release.root}{ending}", "dr9", "south", QUICK)
    assert tree.is_local
    tree.fetch(NAME, BANDS, staging)
    assert release.staged(staging) == release.data()
    assert locate_brick_files(staging, NAME, BANDS, "south").tractor is not None
    assert not list((tmp_path / "tmp").glob("brickyard-fetch-*"))  # a disk needs no manners


def test_a_wrong_file_in_a_folder(release: FileRelease, tmp_path: Path) -> None:
    (release.root / path_of("tractor")).write_bytes(b"wrong")
    with pytest.raises(ChecksumMismatch, match="tractor"):
        ReleaseTree(str(release.root), "dr9", "south", QUICK).fetch(NAME, BANDS, tmp_path / "s")


def test_bricks_of_a_folder(release: FileRelease, tmp_path: Path) -> None:
    release.write_region_table()
    tree = ReleaseTree(str(release.root), "dr9", "south", QUICK)
    assert tree.list_bricks(tmp_path / "staging") == (NAME,)
    assert (tmp_path / "staging" / LAYOUT.region_bricks_path).is_file()


def test_a_tree_travels_and_refuses_what_no_release_has(tmp_path: Path) -> None:
    tree = ReleaseTree("https://survey.invalid/dr9/south", "dr9", "south")
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert len(pickle.dumps(tree)) < 1000
    assert tree.url == "https://survey.invalid/dr9"
    assert not tree.is_local
    with pytest.raises(StorageError, match="dr9"):
        ReleaseTree("https://survey.invalid/dr10", "dr10", "north")
    with pytest.raises(StorageError, match="no band"):
        tree.fetch(NAME, ("g", "i"), tmp_path)
    with pytest.raises(StorageError, match="no file kind"):
        tree.fetch(NAME, BANDS, tmp_path, kinds=("model",))
