"""The model registry: versions, their tags, the aliases, the files.

Nothing here decides anything: `set_alias` and `remove_alias` are for `tasks.promotion` alone.
"""

import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from tasks.errors import TaskError
from tasks.models import model_folder
from tasks.provenance import DIGEST_TAG, VersionRecord
from tasks.references import ModelRef
from tasks.settings import Settings
from tasks.tracking.client import all_pages, connect, shortened

CHAMPION = "champion"
PREVIOUS_CHAMPION = "previous_champion"
CHALLENGER = "challenger"
VERSION_TAG = "model_version"  # of a run


class UnknownModel(TaskError, LookupError):
    """A registered model has no such version."""


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
    client = connect(settings)
    source = f"runs:/{run_id}/{artifact}"
    try:
        client.create_registered_model(downstream)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for record in model_versions(settings, downstream):
        if record.source == source and record.model.digest == digest:
            return record.model
    all_tags = shortened(tags) | {DIGEST_TAG: digest}
    made = client.create_model_version(downstream, source, run_id=run_id, tags=all_tags)
    client.set_tag(run_id, VERSION_TAG, f"{downstream} {made.version}")
    return VersionRecord.of(made).model


def registered_models(settings: Settings) -> list[str]:
    """Return the names of the registered models, which are those of downstream tasks."""
    return sorted(found.name for found in all_pages(connect(settings).search_registered_models))


def model_versions(settings: Settings, downstream: str) -> list[VersionRecord]:
    """Return all versions of a registered model, newest first; none when it does not exist."""
    client = connect(settings)
    search = partial(client.search_model_versions, f"name = '{downstream}'")
    # The search of SQL stores leaves the aliases out: read each version by itself.
    numbers = [str(found.version) for found in all_pages(search)]
    records = [read_version(settings, downstream, number) for number in numbers]
    return sorted(records, key=lambda record: int(record.model.version), reverse=True)


def read_version(settings: Settings, downstream: str, number: str) -> VersionRecord:
    """Return one version of a registered model, or raise `UnknownModel`."""
    try:
        return VersionRecord.of(connect(settings).get_model_version(downstream, number))
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
    """Set tags of a version and of the run that made it, replacing older values.

    The run has them too, unless somebody deleted it, so that a search of runs tells the whole
    story of a model.
    """
    client, values = connect(settings), shortened(tags)
    for name, value in values.items():
        client.set_model_version_tag(model.downstream, model.version, name, value)
    if _is_active(client, model.run_id):
        client.log_batch(model.run_id, tags=[RunTag(*item) for item in values.items()])


def aliased(settings: Settings, downstream: str, alias: str) -> ModelRef | None:
    """Return the version that an alias points at, or None."""
    try:
        aliases = connect(settings).get_registered_model(downstream).aliases
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
    connect(settings).set_registered_model_alias(model.downstream, alias, model.version)


def remove_alias(settings: Settings, downstream: str, alias: str) -> None:
    """Take an alias away. Only `tasks.promotion` may call this (checked by a test)."""
    connect(settings).delete_registered_model_alias(downstream, alias)


def download_model(settings: Settings, model: ModelRef) -> Path:
    """Return a local folder with the weights and configuration of a version.

    It is copied once, to `<home>/models`. The caller compares the digest of what it loads with
    `model.digest`.
    """
    folder = model_folder(settings, model)
    if folder.is_dir():
        return folder
    kept = folder.parent
    source = read_version(settings, model.downstream, model.version).source
    run_id, _, artifact = source.removeprefix("runs:/").partition("/")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as partial_copy:
        copied = connect(settings).download_artifacts(run_id, artifact, partial_copy)
        if not folder.is_dir():
            os.replace(copied, folder)
    return folder


def _is_active(client: MlflowClient, run_id: str) -> bool:
    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
