"""Where repositories are: folders and S3 URLs, without a server."""

from pathlib import Path

import icechunk
import pytest

from storage.errors import RepositoryBusy, StorageError
from storage.object_storage import is_object_storage, lock_folder, object_storage
from storage.repository import repository_place, writer_lock


def test_a_repository_lies_below_its_store():
    assert repository_place("/data/store", "survey") == "/data/store/survey"
    assert repository_place(Path("/data/store"), "survey") == "/data/store/survey"
    assert repository_place("s3://bucket/prefix/", "survey") == "s3://bucket/prefix/survey"


def test_only_s3_urls_are_object_storage():
    assert is_object_storage("s3://bucket/prefix")
    assert not is_object_storage("/data/s3/store")
    assert not is_object_storage(Path("s3store"))


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3:///prefix"])
def test_a_place_needs_bucket_and_prefix(url):
    with pytest.raises(StorageError, match="s3://<bucket>/<prefix>"):
        object_storage(url)


def test_the_endpoint_is_that_of_the_environment(monkeypatch):
    seen = {}
    monkeypatch.setattr(icechunk, "s3_storage", lambda **options: seen.update(options))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_REGION", "eu-south-2")
    object_storage("s3://bucket/a/survey")
    assert (seen["bucket"], seen["prefix"]) == ("bucket", "a/survey")
    assert (seen["region"], seen["endpoint_url"]) == ("eu-south-2", "http://127.0.0.1:9000")
    assert seen["allow_http"]
    assert seen["force_path_style"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    object_storage("s3://bucket/a/survey")
    assert not seen["allow_http"]
    assert not seen["force_path_style"]


def test_one_host_has_one_lock_for_a_url(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    url = "s3://bucket/a/survey"
    assert lock_folder(url) != lock_folder("s3://bucket/a/embeddings")
    with writer_lock(url, what="ingest"):
        with (
            pytest.raises(RepositoryBusy, match="s3://bucket/a/survey"),
            writer_lock(url, what="x"),
        ):
            pass
        with writer_lock("s3://bucket/a/embeddings", what="embed"):
            pass
