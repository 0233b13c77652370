"""Tell an OpenLineage server, or a file, what every flow run reads and makes. Off unless asked for.

Set `BRICKYARD_OPENLINEAGE_URL` to an address (`http://host:5000`, as Marquez and DataHub listen) or
to a file (`file:///data/lineage.jsonl`, one event a line). A flow tells by its hooks:
`@flow(name=..., **HOOKS)`. Events follow the specification 2-0-2. Inputs and outputs are the
references among the parameters and in the result of a flow; nothing depends on being heard, so a
server that does not answer costs a warning.
"""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from prefect.logging import get_run_logger
from prefect.results import ResultRecord
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.object_storage import is_object_storage
from storage.repository import EMBEDDING_REPOSITORY, SURVEY_REPOSITORY
from tasks.references import (
    CatalogueRef,
    EmbeddingsRef,
    EncoderRef,
    Evaluation,
    ModelRef,
    Receipt,
    Reference,
    SnapshotRef,
)
from tasks.settings import load_settings

SPECIFICATION = "https://openlineage.io/spec"
RUN_EVENT = f"{SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent"
ENDPOINT = "/api/v1/lineage"  # where servers take events, unless the address names a path
_FACETS = {
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-3/JobTypeJobFacet",
}
#: What is looked for in parameters and results; a name that is part of another comes later.
_REFERENCES = (CatalogueRef, EmbeddingsRef, Evaluation, ModelRef, EncoderRef, SnapshotRef, Receipt)
_EVENT_TYPES = {
    "RUNNING": "START",
    "COMPLETED": "COMPLETE",
    "FAILED": "FAIL",
    "CRASHED": "FAIL",
    "CANCELLING": "ABORT",
    "CANCELLED": "ABORT",
}

Dataset = dict[str, Any]


class OpenLineageSettings(BaseSettings):
    """Where events go, from the environment: `BRICKYARD_OPENLINEAGE_URL` and so on.

    `url` is an address or a file; empty: nothing is told. `namespace` names this installation.
    """

    model_config = SettingsConfigDict(env_prefix="BRICKYARD_OPENLINEAGE_", frozen=True)

    url: str = ""
    namespace: str = "brickyard"
    timeout: float = 5.0


