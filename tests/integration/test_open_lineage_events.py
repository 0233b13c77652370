"""A real flow run tells what it read and made, through the hooks of Prefect."""

import json

import pytest
from prefect import flow

from tasks.open_lineage import HOOKS
from tasks.references import CatalogueRef, ModelRef, SnapshotRef

MODEL = ModelRef(downstream="morphology", version="1", run_id="r", digest="d" * 64)
SNAPSHOT = SnapshotRef(store="s3://bucket/store", survey="dr10/south", snapshot_id="S")


@flow(name="publish-catalogue", **HOOKS)
def publish(model: ModelRef, fail: bool = False) -> CatalogueRef:
    if fail:
        raise ValueError("no room")
    return CatalogueRef(path="/c", digest="c" * 64, rows=3, model=model, snapshot=SNAPSHOT)


@pytest.fixture
def told(tmp_path, monkeypatch, prefect_server):
    path = tmp_path / "lineage.jsonl"
    monkeypatch.setenv("BRICKYARD_OPENLINEAGE_URL", path.as_uri())
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_tells_its_start_and_what_it_made(told):
    publish(MODEL)
    start, end = told()
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert [entry["name"] for entry in start["inputs"]] == ["model/morphology"]
    assert [entry["name"] for entry in end["outputs"]] == ["/c"]


def test_a_run_that_fails_tells_why(told):
    with pytest.raises(ValueError, match="no room"):
        publish(MODEL, fail=True)
    assert [event["eventType"] for event in told()] == ["START", "FAIL"]
    assert "no room" in told()[-1]["run"]["facets"]["errorMessage"]["message"]
