"""Where a model came from, as plain records: code version, flat parameters, runs and versions.

`tasks.tracking` makes the records out of MLflow's entities; MLflow itself is not imported here.
"""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from tasks.references import ModelRef, Reference

DIGEST_TAG = "digest"
GIT_SECONDS = 10


class VersionRecord(Reference):
    """What the registry knows of one version of a registered model."""

    model: ModelRef
    source: str
    created_ms: int
    tags: dict[str, str] = Field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Any) -> "VersionRecord":
        """Return the record of an MLflow `ModelVersion`."""
        tags = dict(found.tags)
        model = ModelRef(
            downstream=found.name,
            version=str(found.version),
            run_id=found.run_id or "",
            digest=tags.get(DIGEST_TAG, ""),
        )
        return cls(
            model=model,
            source=found.source,
            created_ms=found.creation_timestamp,
            tags=tags,
            aliases=tuple(found.aliases),
        )


class RunRecord(Reference):
    """What was tracked of one run; of a metric, the last value."""

    run_id: str
    name: str
    status: str
    started_ms: int = 0
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]

    @classmethod
    def of(cls, found: Any) -> "RunRecord":
        """Return the record of an MLflow `Run`."""
        return cls(
            run_id=found.info.run_id,
            name=found.info.run_name or "",
            status=found.info.status,
            started_ms=found.info.start_time or 0,
            params=found.data.params,
            metrics=found.data.metrics,
            tags=found.data.tags,
        )


def code_version() -> str:
    """Return the git commit of this checkout, with `+dirty` when files differ from it.

    Where the package does not run from a checkout of its own, `brickyard <version>` is returned.
    """
    folder = Path(__file__).resolve().parent
    # A virtual environment inside somebody else's checkout must not lend us its commit.
    own = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    commit = _git(folder, "rev-parse", "HEAD")
    if own is None or commit is None:
        return f"brickyard {_package_version()}"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if changed else commit


@cache
def environment() -> dict[str, Any]:
    """Return what the code runs on: Python, system, cores, and the version of every package."""
    packages = {item.metadata["Name"]: item.version for item in distributions()}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "code_version": code_version(),
        "packages": dict(sorted(packages.items())),
    }


def flat_params(config: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested config as one level of text: `{"train.epochs": "20", ...}`.

    Parameters
    ----------
    config : dataclass, pydantic model or mapping
        May hold others of them; sequences become comma-separated text.
    prefix : str
        Put before every name.
    """
    flat: dict[str, str] = {}
    for name, value in _items(config):
        key = f"{prefix}{name}"
        if dataclasses.is_dataclass(value) or isinstance(value, BaseModel | Mapping):
            flat |= flat_params(value, f"{key}.")
        elif isinstance(value, list | tuple | set | frozenset):
            flat[key] = ",".join(str(item) for item in value)
        else:
            flat[key] = str(value)
    return flat


def _items(config: Any) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(config):
        return [(item.name, getattr(config, item.name)) for item in dataclasses.fields(config)]
    if isinstance(config, BaseModel):
        return [(name, getattr(config, name)) for name in type(config).model_fields]
    if isinstance(config, Mapping):
        return [(str(name), value) for name, value in config.items()]
    raise TypeError(f"a config is a dataclass, a pydantic model or a mapping, not {type(config)}")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _package_version() -> str:
    try:
        return version("brickyard")
    except PackageNotFoundError:
        return "of unknown version"
