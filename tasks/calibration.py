"""A short calibration: sample bricks are read and written for real, into a store that is removed.

It runs in a process of its own, which imports what a worker imports and does what a worker does, so
that its peak memory is a worker's. Nothing of it stays.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from storage.brick_overlap import needed_neighbours
from storage.brick_rows import allocate
from storage.brick_store import create_survey, write_cutouts
from storage.bricks import brick_from_name
from storage.budget import BrickCost, CatalogueCount, Measurements
from storage.errors import IncompleteBrick, StorageError
from storage.fetch import FetchConfig
from storage.ingest_config import IngestConfig
from storage.legacysurvey import BrickFiles, locate_brick_files
from storage.object_storage import is_object_storage
from storage.repository import fork, merge, open_repository, transaction
from storage.selection import select
from storage.tractor import read_tractor
from tasks.brick_sources import BrickSource, RemoteBrickSource, open_bricks
from tasks.brick_worker import survey_unit
from tasks.errors import TaskError
from tasks.ingest_request import IngestRequest
from tasks.machine import existing_parent, peak_memory
from tasks.settings import Settings

T = TypeVar("T")


class CalibrationFailed(TaskError):
    """No sample brick could be read and written."""


@dataclass(frozen=True)
class CalibrationJob:
    """Which bricks are measured, and how.

    ``candidates`` gives, for every brick of the sample in the order of trying, its objects by the
    bricks table. The catalogues of all are read; ``bricks`` of them are read and written.
    """

    settings: Settings
    source: str
    survey: tuple[str, str]
    config: IngestConfig
    candidates: Mapping[str, float]
    bricks: int
    fetch: FetchConfig | None = None


def calibrate(job: CalibrationJob) -> Measurements:
    """Measure sample bricks in a new process.

    Raises
    ------
    CalibrationFailed
        If no sample brick can be read, or the process was ended for its memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, job).result()
        except BrokenProcessPool as error:
            raise CalibrationFailed(
                "the process that read a sample brick was ended from outside, most likely because "
                "memory ran out: end other programs, or use a machine with more memory"
            ) from error


def measure(job: CalibrationJob) -> Measurements:
    """Measure sample bricks in this process; see `calibrate`."""
    place = job.settings.store_path  # measure on its disk; object storage is not tried
    nearby = None if is_object_storage(place) else existing_parent(place)
    with tempfile.TemporaryDirectory(prefix="brickyard-plan-", dir=nearby) as scratch:
        settings = job.settings.model_copy(
            update={"store": f"{scratch}/store", "staging": Path(scratch) / "staging"}
        )
        source = open_bricks(settings, job.source, job.survey, job.config, job.fetch)
        failures: dict[str, str] = {}
        counts, sizes = _read_catalogues(source, job, failures)
        costs = _read_bricks(source, settings, job, counts, failures)
    if job.bricks and not costs:
        reasons = "; ".join(f"{name}: {why}" for name, why in failures.items()) or "no object"
        raise CalibrationFailed(
            f"no sample brick of {job.source} gives cutouts ({reasons}). Correct the source or the "
            "selection, or plan without measuring (--calibrate 0)"
        )
    return Measurements(
        catalogues=tuple(counts.values()),
        costs=tuple(costs),
        file_bytes=sizes,
        neighbours={name: _neighbours(name, job.config) for name in sizes},
        peak_bytes=peak_memory(),
        failures=failures,
    )


def _read_catalogues(
    source: BrickSource | RemoteBrickSource, job: CalibrationJob, failures: dict[str, str]
) -> tuple[dict[str, CatalogueCount], dict[str, int]]:
    """Count selected objects in the catalogues of the sample, and the bytes of its files."""
    counts: dict[str, CatalogueCount] = {}
    sizes: dict[str, int] = {}
    for name, candidates in job.candidates.items():
        try:
            files, sizes[name] = _look_at(source, name, job)
            if files.tractor is None:
                if not job.config.detect_missing_catalogue:
                    raise IncompleteBrick("no tractor catalogue")
                continue
            table = read_tractor(files.tractor, brick_from_name(name), job.config.bands).table
            selected = len(select(table, job.config.selection).table)
            counts[name] = CatalogueCount(name, candidates, selected)
        except StorageError as error:
            sizes.pop(name, None)
            failures[name] = f"{type(error).__name__}: {error}"
    return counts, sizes


