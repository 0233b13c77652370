"""Every MLflow call: experiments, runs, the model registry, its aliases and tags.

Nothing else imports MLflow, and nothing here decides anything: `set_alias` and `remove_alias` are
for `tasks.promotion` alone. Clients are made for one tracking URI; no global MLflow state is set.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from prefect.runtime import flow_run
from pydantic import BaseModel

from tasks import provenance
from tasks.errors import TaskError
from tasks.provenance import DIGEST_TAG, RunRecord, VersionRecord
from tasks.references import ModelRef
from tasks.settings import Settings

code_version = provenance.code_version  # what a run is tagged with, from the same home
flat_params = provenance.flat_params

CHAMPION = "champion"
PREVIOUS_CHAMPION = "previous_champion"
CHALLENGER = "challenger"

FLOW_RUN_TAG = "prefect.flow_run_id"
PARAMS_PER_CALL = 100  # MLflow's limit of parameters in one batch
TEXT_LIMIT = 5000  # MLflow refuses longer tags (8000) and parameters (6000)


class UnknownModel(TaskError, LookupError):
    """A registered model has no such version."""


class Run:
    """A run that is being tracked; made by `start_run`."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Track metrics at a step, such as the epoch."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Track parameters; each may be set only once, a second value is an error."""
        found = [Param(name, value) for name, value in _shortened(params).items()]
        for start in range(0, len(found), PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=found[start : start + PARAMS_PER_CALL])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        for name, value in _shortened(tags).items():
            self._client.set_tag(self.run_id, name, value)

    def log_dataset(self, name: str, digest: str, *, source: str, context: str) -> None:
        """Track a data set by its digest; `context` is its role, such as "training"."""
        data = Dataset(name, digest[:36], "brickyard", json.dumps({"uri": source}))
        role = InputTag("mlflow.data.context", context)
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(data, [role])])
        self.set_tags({f"dataset.{context}.digest": digest})

    def log_json(self, name: str, obj: Any) -> None:
        """Keep an object as the JSON artifact `name`; references are accepted as they are."""
        content = obj.model_dump(mode="json") if isinstance(obj, BaseModel) else obj
        self.log_text(name, json.dumps(content, indent=2))

    def log_text(self, name: str, text: str) -> None:
        """Keep a text as the artifact `name`."""
        self._client.log_text(self.run_id, text, name)

    def log_artifacts(self, directory: Path, name: str = "") -> None:
        """Keep the files of a folder as artifacts under `name`."""
        self._client.log_artifacts(self.run_id, str(directory), name or None)


@contextmanager
def start_run(
    settings: Settings,
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Track what happens inside the block as one run.

    The run ends as FINISHED, as FAILED when an exception leaves the block, and as KILLED when it
    is interrupted. The Prefect flow run around it, if there is one, becomes a tag.
    """
    client = _client(settings)
    all_tags = _shortened(tags)
    if flow_run.id:
        all_tags[FLOW_RUN_TAG] = str(flow_run.id)
    experiment_id = _experiment_id(client, settings, experiment)
    made = client.create_run(experiment_id, run_name=run_name, tags=all_tags)
    run = Run(client, made.info.run_id)
    status = "KILLED"
    try:
        run.log_params(params or {})
        yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        client.set_terminated(run.run_id, status)


def open_run(settings: Settings, run_id: str) -> Run:
    """Return an existing run to add artifacts or tags to; its status stays."""
    return Run(_client(settings), run_id)


def read_run(settings: Settings, run_id: str) -> RunRecord:
    """Return what was tracked of a run."""
    return RunRecord.of(_client(settings).get_run(run_id))


def find_runs(
    settings: Settings, experiment: str, tags: Mapping[str, str] | None = None
) -> list[RunRecord]:
    """Return the runs of an experiment that carry all `tags`, newest first."""
    client = _client(settings)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in (tags or {}).items())
    search = partial(client.search_runs, [found.experiment_id], query, order_by=["start_time DESC"])
    return [RunRecord.of(run) for run in _all_pages(search)]