def tell_run(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell that a flow run started, ended, failed or was stopped; a hook of Prefect."""
    settings = OpenLineageSettings()
    if not settings.url:
        return
    event = run_event(settings, flow, flow_run, state)
    try:
        send(settings, event)
    except OSError as error:
        get_run_logger().warning("OpenLineage at %s did not take it: %s", settings.url, error)


#: For `@flow(..., **HOOKS)`.
HOOKS: dict[str, Any] = {
    name: [tell_run]
    for name in ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")
}


def run_event(settings: OpenLineageSettings, flow: Any, flow_run: Any, state: Any) -> Dataset:
    """Return the event of a state of a flow run, as the specification has it."""
    kind = state.type.value
    what = _EVENT_TYPES.get(kind, "OTHER")
    if what == "START" and (flow_run.run_count or 0) > 1:
        what = "RUNNING"  # it was suspended, or retries
    parameters = dict(flow_run.parameters or {})
    result = state.data.result if isinstance(state.data, ResultRecord) else None
    outputs = list(_unique(_made(settings, result))) if what == "COMPLETE" else []
    made = {(item["namespace"], item["name"]) for item in outputs}
    read = [*_named(parameters), *_read(settings, parameters), *_made_from(settings, result)]
    facets: dict[str, Any] = {}
    if what == "FAIL":
        error = {"message": state.message or kind, "programmingLanguage": "PYTHON"}
        facets["errorMessage"] = _facet("errorMessage", error)
    job_type = {"processingType": "BATCH", "integration": "PREFECT", "jobType": "FLOW"}
    return {
        "eventType": what,
        "eventTime": datetime.now(UTC).isoformat(),
        "producer": _producer(),
        "schemaURL": RUN_EVENT,
        "run": {"runId": str(flow_run.id), "facets": facets},
        "job": {
            "namespace": settings.namespace,
            "name": flow.name,
            "facets": {"jobType": _facet("jobType", job_type)},
        },
        "inputs": [item for item in _unique(read) if (item["namespace"], item["name"]) not in made],
        "outputs": outputs,
    }


def send(settings: OpenLineageSettings, event: Mapping[str, Any]) -> None:
    """Send an event to the server, or append it to the file, of the settings.

    Raises
    ------
    OSError
        If the server does not take it or the file cannot be written.
    """
    place, text = urlsplit(settings.url), json.dumps(event)
    if place.scheme in ("http", "https"):
        path = place.path.rstrip("/") or ENDPOINT
        headers = {"content-type": "application/json"}
        address = place._replace(path=path).geturl()
        request = Request(address, data=text.encode(), headers=headers, method="POST")
        try:
            urlopen(request, timeout=settings.timeout).close()
        except HTTPError as error:
            error.close()
            raise
        return
    path = unquote(place.path) if place.scheme == "file" else settings.url
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # One write at the end of the file: lines of several processes do not mix.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


def _references(value: Any) -> Iterator[Reference]:
    """Yield the references in a value; those inside of a reference belong to it."""
    if isinstance(value, _REFERENCES):
        yield value
    elif isinstance(value, Mapping):
        found = _parsed(value)
        inner = [found] if found else [ref for item in value.values() for ref in _references(item)]
        yield from inner
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)
    elif isinstance(value, Reference):  # another one, such as the result of a cycle
        for name in type(value).model_fields:
            yield from _references(getattr(value, name))


def _parsed(value: Mapping[str, Any]) -> Reference | None:
    """Return the reference that a JSON document is: parameters of deployed runs are such."""
    for reference in _REFERENCES:
        try:
            return reference.model_validate(dict(value))
        except ValidationError:
            continue
    return None


def _made(settings: OpenLineageSettings, result: Any) -> Iterator[Dataset]:
    for found in _references(result):
        yield _dataset(settings, found)


def _read(settings: OpenLineageSettings, parameters: Mapping[str, Any]) -> Iterator[Dataset]:
    for found in _references(dict(parameters)):
        yield _dataset(settings, found)


def _made_from(settings: OpenLineageSettings, result: Any) -> Iterator[Dataset]:
    """Yield what the references of a result say that they were made from."""
    for found in _references(result):
        if isinstance(found, CatalogueRef):
            yield _dataset(settings, found.model)
        if isinstance(found, CatalogueRef | Evaluation):
            yield _dataset(settings, found.snapshot)
        if isinstance(found, EmbeddingsRef):
            yield _dataset(settings, EncoderRef(path="", digest=found.encoder_digest))
            snapshot = found.survey_snapshot_id
            source = SnapshotRef(store=found.store, survey=found.survey, snapshot_id=snapshot)
            yield _dataset(settings, source)


def _named(parameters: Mapping[str, Any]) -> Iterator[Dataset]:
    """Yield the survey that a flow reads and the source of an ingest, which are plain names."""
    survey, snapshot = parameters.get("survey"), parameters.get("snapshot_id")
    if isinstance(survey, str) and survey:
        name = f"{SURVEY_REPOSITORY}/{survey}"
        yield _entry(_uri(load_settings().store_path), name, str(snapshot or ""))
    source = parameters.get("source") or parameters.get("folder")
    if isinstance(source, str) and source:
        names = [parameters.get(name) for name in ("release", "region")]
        name = "/".join(str(part) for part in names if part) or "files"
        yield _entry(_uri(source), name, "")


def _dataset(settings: OpenLineageSettings, found: Any) -> Dataset:
    """Return a reference as a data set: where it is, its name, its version, its rows."""
    own = settings.namespace
    match found:
        case SnapshotRef():
            name = f"{SURVEY_REPOSITORY}/{found.survey}"
            entry = _entry(_uri(found.store), name, found.snapshot_id)
        case EmbeddingsRef():
            name = f"{EMBEDDING_REPOSITORY}/{found.encoder_digest[:16]}/{found.survey}"
            entry = _entry(_uri(found.store), name, found.snapshot_id)
        case Receipt():
            place, name = _uri(load_settings().store_path), f"{SURVEY_REPOSITORY}/{found.survey}"
            entry = _entry(place, name, found.snapshot_id, rows=found.objects)
        case CatalogueRef():
            entry = _entry("file", found.path, found.digest, rows=found.rows)
        case EncoderRef():
            entry = _entry(own, f"encoder/{found.digest[:16]}", found.digest)
        case _:
            model = found.model if isinstance(found, Evaluation) else found
            entry = _entry(own, f"model/{model.downstream}", model.version)
    return entry


def _entry(namespace: str, name: str, version_id: str, rows: int | None = None) -> Dataset:
    entry: Dataset = {"namespace": namespace, "name": name, "facets": {}}
    if version_id:
        entry["facets"]["version"] = _facet("version", {"datasetVersion": version_id})
    if rows is not None:
        entry["outputFacets"] = {"outputStatistics": _facet("outputStatistics", {"rowCount": rows})}
    return entry


def _unique(entries: Any) -> Iterator[Dataset]:
    """Yield each data set once, the one that says its version first."""
    best: dict[tuple[str, str], Dataset] = {}
    for entry in entries:
        key = (entry["namespace"], entry["name"])
        if key not in best or (entry["facets"] and not best[key]["facets"]):
            best[key] = entry
    yield from best.values()


def _facet(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    schema = _FACETS[name]
    definition = schema.partition("/")[2]
    url = f"{SPECIFICATION}/facets/{schema}.json#/$defs/{definition}"
    return {"_producer": _producer(), "_schemaURL": url, **values}


def _uri(place: str) -> str:
    """Return a place as a namespace: URLs stay, folders become `file://` ones."""
    if is_object_storage(place) or "://" in place:
        return place.rstrip("/")
    return Path(place).resolve().as_uri()


def _producer() -> str:
    return f"urn:brickyard:{version('brickyard')}"
