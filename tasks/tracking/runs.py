"""Runs of MLflow: parameters, metrics, data, artifacts, what they cost and where they ran."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from prefect.runtime import flow_run
from pydantic import BaseModel

from tasks.provenance import RunRecord, environment
from tasks.settings import Settings
from tasks.tracking.client import all_pages, connect, shortened
from tasks.tracking.cost import watched
from tasks.tracking.inputs import FrozenDataset, SnapshotSource

FLOW_RUN_TAG = "prefect.flow_run_id"
FLOW_URL_TAG = "prefect.flow_run_url"
ENVIRONMENT_ARTIFACT = "environment.json"
PARAMS_PER_CALL = 100  # MLflow's limit of parameters in one batch


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
        found = [Param(name, value) for name, value in shortened(params).items()]
        for start in range(0, len(found), PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=found[start : start + PARAMS_PER_CALL])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        for name, value in shortened(tags).items():
            self._client.set_tag(self.run_id, name, value)

    def log_dataset(
        self,
        name: str,
        digest: str,
        *,
        source: Mapping[str, Any],
        context: str,
        profile: Mapping[str, Any] | None = None,
    ) -> None:
        """Track a data set as an input of the run.

        Parameters
        ----------
        digest : str
            The first 36 digits are MLflow's; the whole is the tag `dataset.<context>.digest`.
        source : mapping
            What fixes it: store, survey, snapshot, labels, split.
        context : str
            Its role, such as "training" or "test".
        profile : mapping, optional
            What it holds, such as objects by split.
        """
        data = FrozenDataset(SnapshotSource(source), name, digest, profile or {})
        role = InputTag("mlflow.data.context", context)
        found = DatasetInput(data._to_mlflow_entity(), [role])
        self._client.log_inputs(self.run_id, datasets=[found])
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
    is interrupted. The Prefect flow run around it, if there is one, becomes a tag; the versions of
    all packages an artifact; load and cost of this machine metrics.
    """
    client = connect(settings)
    all_tags = shortened(tags)
    if flow_run.id:
        all_tags[FLOW_RUN_TAG] = str(flow_run.id)
        all_tags[FLOW_URL_TAG] = str(flow_run.ui_url or "")
    experiment_id = _experiment_id(client, settings, experiment)
    made = client.create_run(experiment_id, run_name=run_name, tags=all_tags)
    run = Run(client, made.info.run_id)
    status = "KILLED"
    try:
        run.log_params(params or {})
        run.log_json(ENVIRONMENT_ARTIFACT, environment())
        with watched(run.run_id, settings.mlflow_uri, run.log_metrics):
            yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        client.set_terminated(run.run_id, status)


def open_run(settings: Settings, run_id: str) -> Run:
    """Return an existing run to add artifacts or tags to; its status stays."""
    return Run(connect(settings), run_id)


def read_run(settings: Settings, run_id: str) -> RunRecord:
    """Return what was tracked of a run."""
    return RunRecord.of(connect(settings).get_run(run_id))


def find_runs(
    settings: Settings, experiment: str, tags: Mapping[str, str] | None = None
) -> list[RunRecord]:
    """Return the runs of an experiment that carry all `tags`, newest first."""
    client = connect(settings)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in (tags or {}).items())
    search = partial(client.search_runs, [found.experiment_id], query, order_by=["start_time DESC"])
    return [RunRecord.of(run) for run in all_pages(search)]


def read_artifact(settings: Settings, run_id: str, name: str) -> str:
    """Return the text of an artifact of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = connect(settings).download_artifacts(run_id, name, folder)
        return Path(path).read_text()


def _experiment_id(client: MlflowClient, settings: Settings, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A tracking server chooses the place of artifacts; the embedded default keeps them in <home>.
    place = None if settings.tracking_uri else (settings.artifact_path / name).as_uri()
    return str(client.create_experiment(name, artifact_location=place))
