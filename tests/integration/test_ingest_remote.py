"""A release on a web server or on object storage gives the same store as one on a disk."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from distributed import LocalCluster
from faulty_http import Fault, FaultyServer
from moto.server import ThreadedMotoServer
from tiny_bricks import TinyBrick

from flows.ingest import ingest_bricks
from flows.parameters import FetchConfig, IngestRun
from storage.brick_store import ledger, read_objects
from storage.bricks import brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from storage.errors import StorageError
from storage.ingest_config import IngestConfig
from storage.legacysurvey import region_bricks_path
from storage.repository import open_repository, read_session
from storage.schema import BrickState
from storage.survey_digest import content_digest_of
from tasks.references import Outcome, Receipt
from tasks.settings import load_settings

SURVEY = "dr10/south"
CONFIG = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))
EAGER = FetchConfig(
    requests_per_second=500.0, first_wait_seconds=0.02, longest_wait_seconds=0.1, timeout_seconds=1
)
BRICKS = [brick_from_id(brick_at(150.0, 2.0).brickid + number) for number in range(3)]
NAMES = [brick.brickname for brick in BRICKS]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a release of three bricks, with checksum lists and the region's table."""
    root = tmp_path_factory.mktemp("release")
    for brick in BRICKS:
        writer = TinyBrick(root / "south", brick=brick).write()
        writer.write_checksums()
    table = Table({"brickname": NAMES, "brickid": [brick.brickid for brick in BRICKS]})
    table.write(region_bricks_path(root, "dr10", "south"), format="fits")
    return root


@pytest.fixture
def server(release: Path):
    with FaultyServer(release).running() as server:
        yield server


def ingest(source: str, fetch: FetchConfig = EAGER, **kwargs) -> Receipt:
    run = IngestRun(bricks_per_commit=2, fetch=fetch)
    return ingest_bricks(source, config=CONFIG, run=run, **kwargs)


def store():
    return read_session(open_repository(Path(load_settings().store_path) / "survey"))


@pytest.fixture(scope="module")
def local_content(release: Path, cluster: LocalCluster, tmp_path_factory) -> str:
    """Return the digest of the content that the same release on a disk gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRICKYARD_HOME", str(tmp_path_factory.mktemp("local")))
        patch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
        ingest(str(release))
        return content_digest_of(store(), SURVEY)


def staged_files() -> list[Path]:
    return [
        path for path in load_settings().staging_path.rglob("*.fits*") if path.suffix != ".json"
    ]


def test_a_web_server_gives_the_same_content_and_nothing_stays_staged(server, home, local_content):
    receipt = ingest(server.url)
    assert receipt.counts["written"] == 3
    assert {unit.verification for unit in receipt.units} == {"verified"}
    assert content_digest_of(store(), SURVEY) == local_content
    assert [path.name for path in staged_files()] == ["survey-bricks-dr10-south.fits.gz"]


def test_a_second_run_asks_for_lists_only(server, home):
    ingest(server.url)
    before = len(server.requests)
    receipt = ingest(server.url)
    assert receipt.counts["already_present"] == 3
    asked = [request.path for request in server.requests[before:]]
    assert asked
    assert not [path for path in asked if path.endswith((".fits.fz", ".fits"))]


def test_errors_and_stalls_of_the_server_cost_only_time(server, home, local_content):
    server.script(f"{NAMES[0]}-image-g.fits.fz", Fault(status=500), Fault(status=503))
    server.script(f"{NAMES[1]}-image-r.fits.fz", Fault(cut_after=2000))
    server.script(f"tractor-{NAMES[2]}.fits", Fault(stall_after=100, stall_seconds=3.0))
    receipt = ingest(server.url)
    assert receipt.counts["written"] == 3
    assert server.statuses()[500] == server.statuses()[503] == 1
    assert content_digest_of(store(), SURVEY) == local_content


def test_a_brick_that_the_server_never_gives_fails_alone_and_comes_later(
    server, home, local_content
):
    server.script(f"{NAMES[0]}-image-g.fits.fz", *[Fault(status=500)] * 50)
    receipt = ingest(server.url)
    units = {unit.name: unit for unit in receipt.units}
    assert units[NAMES[0]].outcome is Outcome.FAILED
    assert "FetchFailed" in units[NAMES[0]].message
    assert receipt.counts["written"] == 2
    server.faults.clear()
    assert ingest(server.url).counts["written"] == 1
    assert content_digest_of(store(), SURVEY) == local_content


def test_wrong_bytes_are_set_aside_with_a_note_and_mended_by_the_next_run(
    server, home, local_content
):
    server.script(f"{NAMES[1]}-image-z.fits.fz", *[Fault(wrong=True)] * 2)
    receipt = ingest(server.url)
    units = {unit.name: unit for unit in receipt.units}
    assert units[NAMES[1]].outcome is Outcome.QUARANTINED
    assert ledger(store(), SURVEY).at[NAMES[1], "state"] == int(BrickState.QUARANTINED)
    (note,) = load_settings().staging_path.rglob("note.json")
    assert NAMES[1] in note.read_text()
    assert (note.parent / f"legacysurvey-{NAMES[1]}-image-z.fits.fz").is_file()
    assert ingest(server.url).counts["written"] == 1
    assert content_digest_of(store(), SURVEY) == local_content


def test_a_brick_replaced_on_the_server_is_the_only_one_fetched_again(tmp_path, home):
    root = tmp_path / "changing"
    for brick in BRICKS[:2]:
        TinyBrick(root / "south", brick=brick).write().write_checksums()
    with FaultyServer(root).running() as server:
        ingest(server.url, bricks=NAMES[:2])
        before = len(server.requests)
        changed = TinyBrick(root / "south", brick=BRICKS[1], fluxes=(90.0, 40.0, 30.0)).write()
        changed.write_checksums()
        receipt = ingest(server.url, bricks=NAMES[:2])
        units = {unit.name: unit.outcome for unit in receipt.units}
        assert units == {NAMES[0]: Outcome.ALREADY_PRESENT, NAMES[1]: Outcome.WRITTEN}
        fetched = [request.path for request in server.requests[before:] if ".fits" in request.path]
        assert fetched
        assert all(NAMES[1] in path for path in fetched)
    objects = read_objects(store(), SURVEY, bricknames=[NAMES[1]])
    assert np.isclose(objects["flux_g"].max(), 90.0)


def test_object_storage_gives_the_same_content(release, home, local_content, monkeypatch):
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    moto = ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="survey")
        for path in release.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "survey", f"dr10/{path.relative_to(release)}")
        options = {"endpoint_url": endpoint, "key": "testing", "secret": "testing"}
        fetch = FetchConfig(requests_per_second=500.0, storage_options=options)
        receipt = ingest("s3://survey/dr10", fetch)
    finally:
        moto.stop()
    assert receipt.counts["written"] == 3
    assert content_digest_of(store(), SURVEY) == local_content


def test_an_address_of_a_release_without_layout_is_refused(home):
    with pytest.raises(StorageError, match="dr9"):
        ingest("http://127.0.0.1:9", release="dr10", region="north")
