"""A store on S3-compatible object storage: by configuration alone, safe against a second host."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import icechunk
import pytest
from distributed import Client
from moto.server import ThreadedMotoServer
from tiny_bricks import TinyBrick

from flows.embed import embed_survey
from flows.ingest import ingest_bricks
from lvm import EncoderConfig, create_encoder, save_encoder
from lvm.testing import TINY_SHAPE
from storage.arrays import create_group, list_groups
from storage.brick import IngestConfig
from storage.brick_store import read_objects
from storage.bricks import brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from storage.embedding_store import embedding_ledger
from storage.errors import RepositoryBusy, StorageError
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    transaction,
)
from storage.survey_digest import content_digest_of
from tasks.references import EncoderRef
from tasks.settings import load_settings
from tasks.snapshots import list_snapshots, tidy_store
from tasks.staleness import find_stale

SURVEY = "dr10/south"
CONFIG = IngestConfig(cutout=CutoutConfig(size=24, edge="pad"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a place on a server of our own; buckets of one process outlive moto's servers."""
    name = f"survey-{uuid.uuid4().hex[:8]}"
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=name)
    yield f"s3://{name}/brickyard"
    server.stop()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release" / "south"
    first = brick_at(150.0, 2.0).brickid
    for number in range(3):
        TinyBrick(root, brick=brick_from_id(first + number)).write()
    return root


@pytest.fixture
def encoder(tmp_path: Path) -> EncoderRef:
    config = EncoderConfig("tiny-test", ("g", "r", "z"), cutout_size=24, shape=TINY_SHAPE)
    digest = save_encoder(create_encoder(config), tmp_path / "encoder")
    return EncoderRef(digest=digest, path=str(tmp_path / "encoder"))


def test_a_survey_on_object_storage(home, cluster, bucket, release, encoder, monkeypatch):
    local = ingest_bricks(str(release), config=CONFIG)
    here = content_digest_of(_session(load_settings().store_path), SURVEY)
    monkeypatch.setenv("BRICKYARD_STORE", bucket)
    reach = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with Client(cluster, set_as_default=False) as client:  # its workers started before the server
        client.run(os.environ.update, reach)

    receipt = ingest_bricks(str(release), config=CONFIG)
    assert receipt.counts == local.counts
    assert content_digest_of(_session(bucket), SURVEY) == here
    assert len(read_objects(_session(bucket), SURVEY)) == receipt.objects == 9

    again = ingest_bricks(str(release), config=CONFIG)
    assert again.counts["already_present"] == 3
    assert [tag.name for tag in list_snapshots(load_settings(), SURVEY)] == [receipt.tag]

    _, embedded = embed_survey(SURVEY, encoder)
    assert embedded.objects == 9
    table = embedding_ledger(_session(bucket, EMBEDDING_REPOSITORY), encoder.digest, SURVEY)
    assert len(table) == 3
    assert all(item.stale == 0 for item in find_stale(load_settings(), SURVEY))
    assert set(tidy_store(load_settings())) == {SURVEY_REPOSITORY, EMBEDDING_REPOSITORY}
    assert content_digest_of(_session(bucket), SURVEY) == here


def _session(store: str, name: str = SURVEY_REPOSITORY):
    return read_session(open_repository(repository_place(store, name)))


def _commit_twice(first: icechunk.Repository, second: icechunk.Repository) -> None:
    with transaction(first, "first to start") as session:
        create_group(session, "slow", {})
        with transaction(second, "first to end") as other:
            create_group(other, "fast", {})


def test_of_two_hosts_that_commit_at_once_the_second_is_refused(bucket):
    place = repository_place(bucket, SURVEY_REPOSITORY)
    assert not repository_exists(place)
    repository, elsewhere = open_repository(place, create=True), open_repository(place)
    with pytest.raises(RepositoryBusy, match="another host committed"):
        _commit_twice(repository, elsewhere)
    assert list_groups(read_session(open_repository(place))) == ["fast"]


def test_a_bucket_alone_is_no_place(bucket):
    with pytest.raises(StorageError, match="s3://<bucket>/<prefix>"):
        open_repository("s3://survey-data", create=True)