def read_artifact(settings: Settings, run_id: str, name: str) -> str:
    """Return the text of an artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = _client(settings).download_artifacts(run_id, name, folder)
        return Path(path).read_text()


def register_candidate(
    settings: Settings,
    downstream: str,
    *,
    run_id: str,
    artifact: str,
    digest: str,
    tags: Mapping[str, str] | None = None,
) -> ModelRef:
    """Register a folder of weights, kept as an artifact of a run, as a version of a model.

    Parameters
    ----------
    downstream : str
        Downstream task, which is the name of the registered model.
    run_id, artifact : str
        The run and the name that `Run.log_artifacts` gave the folder.
    digest : str
        Digest of weights and configuration; whoever loads the version checks it.

    Returns
    -------
    ModelRef
        The new version, or the existing one when this artifact is registered already.
    """
    client = _client(settings)
    source = f"runs:/{run_id}/{artifact}"
    try:
        client.create_registered_model(downstream)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for record in model_versions(settings, downstream):
        if record.source == source and record.model.digest == digest:
            return record.model
    all_tags = _shortened(tags) | {DIGEST_TAG: digest}
    made = client.create_model_version(downstream, source, run_id=run_id, tags=all_tags)
    return VersionRecord.of(made).model


def model_versions(settings: Settings, downstream: str) -> list[VersionRecord]:
    """Return all versions of a registered model, newest first; none when it does not exist."""
    client = _client(settings)
    search = partial(client.search_model_versions, f"name = '{downstream}'")
    # The search of SQL stores leaves the aliases out: read each version by itself.
    numbers = [str(found.version) for found in _all_pages(search)]
    records = [read_version(settings, downstream, number) for number in numbers]
    return sorted(records, key=lambda record: int(record.model.version), reverse=True)


def read_version(settings: Settings, downstream: str, number: str) -> VersionRecord:
    """Return one version of a registered model, or raise `UnknownModel`."""
    try:
        return VersionRecord.of(_client(settings).get_model_version(downstream, number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UnknownModel(
            f"no version {number} of {downstream!r} is registered in {settings.mlflow_uri}; "
            "`brickyard finetune` registers one"
        ) from error


def version_tags(settings: Settings, model: ModelRef) -> dict[str, str]:
    """Return the tags of a version."""
    return read_version(settings, model.downstream, model.version).tags


def tag_version(settings: Settings, model: ModelRef, tags: Mapping[str, str]) -> None:
    """Set tags of a version, replacing older values."""
    client = _client(settings)
    for name, value in _shortened(tags).items():
        client.set_model_version_tag(model.downstream, model.version, name, value)


def aliased(settings: Settings, downstream: str, alias: str) -> ModelRef | None:
    """Return the version that an alias points at, or None."""
    try:
        aliases = _client(settings).get_registered_model(downstream).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if alias not in aliases:
        return None
    return read_version(settings, downstream, str(aliases[alias])).model


def champion(settings: Settings, downstream: str) -> ModelRef | None:
    """Return the version in use for a downstream task, or None when none was approved yet."""
    return aliased(settings, downstream, CHAMPION)


def set_alias(settings: Settings, model: ModelRef, alias: str) -> None:
    """Point an alias at a version. Only `tasks.promotion` may call this (checked by a test)."""
    _client(settings).set_registered_model_alias(model.downstream, alias, model.version)


def remove_alias(settings: Settings, downstream: str, alias: str) -> None:
    """Take an alias away. Only `tasks.promotion` may call this (checked by a test)."""
    _client(settings).delete_registered_model_alias(downstream, alias)


def download_model(settings: Settings, model: ModelRef) -> Path:
    """Return a local folder with the weights and configuration of a version.

    It is copied once, to `<home>/models`. The caller compares the digest of what it loads with
    `model.digest`.
    """
    kept = settings.home.resolve() / "models" / f"{model.downstream}-{model.version}"
    folder = kept / model.digest[:16]
    if folder.is_dir():
        return folder
    source = read_version(settings, model.downstream, model.version).source
    run_id, _, artifact = source.removeprefix("runs:/").partition("/")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as partial_copy:
        copied = _client(settings).download_artifacts(run_id, artifact, partial_copy)
        if not folder.is_dir():
            os.replace(copied, folder)
    return folder


def _client(settings: Settings) -> MlflowClient:
    if not settings.tracking_uri:
        settings.home.resolve().mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def _experiment_id(client: MlflowClient, settings: Settings, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A tracking server chooses the place of artifacts; the embedded default keeps them in <home>.
    place = None if settings.tracking_uri else (settings.artifact_path / name).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def _shortened(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value)[:TEXT_LIMIT] for name, value in (values or {}).items()}
