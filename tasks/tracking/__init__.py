"""Every MLflow call: experiments, runs, the model registry, its aliases and tags.

Nothing outside this package imports MLflow, and nothing in it decides anything. Clients are made
for one tracking URI; no global MLflow state is set.
"""

from tasks.provenance import code_version, flat_params
from tasks.tracking.client import TEXT_LIMIT
from tasks.tracking.interface import write_interface
from tasks.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS_CHAMPION,
    UnknownModel,
    aliased,
    champion,
    download_model,
    model_versions,
    read_version,
    register_candidate,
    registered_models,
    remove_alias,
    set_alias,
    tag_version,
    version_tags,
)
from tasks.tracking.runs import (
    FLOW_RUN_TAG,
    Run,
    find_runs,
    open_run,
    read_artifact,
    read_run,
    start_run,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "FLOW_RUN_TAG",
    "PREVIOUS_CHAMPION",
    "TEXT_LIMIT",
    "Run",
    "UnknownModel",
    "aliased",
    "champion",
    "code_version",
    "download_model",
    "find_runs",
    "flat_params",
    "model_versions",
    "open_run",
    "read_artifact",
    "read_run",
    "read_version",
    "register_candidate",
    "registered_models",
    "remove_alias",
    "set_alias",
    "start_run",
    "tag_version",
    "version_tags",
    "write_interface",
]
