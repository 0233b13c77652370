import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.results import ResultRecord, ResultRecordMetadata

from tasks import open_lineage
from tasks.open_lineage import RUN_EVENT, OpenLineageSettings, run_event, send, tell_run
from tasks.references import (
    CatalogueRef,
    EmbeddingsRef,
    EncoderRef,
    ModelRef,
    Receipt,
    SnapshotRef,
)

SNAPSHOT = SnapshotRef(store="s3://bucket/store", survey="dr10/south", snapshot_id="SNAP")
MODEL = ModelRef(downstream="morphology", version="3", run_id="r", digest="d" * 64)
ENCODER = EncoderRef(path="/e", digest="e" * 64)


@pytest.fixture(autouse=True)
def store(monkeypatch):
    monkeypatch.setenv("BRICKYARD_STORE", "s3://bucket/store")


@pytest.fixture
def receiver():
    """Run a server that keeps what it is sent, with its path; `status` is what it answers."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        status = 201

        def do_POST(self):
            length = int(self.headers["content-length"])
            received.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(Handler.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(
        url=f"http://127.0.0.1:{server.server_port}", received=received, handler=Handler
    )
    server.shutdown()
    thread.join()
    server.server_close()


def state(kind, result=None, message=None):
    data = None
    if result is not None:
        metadata = ResultRecordMetadata.model_construct()
        data = ResultRecord.model_construct(metadata=metadata, result=result)
    return SimpleNamespace(type=SimpleNamespace(value=kind), data=data, message=message)


def run_of(parameters, count=1):
    return SimpleNamespace(id=uuid4(), parameters=parameters, run_count=count)


FLOW = SimpleNamespace(name="embed-survey")


def event(kind, parameters=(), result=None, **options):
    run = run_of(dict(parameters), options.pop("count", 1))
    return run_event(OpenLineageSettings(), FLOW, run, state(kind, result, **options))


def names(entries):
    return {entry["name"]: entry for entry in entries}


def check(document):
    """Check what the specification 2-0-2 requires of a run event and its facets."""
    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= set(document)
    assert document["schemaURL"] == RUN_EVENT
    assert document["eventType"] in {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
    UUID(document["run"]["runId"])
    assert {"namespace", "name"} <= set(document["job"])
    groups = [document["run"]["facets"], document["job"]["facets"]]
    for entry in (*document["inputs"], *document["outputs"]):
        assert entry["namespace"]
        assert entry["name"]
        groups += [entry.get("facets", {}), entry.get("outputFacets", {})]
    for facet in (facet for group in groups for facet in group.values()):
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")
        assert facet["_producer"].startswith("urn:brickyard:")
    json.dumps(document)


def test_an_embedding_reads_a_survey_and_an_encoder_and_makes_embeddings():
    embeddings = EmbeddingsRef(
        store=SNAPSHOT.store,
        survey=SNAPSHOT.survey,
        encoder_digest=ENCODER.digest,
        snapshot_id="E",
        survey_snapshot_id="SNAP",
    )
    receipt = Receipt(survey="dr10/south", snapshot_id="SNAP", counts={"written": 2}, objects=9)
    parameters = {"survey": "dr10/south", "encoder": ENCODER.model_dump(mode="json")}
    found = event("COMPLETED", parameters, (embeddings, receipt))
    check(found)
    assert found["eventType"] == "COMPLETE"
    made = names(found["outputs"])
    assert set(made) == {"embeddings/eeeeeeeeeeeeeeee/dr10/south", "survey/dr10/south"}
    assert set(names(found["inputs"])) == {"encoder/eeeeeeeeeeeeeeee"}
    [embedded] = [entry for name, entry in made.items() if name.startswith("embeddings")]
    assert embedded["namespace"] == "s3://bucket/store"
    assert embedded["facets"]["version"]["datasetVersion"] == "E"


def test_a_catalogue_says_its_rows_model_and_snapshot():
    catalogue = CatalogueRef(path="/c", digest="c" * 64, rows=7, model=MODEL, snapshot=SNAPSHOT)
    parameters = {"downstream": "morphology", "survey": "dr10/south", "snapshot_id": None}
    found = event("COMPLETED", parameters, catalogue)
    check(found)
    [made] = found["outputs"]
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 7
    read = names(found["inputs"])
    assert set(read) == {"survey/dr10/south", "model/morphology"}
    assert read["survey/dr10/south"]["facets"]["version"]["datasetVersion"] == "SNAP"


def test_an_ingest_names_its_source_and_counts_its_objects(tmp_path):
    receipt = Receipt(survey="dr10/south", snapshot_id="S", counts={}, objects=12)
    parameters = {"source": str(tmp_path), "release": "dr10", "region": "south"}
    found = event("COMPLETED", parameters, receipt)
    check(found)
    [source] = found["inputs"]
    assert (source["namespace"], source["name"]) == (tmp_path.as_uri(), "dr10/south")
    assert found["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 12


def test_starts_retries_failures_and_stops_are_told_apart():
    assert event("RUNNING")["eventType"] == "START"
    assert event("RUNNING", count=2)["eventType"] == "RUNNING"
    assert event("CANCELLED")["eventType"] == "ABORT"
    assert event("SCHEDULED")["eventType"] == "OTHER"
    failed = event("FAILED", message="no encoder")
    check(failed)
    assert failed["outputs"] == []
    assert failed["run"]["facets"]["errorMessage"]["message"] == "no encoder"


def test_events_go_to_a_server_at_the_usual_path_or_the_one_given(receiver):
    found = event("RUNNING")
    send(OpenLineageSettings(url=receiver.url), found)
    send(OpenLineageSettings(url=f"{receiver.url}/own/path"), found)
    assert [path for path, _ in receiver.received] == ["/api/v1/lineage", "/own/path"]
    assert receiver.received[0][1] == found


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_events_go_to_a_file_one_a_line(tmp_path, scheme):
    path = tmp_path / "a b" / "lineage.jsonl"
    url = path.as_uri() if scheme else str(path)
    for kind in ("RUNNING", "COMPLETED"):
        send(OpenLineageSettings(url=url), event(kind))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["eventType"] for line in lines] == ["START", "COMPLETE"]


def test_nothing_is_told_unless_asked_for_and_a_deaf_server_only_warns(receiver, monkeypatch):
    warnings = []
    logger = SimpleNamespace(warning=lambda *args: warnings.append(args))
    monkeypatch.setattr(open_lineage, "get_run_logger", lambda: logger)
    tell_run(FLOW, run_of({}), state("RUNNING"))
    assert receiver.received == []
    monkeypatch.setenv("BRICKYARD_OPENLINEAGE_URL", receiver.url)
    tell_run(FLOW, run_of({}), state("RUNNING"))
    assert len(receiver.received) == 1
    receiver.handler.status = 500
    tell_run(FLOW, run_of({}), state("COMPLETED"))
    monkeypatch.setenv("BRICKYARD_OPENLINEAGE_URL", "http://127.0.0.1:9")
    tell_run(FLOW, run_of({}), state("COMPLETED"))
    assert len(warnings) == 2
