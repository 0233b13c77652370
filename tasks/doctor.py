"""What is wrong with an installation, or will be: each finding says what to do about it."""

import importlib.metadata
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import httpx
import torch
from icechunk import IcechunkError
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from storage.errors import StorageError
from storage.object_storage import is_object_storage
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    snapshot_id,
)
from storage.survey_group import list_surveys, read_layout
from tasks.audit import audited_tasks
from tasks.champions import disagreements
from tasks.lost_runs import lost_runs
from tasks.machine import existing_parent, free_memory
from tasks.references import Reference
from tasks.settings import Settings

Level = Literal["ok", "note", "wrong"]
SHOWN_VERSIONS = ("prefect", "mlflow", "torch", "timm", "zarr", "icechunk", "dask", "astropy")
LOW_DISK = 20 * 2**30  # bytes: some 50 full-size bricks
NO_DISK = 2 * 2**30
LOW_MEMORY = 4 * 2**30  # a worker holds the coadds of a brick, 0.5 GiB, and the network


class Finding(Reference):
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a run of this installation depends on, and change nothing."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _versions,
        _disk,
        _memory,
        _device,
        _databases,
        _stores,
        _aliases,
        _runs,
    )
    return [finding for check in checks for finding in check(settings)]


def _versions(_settings: Settings) -> Iterator[Finding]:
    found = [f"{name} {importlib.metadata.version(name)}" for name in SHOWN_VERSIONS]
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(level="ok", what="versions", found=f"Python {python}, " + ", ".join(found))
    fastapi = importlib.metadata.version("fastapi")
    if tuple(map(int, fastapi.split(".")[:2])) > (0, 150):
        yield Finding(
            level="wrong",
            what="versions",
            found=f"fastapi {fastapi}",
            advice="Prefect's server does not start with it: pip install 'fastapi<=0.150.0'",
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    places = {"disk of the home folder": settings.home, "disk of staging": settings.staging_path}
    if not is_object_storage(settings.store_path):
        places["disk of the store"] = Path(settings.store_path)
    for what, place in places.items():
        there = existing_parent(place)
        free = shutil.disk_usage(there).free
        level: Level = "ok" if free > LOW_DISK else "note" if free > NO_DISK else "wrong"
        yield Finding(
            level=level,
            what=what,
            found=f"{free / 2**30:.1f} GiB free on {there}",
            advice=""
            if level == "ok"
            else "`brickyard plan` says what an ingest needs; "
            "`brickyard tidy` clears what broken runs left",
        )
        if not os.access(there, os.W_OK):
            yield Finding(
                level="wrong",
                what=what,
                found=f"{there} cannot be written",
                advice="correct its permissions, or set BRICKYARD_HOME or BRICKYARD_STORE",
            )


def _memory(_settings: Settings) -> Iterator[Finding]:
    free = free_memory()
    low = free < LOW_MEMORY
    yield Finding(
        level="note" if low else "ok",
        what="memory",
        found=f"{free / 2**30:.1f} GiB available",
        advice="set BRICKYARD_WORKERS=1" if low else "",
    )


def _device(_settings: Settings) -> Iterator[Finding]:
    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    yield Finding(
        level="ok",
        what="devices",
        found=f"{count} CUDA: {names}" if count else f"no GPU; {os.cpu_count()} processor cores",
    )


def _databases(settings: Settings) -> Iterator[Finding]:
    places = {"label ledger": settings.labels_path}
    if not settings.tracking_uri:
        places["MLflow database"] = settings.home.resolve() / "mlflow.db"
    for what, path in places.items():
        if not path.is_file():
            yield Finding(level="ok", what=what, found="not there yet")
            continue
        try:
            with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as database:
                (answer,) = database.execute("PRAGMA quick_check").fetchone()
        except sqlite3.DatabaseError as error:
            answer = str(error)
        good = answer == "ok"
        yield Finding(
            level="ok" if good else "wrong",
            what=what,
            found=f"{path}: {answer}",
            advice="" if good else "put back a backup of it; what was written since is lost",
        )


def _stores(settings: Settings) -> Iterator[Finding]:
    for name in (SURVEY_REPOSITORY, EMBEDDING_REPOSITORY):
        path = repository_place(settings.store_path, name)
        try:
            yield _store(path, name)
        except (StorageError, IcechunkError, OSError, ValueError) as error:
            yield Finding(
                level="wrong",
                what=f"store, {name}",
                found=str(error),
                advice=f"older snapshots may still be read: see `brickyard snapshots`; {path}",
            )


def _aliases(settings: Settings) -> Iterator[Finding]:
    if not settings.tracking_uri and not (settings.home.resolve() / "mlflow.db").is_file():
        return
    found = disagreements(settings, audited_tasks(settings))
    for item in found:
        yield Finding(
            level="wrong",
            what="model registry",
            found=item.sentence,
            advice="`brickyard audit --put-back` puts it where the decisions say",
        )
    if not found:
        yield Finding(level="ok", what="model registry", found="as decided")


def _runs(_settings: Settings) -> Iterator[Finding]:
    if not PREFECT_API_URL.value():
        return
    try:
        found = lost_runs()
    except (httpx.HTTPError, PrefectException, OSError) as error:
        yield Finding(
            level="note",
            what="flow runs",
            found=f"the Prefect server does not answer: {error}",
            advice="`brickyard up` starts one; correct PREFECT_API_URL where it is elsewhere",
        )
        return
    for run in found:
        yield Finding(
            level="wrong",
            what="flow runs",
            found=f"{run.name} counts as running, but its process {run.process} is gone",
            advice="its deployment starts no other meanwhile. 3 minutes after its last sign of "
            f"life it counts as crashed; if not: prefect flow-run delete {run.id}",
        )
    if not found:
        yield Finding(level="ok", what="flow runs", found="every one that runs has its process")


def _store(path: str, name: str) -> Finding:
    if not repository_exists(path):
        return Finding(level="ok", what=f"store, {name}", found="not there yet")
    repository = open_repository(path)
    session = read_session(repository)
    if name == SURVEY_REPOSITORY:
        surveys = list_surveys(session)
        for survey in surveys:
            read_layout(session, survey)  # raises on a schema that this version cannot read
        held = ", ".join(surveys) or "no survey yet"
    else:
        held = "readable"
    return Finding(
        level="ok", what=f"store, {name}", found=f"{held}; snapshot {snapshot_id(repository)}"
    )