def _look_at(
    source: BrickSource | RemoteBrickSource, name: str, job: CalibrationJob
) -> tuple[BrickFiles, int]:
    """Return the catalogue of a brick, staged if need be, and the bytes of all its files."""
    bands = job.config.bands
    if isinstance(source, RemoteBrickSource):
        size = source.tree.describe(name, bands).size
        source.tree.fetch(name, bands, Path(source.staging), ("tractor",))
        return locate_brick_files(source.staging, name, bands, source.tree.region), size
    files = locate_brick_files(source.root, name, bands, source.region)
    return files, sum(path.stat().st_size for path in files.data_files())


def _read_bricks(
    source: BrickSource | RemoteBrickSource,
    settings: Settings,
    job: CalibrationJob,
    counts: Mapping[str, CatalogueCount],
    failures: dict[str, str],
) -> list[BrickCost]:
    """Read and write bricks, the most ordinary of the sample first, until enough were measured."""
    survey = "/".join(job.survey)
    request = IngestRequest(store=settings.store_path, survey=survey, source=source, log="")
    costs: list[BrickCost] = []
    for name in _ordinary_first(job, counts, failures):
        if len(costs) == job.bricks:
            break
        try:
            cost = _read_brick(request, name, job)
        except StorageError as error:
            failures[name] = f"{type(error).__name__}: {error}"
            continue
        if cost is not None:
            costs.append(cost)
    return costs


def _neighbours(name: str, config: IngestConfig) -> int:
    """Return how many neighbours the cutouts of a brick may take pixels from."""
    if config.cutout.edge != "stitch":
        return 0
    brick, primary_only = brick_from_name(name), config.selection.primary_only
    return len(needed_neighbours(brick, config.cutout.size, primary_only))


def _ordinary_first(
    job: CalibrationJob, counts: Mapping[str, CatalogueCount], failures: Mapping[str, str]
) -> list[str]:
    """Return the sample's bricks that may be read, nearest to the mean number of objects first."""
    names = [name for name in job.candidates if name not in failures]
    selected = {name: counts[name].selected for name in names if name in counts}
    mean = sum(selected.values()) / len(selected) if selected else 0.0
    return sorted(names, key=lambda name: abs(selected.get(name, mean) - mean))


def _read_brick(request: IngestRequest, name: str, job: CalibrationJob) -> BrickCost | None:
    """Take one brick all the way into the store; None where nothing of it is selected."""
    source = request.source
    fetching = 0.0
    if isinstance(source, RemoteBrickSource):
        staging, bands = Path(source.staging), job.config.bands
        fetching, _ = _timed(lambda: source.tree.fetch(name, bands, staging))
    planning, plan = _timed(lambda: survey_unit(request, name))
    if plan.status == "failed":
        raise IncompleteBrick(plan.reason)
    if plan.status == "empty":
        return None
    reading, found = _timed(lambda: source.read(name))
    before = _chunk_bytes(request.repository)
    repository = open_repository(request.repository, create=True)
    number = int(found.dataset.sizes["object"])
    with transaction(repository, f"rows for {name}") as session:
        create_survey(session, request.survey, source.layout())
        rows = allocate(session, request.survey, {name: number})[name]
    started = time.perf_counter()
    with transaction(repository, f"cutouts of {name}") as session:
        forked = fork(session)
        writing, _ = _timed(lambda: write_cutouts(forked, request.survey, rows, found.dataset))
        merge(session, [forked])
    committing = time.perf_counter() - started - writing
    source.forget([name])
    return BrickCost(
        brickname=name,
        objects=number,
        fetch_seconds=fetching,
        plan_seconds=planning,
        read_seconds=reading,
        write_seconds=writing,
        commit_seconds=committing,
        store_bytes=_chunk_bytes(request.repository) - before,
    )


def _chunk_bytes(repository: str) -> int:
    return sum(
        path.stat().st_size for path in Path(repository, "chunks").rglob("*") if path.is_file()
    )


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result
